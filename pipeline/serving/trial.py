"""Trying a served model: every signature, answers that have to equal Keras', time and memory."""

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_resnet  # noqa: F401  registers the layers that files name
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact
from pipeline.records import example_proto
from pipeline.records.examples import IMAGE
from pipeline.serving.export import EXAMPLES, FEATURES, FILES
from pipeline.serving.export import IMAGES as PIXELS
from pipeline.serving.servers import Server, ServerError

REQUIRED = (FILES, EXAMPLES, PIXELS)
_CLASSIFIED = ("probabilities", "classes", "scores", "error")
_OUTPUTS = {FEATURES: ("features", "error")}
_BATCH = 32
_BAD_IMAGE = b"this is no image"


@dataclass(frozen=True)
class Expected:
    """What the Keras model computes of some images.

    Args:
        probabilities: float32 (images, classes).
        features: float32 (images, channels), where the network has any.
        pixels: The decoded images, uint8 (height, width, 3) each.
    """

    probabilities: np.ndarray
    features: np.ndarray | None
    pixels: list[np.ndarray]


@dataclass
class Findings:
    """What has been found of a served model.

    Args:
        reasons: Why it is not fit to serve.
        max_difference: The greatest difference from Keras, for each signature that was asked.
        latency: Milliseconds at each batch size: `p50`, `p99` and the number of `requests`.
    """

    reasons: list[str] = field(default_factory=list)
    max_difference: dict[str, float] = field(default_factory=dict)
    latency: dict[int, dict[str, float]] = field(default_factory=dict)


def signatures_of(model: Path) -> list[str]:
    """Returns the names of the signatures of a SavedModel."""
    content = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    names = {name for graph in content.meta_graphs for name in graph.signature_def}
    return sorted(name for name in names if not name.startswith("__"))


def expected(model: Artifact, images: Sequence[bytes]) -> Expected:
    """Returns what the Keras model of a Model artifact computes of encoded images, on the CPU.

    Raises:
        DataError: The Keras model cannot be loaded.
    """
    from pipeline.serving.network import with_features
    from pipeline.training import preprocessing

    # A GPU may multiply with fewer digits than are compared.
    with tf.device("/CPU:0"):
        network = with_features(_load(model))
        wanted = preprocessing.Preprocessing(**model.properties["preprocessing"])
        parts = [
            network(preprocessing.preprocess(tf.constant(images[start : start + _BATCH]), wanted))
            for start in range(0, len(images), _BATCH)
        ]
        pixels = [preprocessing.decode(tf.constant(image)).numpy() for image in images]
    found = {name: np.concatenate([part[name] for part in parts]) for name in network.output}
    return Expected(found["probabilities"], found.get("features"), pixels)


def _load(model: Artifact) -> keras.Model:
    # Layers of other modules are known to Keras when their module has been imported.
    if ":" in (name := model.properties.get("architecture", "")):
        importlib.import_module(name.partition(":")[0])
    path = model.uri / "Format-Keras" / "model.keras"
    try:
        return keras.models.load_model(path)
    except (OSError, TypeError, ValueError) as error:
        # Keras writes pages, of which the end says what it is.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(". ")[0]
        raise DataError(
            f"{path}: Keras cannot load it, so there is nothing to compare with: {reason}; layers "
            "of your own need @keras.saving.register_keras_serializable"
        ) from None


