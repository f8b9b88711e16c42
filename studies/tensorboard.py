"""Logs that TensorBoard reads, where TensorFlow is there to write them."""

from importlib.util import find_spec
from pathlib import Path

import keras


def callbacks(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns the callback that writes a training's curves, or none without TensorFlow."""
    if find_spec("tensorflow") is None:
        return []
    return [keras.callbacks.TensorBoard(str(folder), write_graph=False, profile_batch=0)]
