"""Writes a trained network as a SavedModel that takes image files and gives named classes."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline.errors import DataError
from pipeline.serving import decoding, rows
from pipeline.serving.network import Network, Outputs, of
from pipeline.training.preprocessing import CHANNELS, Preprocessing, normalize, resize

FILES, EXAMPLES, IMAGES, FEATURES = "serving_default", "serve_examples", "serve_images", "features"
TOP = 5
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Exported:
    """What has been written.

    Args:
        signatures: Their names.
        notices: What a person should know, such as a signature that is left out.
    """

    signatures: tuple[str, ...]
    notices: tuple[str, ...]


class _Lines(tf.lookup.TextFileInitializer):
    """Names its table by what is in the file.

    TensorFlow would name it by where the file lies, so that no two exports of the same were equal.
    Tables of the same name are one where several models are loaded: other classes, another name.
    """

    def __init__(self, file: str, *arguments: Any):
        self._content = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        super().__init__(file, *arguments)

    @property
    def _shared_name(self) -> str:
        return f"classes_{self._content}"


class ServedModel(tf.Module):
    """The network with everything that turns files into answers, inside one graph.

    Every signature takes a batch of any size. A row that is bad has zeros and empty names, and in
    `error` the reason, one of ingest's codes or `not_decodable` or `not_an_example`; the others
    have the empty string there.

    Args:
        network: Maps what is preprocessed to class probabilities and an embedding.
        classes_file: The class names in label order, one in each line. Becomes an asset.
        preprocessing: What the network expects.
        top: How many classes are named.
    """

    def __init__(
        self, network: Network, classes_file: Path, preprocessing: Preprocessing, top: int
    ):
        super().__init__()
        self._network = network
        # `Model.export` would write every variable twice; TensorFlow's own tracking does not.
        self.network_variables = network.variables
        self._preprocessing = preprocessing
        self._top = top
        lines = _Lines(
            str(classes_file),
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
        )
        self.classes = tf.lookup.StaticHashTable(lines, default_value="")

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the functions that are served, by name."""
        files = tf.TensorSpec([None], tf.string, name="image_bytes")
        pixels = tf.TensorSpec([None, None, None, CHANNELS], tf.uint8, name="images")
        functions = {
            FILES: (self.serve, files),
            EXAMPLES: (self.serve_examples, tf.TensorSpec([None], tf.string, name="examples")),
            IMAGES: (self.serve_images, pixels),
        }
        if self._network.has_features:
            functions[FEATURES] = (self.embed, files)
        return {
            name: tf.function(function, input_signature=[given], autograph=False)
            for name, (function, given) in functions.items()
        }

    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies image files.

        Args:
            image_bytes: Strings of shape (batch,): JPEG, PNG, GIF, BMP or WebP of any size.

        Returns:
            `probabilities`, float32 (batch, classes) in label order; `classes`, strings
            (batch, k), and `scores`, float32 (batch, k): the k most probable, best first; `error`,
            strings (batch,).
        """
        return self._classify(*rows.images(image_bytes, self._preprocessing))

    def serve_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies the images in serialized `tf.train.Example`s.

        Args:
            examples: Strings of shape (batch,), as ExampleGen writes them; `image/encoded` is read.

        Returns:
            As `serve`.
        """
        encoded, missing = rows.encoded_in(examples)
        images, error = rows.images(encoded, self._preprocessing)
        return self._classify(images, tf.where(missing == "", error, missing))

    def serve_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies pixels.

        They are 8-bit as those of files are: with floating-point numbers nobody could tell whether
        they go to 1 or to 255, or are normalised already.

        Args:
            images: RGB, uint8 of shape (batch, height, width, 3), of any size; those without a
                pixel are bad.

        Returns:
            As `serve`.
        """
        count, height, width = tf.unstack(tf.shape(images)[:3])
        is_empty = height * width == 0
        one_pixel = tf.zeros([count, 1, 1, CHANNELS], tf.uint8)
        images = tf.cond(is_empty, lambda: one_pixel, lambda: images)
        error = tf.fill([count], tf.where(is_empty, decoding.EMPTY, ""))
        return self._classify(resize(images, self._preprocessing), error)

    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes what the classifier sees: for search, clustering and small classifiers.

        Args:
            image_bytes: Strings of shape (batch,), as for `serve`.

        Returns:
            `features`, float32 (batch, channels); `error`, strings (batch,).
        """
        images, error = rows.images(image_bytes, self._preprocessing)
        features = self._answers(images)["features"]
        good = (error == "")[:, None]
        return {"features": tf.where(good, features, 0.0), "error": error}

    def _answers(self, images: tf.Tensor) -> Outputs:
        # Without any image the convolutions of oneDNN fail.
        count, size = tf.shape(images)[0], images.shape[1:]
        some = tf.cond(count == 0, lambda: tf.zeros((1, *size), tf.uint8), lambda: images)
        found = self._network.call(normalize(some, self._preprocessing))
        return {name: value[:count] for name, value in found.items()}

    def _classify(self, images: tf.Tensor, error: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._answers(images)["probabilities"]
        scores, indices = tf.math.top_k(probabilities, self._top)
        names = self.classes.lookup(tf.cast(indices, tf.int64))
        good = (error == "")[:, None]
        return {
            "probabilities": tf.where(good, probabilities, 0.0),
            "classes": tf.where(good, names, ""),
            "scores": tf.where(good, scores, 0.0),
            "error": error,
        }


def save(
    model: keras.Model,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    destination: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Writes the SavedModel, with its signatures, into `destination`.

    They are `serving_default` (files), `serve_examples`, `serve_images`, and `features` where the
    network has a penultimate layer.

    Args:
        model: Maps preprocessed images to class probabilities. It stays as it is.
        classes: The class names in label order.
        preprocessing: What the network expects.
        destination: A directory that need not exist.
        say: Receives the notices, too.

    Raises:
        DataError: A class name has a line break in it.
    """
    if broken := [
        name for name in classes if len(name.splitlines()) > 1 or name != name.strip("\r\n")
    ]:
        raise DataError(f"class {broken[0]!r}: has a line break, and the asset names one in a line")
    network = of(model)
    with tempfile.TemporaryDirectory() as folder:
        classes_file = Path(folder, CLASSES_FILE)
        classes_file.write_text("".join(f"{name}\n" for name in classes))
        served = ServedModel(network, classes_file, preprocessing, min(TOP, len(classes)))
        signatures = served.signatures()
        tf.saved_model.save(served, str(destination), signatures=signatures)
    for notice in network.notices:
        say(notice)
    return Exported(tuple(signatures), network.notices)
