"""The residual network family for Keras 3."""

from keras_resnet import layers
from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet
from keras_resnet.variants import SPECS, ResNet50, WideResNet50, create, list_models

__all__ = [
    "SPECS",
    "ResNet",
    "ResNet50",
    "ResNetConfig",
    "WideResNet50",
    "create",
    "layers",
    "list_models",
]
