"""Weights: reading files, and converting those of other libraries."""

from keras_resnet.weights.loading import load, load_torch_state

__all__ = ["load", "load_torch_state"]
