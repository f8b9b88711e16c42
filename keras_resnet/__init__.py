"""The residual network family for Keras 3."""

from keras_resnet import analysis, constructors, layers, recipes, weights
from keras_resnet.config import ResNetConfig
from keras_resnet.constructors import *
from keras_resnet.factory import ResNet
from keras_resnet.finetuning import (
    FineTuningAdamW,
    FineTuningLAMB,
    FineTuningSGD,
    freeze,
    prepare_finetuning,
    stage_learning_rates,
)
from keras_resnet.model import ResNetModel, features
from keras_resnet.preprocessing import Preprocessing, decode_predictions, preprocess
from keras_resnet.variants import SPECS, WideResNet, create, list_models
from keras_resnet.weights import list_weights

__all__ = [
    "SPECS",
    "FineTuningAdamW",
    "FineTuningLAMB",
    "FineTuningSGD",
    "Preprocessing",
    "ResNet",
    "ResNetConfig",
    "ResNetModel",
    "WideResNet",
    "analysis",
    "create",
    "decode_predictions",
    "features",
    "freeze",
    "layers",
    "list_models",
    "list_weights",
    "prepare_finetuning",
    "preprocess",
    "recipes",
    "stage_learning_rates",
    "weights",
]
__all__ += constructors.__all__
