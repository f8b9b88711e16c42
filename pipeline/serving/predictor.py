"""Asking an exported SavedModel for predictions through its own signature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.errors import DataError, UsageError
from pipeline.serving import versions

_SIGNATURE = "serving_default"
_FEATURES = "features"
_INPUT = "image_bytes"
_OUTPUTS = {"probabilities", "classes", "scores", "error"}


@dataclass(frozen=True)
class Prediction:
    """What the model says of some images.

    Args:
        probabilities: float32 (images, classes), in label order; zeros where an image is bad.
        classes: Names of the most probable classes, best first, for each image.
        scores: Their probabilities, float32 (images, k).
        errors: Why an image is bad, a code such as `"not_decodable"`; empty where it is good.
    """

    probabilities: np.ndarray
    classes: list[list[str]]
    scores: np.ndarray
    errors: list[str]


class Predictor:
    """A loaded SavedModel.

    Args:
        model: A directory with a `saved_model.pb`, or a directory of such version directories,
            of which the one with the highest number is taken, as TF Serving does.

    Raises:
        UsageError: There is no such model, or it has another signature.
        DataError: It is damaged.
    """

    def __init__(self, model: Path):
        self.path = versions.resolve(model)
        try:
            loaded = tf.saved_model.load(str(self.path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{self.path}: cannot be loaded: {error}") from None
        if _SIGNATURE not in loaded.signatures:
            raise UsageError(
                f"{self.path}: no signature {_SIGNATURE!r}; it has {list(loaded.signatures)}"
            )
        self._model = loaded  # keeps the variables alive
        self._signature = loaded.signatures[_SIGNATURE]
        inputs = set(self._signature.structured_input_signature[1])
        outputs = set(self._signature.structured_outputs)
        if inputs != {_INPUT} or not outputs >= _OUTPUTS:
            raise UsageError(
                f"{self.path}: {_SIGNATURE} maps {sorted(inputs)} to {sorted(outputs)}; expected "
                f"{_INPUT} to {sorted(_OUTPUTS)}"
            )
        self.top = self._signature.structured_outputs["scores"].shape[-1]

    def __call__(self, images: Sequence[bytes]) -> Prediction:
        """Classifies encoded images, all in one batch; a bad one spoils its own row alone."""
        answer = self._signature(**{_INPUT: tf.constant(list(images), tf.string)})
        return Prediction(
            answer["probabilities"].numpy(),
            [[name.decode() for name in row] for row in answer["classes"].numpy()],
            answer["scores"].numpy(),
            [error.decode() for error in answer["error"].numpy()],
        )

    def features(self, images: Sequence[bytes]) -> tuple[np.ndarray, list[str]]:
        """Returns what the classifier sees of encoded images, all in one batch.

        Returns:
            float32 (images, channels), zeros where an image is bad; and why each is, as in
            `Prediction`.

        Raises:
            UsageError: The model has no signature `features`.
        """
        if _FEATURES not in self._model.signatures:
            raise UsageError(
                f"{self.path}: no signature {_FEATURES!r}; it has {list(self._model.signatures)}"
            )
        signature = self._model.signatures[_FEATURES]
        answer = signature(**{_INPUT: tf.constant(list(images), tf.string)})
        return answer["features"].numpy(), [error.decode() for error in answer["error"].numpy()]

    def in_batches(self, images: Sequence[bytes], batch_size: int) -> Iterator[Prediction]:
        """Classifies encoded images, `batch_size` at a time."""
        for start in range(0, len(images), batch_size):
            yield self(images[start : start + batch_size])
