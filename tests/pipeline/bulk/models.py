"""A SavedModel that is there in a moment, and files for it, which need be no images.

It answers by the length of a file: the same for the same bytes, and different ones for others.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

CLASSES = ("ant", "bee", "cat", "dog")
TOP = 3
WIDTH = 5


class _Lengths(tf.Module):
    def __init__(self, pace: Path | None):
        super().__init__()
        self.slopes = tf.Variable([0.0, 0.31, 0.17, 0.23])
        self.classes = tf.constant(CLASSES)
        self.pace = pace

    def _numbers(self, image_bytes):
        lengths = tf.cast(tf.strings.length(image_bytes), tf.float32)
        if self.pace is None:
            return lengths
        # Takes as long as it is told to, so that a test can come in between.
        work = tf.strings.to_number(tf.io.read_file(str(self.pace)), tf.int32)
        matrix = tf.eye(300) * 0.5
        product = tf.while_loop(
            lambda step, _: step < work,
            lambda step, found: (step + 1, tf.matmul(found, matrix)),
            (0, matrix),
        )[1]
        return lengths + 0.0 * product[0, 1]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        lengths = self._numbers(image_bytes)
        probabilities = tf.nn.softmax(tf.sin(lengths[:, None] * self.slopes) * 3.0)
        # One length has an answer that is no number.
        probabilities = tf.where(lengths[:, None] == 77.0, np.nan, probabilities)
        scores, indices = tf.math.top_k(probabilities, TOP)
        return {
            "probabilities": probabilities,
            "classes": tf.gather(self.classes, indices),
            "scores": scores,
            "error": _error(image_bytes),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def embed(self, image_bytes):
        lengths = self._numbers(image_bytes)
        return {
            "features": lengths[:, None] + tf.range(float(WIDTH)),
            "error": _error(image_bytes),
        }


def _error(image_bytes):
    page = tf.strings.substr(image_bytes, 0, 1) == "<"
    return tf.where(image_bytes == "", "empty", tf.where(page, "not_an_image", ""))


def save(folder: Path, features: bool = True, pace: Path | None = None) -> Path:
    """Writes the model as version 1 below `folder`, and returns `folder`.

    Args:
        folder: That of the versions.
        features: Whether it has the signature `features`.
        pace: A file that is read in each call: how long it takes, in products of matrices of 300
            by 300.
    """
    model = _Lengths(pace)
    signatures = {"serving_default": model.serve}
    if features:
        signatures["features"] = model.embed
    tf.saved_model.save(model, str(folder / "1"), signatures=signatures)
    return folder


def pictures(folder: Path, number: int = 10) -> Path:
    """Writes files of different lengths below `folder`, and two bad ones; returns `folder`."""
    for index in range(3):
        (folder / f"d{index}").mkdir(parents=True, exist_ok=True)
    for index in range(number):
        (folder / f"d{index % 3}" / f"{index:04}.jpg").write_bytes(b"x" * (100 + index))
    (folder / "empty.png").write_bytes(b"")
    (folder / "d0" / "page.jpg").write_bytes(b"<html>")
    return folder
