"""Tiny SavedModels that tell the pictures of `tests.pipeline.training.data` by their light.

They have the signature of `pipeline.serving.export` and decode PNG files alone, so that a test has
one in a moment.
"""

import numpy as np
import tensorflow as tf

from tests.pipeline import builders
from tests.pipeline.training.data import CLASSES

# Half way between the classes: their pictures have a light of about 64, 124 and 184.
MIDDLES = (94.0, 154.0)


class _Light(tf.Module):
    def __init__(self, middles, classes, sharpness, bad):
        super().__init__()
        steps = np.arange(len(middles) + 1)
        self.slopes = tf.Variable(2 * sharpness * steps, dtype=tf.float32)
        self.offsets = tf.Variable(-2 * sharpness * np.cumsum([0.0, *middles]), dtype=tf.float32)
        self.classes = tf.constant(list(classes))
        self.bad = bad

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        def light(encoded):
            return tf.reduce_mean(tf.cast(tf.io.decode_png(encoded, 3), tf.float32))

        lights = tf.map_fn(light, image_bytes, fn_output_signature=tf.float32)
        probabilities = tf.nn.softmax(lights[:, None] * self.slopes + self.offsets)
        scores, indices = tf.math.top_k(probabilities, 2)
        return {
            "probabilities": probabilities,
            "classes": tf.gather(self.classes, indices),
            "scores": scores,
            "error": tf.where(lights > self.bad, "too_bright", ""),
        }


def model(root, middles=MIDDLES, classes=CLASSES, sharpness=0.02, bad=300.0):
    """Writes a Model artifact that answers by the light of a picture.

    Args:
        root: Its directory.
        middles: The light between one class and the next; near the mean of a class, it errs.
        classes: The names that it gives.
        sharpness: How sure it is.
        bad: Above this light it has an error instead of an answer.
    """
    light = _Light(middles, classes, sharpness, bad)
    written = builders.artifact(root, "Model")
    destination = str(written.uri / "Format-Serving")
    tf.saved_model.save(light, destination, signatures={"serving_default": light.serve})
    return written
