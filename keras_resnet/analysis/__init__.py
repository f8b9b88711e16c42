"""What a network costs and how it works inside."""

from keras_resnet.analysis.counting import Count, count
from keras_resnet.analysis.gradient_flow import (
    BlockGradient,
    GradientFlow,
    GradientProbe,
    gradient_flow,
)
from keras_resnet.analysis.lesion import (
    LesionProbe,
    Pruning,
    PruningPoint,
    Score,
    prune_blocks,
    without_blocks,
)

__all__ = [
    "BlockGradient",
    "Count",
    "GradientFlow",
    "GradientProbe",
    "LesionProbe",
    "Pruning",
    "PruningPoint",
    "Score",
    "count",
    "gradient_flow",
    "prune_blocks",
    "without_blocks",
]
