"""Event files, which TensorBoard reads."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_VERSION = "brain.Event:2"
# TensorBoard knows them by this part of their names, and reads them in the order of the names.
_NAME = "events.out.tfevents."


class Events:
    """Adds to what TensorBoard shows of a directory, in a file of its own.

    The file begins with a mark that makes TensorBoard forget what earlier files say of steps that
    are done again now. What is written can be seen after `flush`.

    Args:
        directory: May hold files of earlier processes, which may have been killed.
        step: Steps that are done; what is there of later ones counts no longer, and at 0 nothing.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        number = len(list(directory.glob(f"{_NAME}*")))
        self._writer = tf.io.TFRecordWriter(str(directory / f"{_NAME}{number:06}"))
        self._write(file_version=_VERSION)
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(step=step + 1 if step else 0, session_log=start)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes a number."""
        self._summary(name, "scalars", np.float32(value), step)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 of shape (height, width, 3)."""
        height, width, _ = pixels.shape
        encoded = tf.io.encode_png(pixels).numpy()
        content = [str(width).encode(), str(height).encode(), encoded]
        self._summary(name, "images", np.array(content, object), step)

    def text(self, name: str, markdown: str, step: int) -> None:
        """Writes a text."""
        self._summary(name, "text", np.array([markdown.encode()], object), step)

    def graph(self, graph: tf.Graph) -> None:
        """Writes a graph; the last one counts."""
        self._write(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())

    def flush(self) -> None:
        """Lets others see what was written."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left; nothing can be written afterwards."""
        self._writer.close()

    def _summary(self, name: str, plugin: str, value: np.generic | np.ndarray, step: int) -> None:
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = plugin
        summary = tf.compat.v1.Summary()
        summary.value.add(tag=name, tensor=tf.make_tensor_proto(value), metadata=metadata)
        self._write(step=step, summary=summary)

    def _write(self, **event: Any) -> None:
        event = tf.compat.v1.Event(wall_time=time.time(), **event)
        self._writer.write(event.SerializeToString())
