"""Writes a trained network as a SavedModel that takes image files and gives named classes."""

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.training.preprocessing import Preprocessing, preprocess

SIGNATURE = "serving_default"
INPUT = "image_bytes"
TOP = 5


class ServedModel(tf.Module):
    """The network with everything that turns files into answers, inside one graph.

    Args:
        model: Maps the preprocessed images to class probabilities.
        classes: The class names in label order.
        preprocessing: What the network expects.
    """

    def __init__(self, model: keras.Model, classes: Sequence[str], preprocessing: Preprocessing):
        super().__init__()
        self._model = model
        self._preprocessing = preprocessing
        self._top = min(TOP, len(classes))
        # `Model.export` would write every variable twice; TensorFlow's own tracking does not.
        self.network_variables = [variable.value for variable in model.variables]
        self.classes = tf.constant(list(classes))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_model":
            # Not tracked: a Keras model would bring its training functions along.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=INPUT)])
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies image files.

        Args:
            image_bytes: Strings of shape (batch,): JPEG, PNG, GIF, BMP or WebP of any size.

        Returns:
            `probabilities`, float32 (batch, classes) in label order; `classes`, strings
            (batch, k), and `scores`, float32 (batch, k): the k most probable, best first.
        """
        images = preprocess(image_bytes, self._preprocessing)
        probabilities = tf.cast(self._model(images, training=False), tf.float32)
        scores, indices = tf.math.top_k(probabilities, self._top)
        return {
            "probabilities": probabilities,
            "classes": tf.gather(self.classes, indices),
            "scores": scores,
        }


def save(
    model: keras.Model, classes: Sequence[str], preprocessing: Preprocessing, destination: Path
) -> None:
    """Writes the SavedModel, with the signature `serving_default`, into `destination`."""
    served = ServedModel(model, classes, preprocessing)
    tf.saved_model.save(served, str(destination), signatures={SIGNATURE: served.serve})
