"""Trained weights: which there are, getting them, and converting those of other libraries."""

from keras_resnet.weights.download import DownloadError, fetch
from keras_resnet.weights.loading import load, load_torch_state
from keras_resnet.weights.records import (
    ImageFormat,
    WeightsRecord,
    default_record,
    find_record,
    list_weights,
)
from keras_resnet.weights.saving import save, to_timm

__all__ = [
    "DownloadError",
    "ImageFormat",
    "WeightsRecord",
    "default_record",
    "fetch",
    "find_record",
    "list_weights",
    "load",
    "load_torch_state",
    "save",
    "to_timm",
]
