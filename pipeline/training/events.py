"""Event files, which TensorBoard reads."""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.records import tfrecord

_VERSION = "brain.Event:2"
# TensorBoard knows them by this part of their names, and reads them in the order of the names.
_NAME = "events.out.tfevents."


class Events:
    """Adds to what TensorBoard shows of a directory, in a file of its own.

    What is written can be seen after `flush`.

    Args:
        directory: May hold files of earlier processes, which may have been killed.
        step: Steps that are done. What is said there of later ones is removed, as they are done
            again; at 0 everything is.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        earlier = sorted(directory.glob(f"{_NAME}*"))
        number = int(earlier[-1].name.removeprefix(_NAME)) + 1 if earlier else 0
        for path in earlier:
            _forget(path, step)
        self._file = (directory / f"{_NAME}{number:06}").open("xb")
        self._write(file_version=_VERSION)
        # For a TensorBoard that has read what was removed.
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

    def add(self, summary: Any) -> None:
        """Writes a summary of one of TensorBoard's plugins, such as that of hyperparameters."""
        # The plugin has a message type of its own, of the same fields.
        self._write(step=0, summary=tf.compat.v1.Summary.FromString(summary.SerializeToString()))

    def graph(self, graph: tf.Graph) -> None:
        """Writes a graph; the last one counts."""
        self._write(graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())

    def flush(self) -> None:
        """Lets others see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Writes what is left; nothing can be written afterwards."""
        self._file.close()

    def _summary(self, name: str, plugin: str, value: np.generic | np.ndarray, step: int) -> None:
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = plugin
        summary = tf.compat.v1.Summary()
        summary.value.add(tag=name, tensor=tf.make_tensor_proto(value), metadata=metadata)
        self._write(step=step, summary=summary)

    def _write(self, **event: Any) -> None:
        event = tf.compat.v1.Event(wall_time=time.time(), **event)
        self._file.write(tfrecord.frame(event.SerializeToString()))


def _forget(path: Path, step: int) -> None:
    """Cuts off what a file says of the steps after `step`; they stand in order."""
    if not step:
        path.unlink()
        return
    end = 0
    # A process that is killed may leave a record that it has not written to the end.
    with path.open("r+b") as file, contextlib.suppress(tfrecord.DamageError):
        for record in tfrecord.records(file, path):
            if not record.intact:
                break
            event = tf.compat.v1.Event.FromString(record.payload)
            if event.HasField("summary") and event.step > step:
                break
            end = record.offset + len(tfrecord.frame(record.payload))
    with path.open("r+b") as file:
        file.truncate(end)
