"""The layers of the residual family."""

from keras_resnet.layers.bottleneck_block import BottleneckBlock
from keras_resnet.layers.dropout import Dropout
from keras_resnet.layers.residual_block import ResidualBlock
from keras_resnet.layers.shortcut import Shortcut
from keras_resnet.layers.squeeze_excite import SqueezeExcite
from keras_resnet.layers.stem import Stem
from keras_resnet.layers.stochastic_depth import StochasticDepth

__all__ = [
    "BottleneckBlock",
    "Dropout",
    "ResidualBlock",
    "Shortcut",
    "SqueezeExcite",
    "Stem",
    "StochasticDepth",
]