class Trial:
    """Asks a served model and keeps what is found.

    Args:
        server: Serves it.
        images: Encoded images, all of them good.
        wanted: What Keras computes of them.
        classes: The class names in label order.
        tolerance: The greatest difference of a number that is allowed; of features, relative to
            the greatest one where that is above 1.
    """

    def __init__(
        self,
        server: Server,
        images: Sequence[bytes],
        wanted: Expected,
        classes: Sequence[str],
        tolerance: float,
    ):
        self._server = server
        self._images = list(images)
        self._wanted = wanted
        self._classes = np.array([name.encode() for name in classes], object)
        self._tolerance = tolerance
        self.findings = Findings()

    def answers(self, signatures: Sequence[str], largest: int) -> None:
        """Asks every signature, `serving_default` in batches of one, two and `largest`."""
        required = REQUIRED if self._wanted.features is None else (*REQUIRED, FEATURES)
        self.findings.reasons += [
            f"the signature {name!r} is missing" for name in required if name not in signatures
        ]
        if FILES in signatures:
            for size in sorted({1, 2, largest}):
                self._files(size)
            self._bad_row()
        parts = [
            np.arange(start, min(start + largest, len(self._images)))
            for start in range(0, len(self._images), largest)
        ]
        if EXAMPLES in signatures:
            for rows in parts:
                examples = [_example(self._images[row]) for row in rows]
                self._classified(EXAMPLES, {"examples": examples}, rows)
        if PIXELS in signatures:
            for row, pixels in enumerate(self._wanted.pixels):
                self._classified(PIXELS, {"images": pixels[None]}, np.array([row]))
        if FEATURES in signatures:
            for rows in parts:
                self._features(rows)

    def time(self, sizes: Sequence[int], requests: int) -> None:
        """Measures how long `serving_default` takes for batches of each size."""
        for size in sizes:
            batch = self._batch(np.arange(size))
            taken = []
            for _ in range(requests):
                begin = time.perf_counter()
                self._server.ask(FILES, batch)
                taken.append(1e3 * (time.perf_counter() - begin))
            p50, p99 = np.percentile(taken, (50, 99))
            self.findings.latency[size] = {
                "p50": round(float(p50), 3),
                "p99": round(float(p99), 3),
                "requests": requests,
            }

    def _batch(self, rows: np.ndarray) -> dict[str, list[bytes]]:
        return {"image_bytes": [self._images[row % len(self._images)] for row in rows]}

    def _files(self, size: int) -> None:
        count = len(self._images)
        for start in range(0, max(count - size, 0) + 1, size):
            rows = np.arange(start, start + size)
            self._classified(FILES, self._batch(rows), rows % count)

    def _bad_row(self) -> None:
        """A bad image must spoil its own row alone."""
        answer = self._asked(FILES, {"image_bytes": [_BAD_IMAGE, self._images[0]]})
        if answer is None:
            return
        if not answer["error"][0] or any(answer["error"][1:]) or answer["probabilities"][0].any():
            self._reason("a bad image in a batch does not give its own row, and no other, an error")
        self._compare(FILES, answer["probabilities"][1:], self._wanted.probabilities[:1])

    def _features(self, rows: np.ndarray) -> None:
        answer = self._asked(FEATURES, self._batch(rows))
        if answer is None or self._wanted.features is None:
            return
        wanted = self._wanted.features
        scale = max(1.0, float(np.abs(wanted).max()))
        self._compare(FEATURES, answer["features"] / scale, wanted[rows] / scale)

    def _classified(self, signature: str, inputs: dict[str, Any], rows: np.ndarray) -> None:
        answer = self._asked(signature, inputs)
        if answer is None:
            return
        if any(answer["error"]):
            first = next(error for error in answer["error"] if error)
            self._reason(f"{signature}: a good image is refused as {first.decode()!r}")
            return
        probabilities = answer["probabilities"]
        if not self._compare(signature, probabilities, self._wanted.probabilities[rows]):
            return
        best = self._classes[probabilities.argmax(axis=1)]
        if not np.array_equal(answer["classes"][:, 0], best):
            self._reason(f"{signature}: the names do not belong to the greatest probabilities")
        if not np.array_equal(answer["scores"][:, 0], probabilities.max(axis=1)):
            self._reason(f"{signature}: the scores are not the greatest probabilities")

    def _asked(self, signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray] | None:
        try:
            answer = self._server.ask(signature, inputs)
        except ServerError as error:
            self._reason(f"{signature}: {error}")
            return None
        wanted = _OUTPUTS.get(signature, _CLASSIFIED)
        if missing := [name for name in wanted if name not in answer]:
            self._reason(f"{signature}: no output {missing[0]!r}; it has {sorted(answer)}")
            return None
        return answer

    def _compare(self, signature: str, found: np.ndarray, wanted: np.ndarray) -> bool:
        """Whether the numbers of an answer are right."""
        if found.shape != wanted.shape:
            self._reason(f"{signature}: numbers of shape {found.shape}, expected {wanted.shape}")
            return False
        difference = float(np.abs(found - wanted).max())
        if not np.isfinite(difference):
            self._reason(f"{signature}: a served number is not finite")
            return False
        known = self.findings.max_difference.get(signature, 0.0)
        self.findings.max_difference[signature] = max(known, difference)
        if difference > self._tolerance:
            self._reason(
                f"{signature}: a served number differs from Keras' by {difference:.2e}; allowed "
                f"{self._tolerance:g}"
            )
            return False
        return True

    def _reason(self, text: str) -> None:
        if text not in self.findings.reasons:
            self.findings.reasons.append(text)


def _example(encoded: bytes) -> bytes:
    message = example_proto.example_class()()
    message.features.feature[IMAGE].bytes_list.value.append(encoded)
    return message.SerializeToString()
