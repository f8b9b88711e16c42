"""Trained weights: which there are, getting them, and converting those of other libraries."""

from keras_resnet.weights.download import DownloadError, cache_path, fetch
from keras_resnet.weights.loading import load, load_torch_state
from keras_resnet.weights.pretrained import load_pretrained, resolve
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
    "cache_path",
    "default_record",
    "fetch",
    "find_record",
    "list_weights",
    "load",
    "load_pretrained",
    "load_torch_state",
    "resolve",
    "save",
    "to_timm",
]
