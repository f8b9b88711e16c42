"""What a network costs and how it works inside."""

from keras_resnet.analysis.counting import Count, count
from keras_resnet.analysis.gradient_flow import (
    BlockGradient,
    GradientFlow,
    GradientProbe,
    gradient_flow,
)

__all__ = ["BlockGradient", "Count", "GradientFlow", "GradientProbe", "count", "gradient_flow"]
