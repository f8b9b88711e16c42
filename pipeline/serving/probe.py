"""Loads a SavedModel in a process of its own and collects its answers.

Run as `python -m pipeline.serving.probe MODEL IMAGES ANSWERS`, it reads the images from a TFRecord
file and writes the answers as an npz file. It imports none of this project's networks: what TF
Serving has not, it has not either.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.orchestration.artifact import Artifact, Progress
from pipeline.records import tfrecord

_STOWAWAYS = ("keras_resnet", "apache_beam")


class ProbeError(Exception):
    """The process could not load the model or got no answer from it; the message says why."""


@dataclass(frozen=True)
class Answers:
    """What the model said.

    Args:
        together: Probabilities when all images came in one batch.
        alone: Probabilities when each came alone.
        names: Best class of each image.
        scores: Its probability.
    """

    together: np.ndarray
    alone: np.ndarray
    names: np.ndarray
    scores: np.ndarray


def ask(model: Path, images: Sequence[bytes], timeout: float, progress: Progress) -> Answers:
    """Returns the answers of the SavedModel `model`, loaded in a clean process on the CPU.

    Args:
        model: The directory with `saved_model.pb`.
        images: Encoded images.
        timeout: Seconds after which the process is ended.
        progress: Receives the two phases.

    Raises:
        ProbeError: The process failed, or took too long.
    """
    progress(0, 2)
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder, "images.tfrecord"), Path(folder, "answers.npz")
        tfrecord.write(questions, images)
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "1"}
        command = [sys.executable, "-m", __name__, str(model), str(questions), str(answers)]
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ProbeError(f"no answer within {timeout:g} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            last = lines[-1] if lines else "no message"
            raise ProbeError(f"the serving process ended with code {done.returncode}: {last}")
        progress(1, 2)
        with np.load(answers) as found:
            return Answers(**{name: found[name] for name in found.files})


def keras_probabilities(model: Artifact, images: Sequence[bytes]) -> np.ndarray:
    """Returns what the Keras model of a Model artifact computes for encoded images."""
    import keras
    import tensorflow as tf

    import keras_resnet  # noqa: F401  registers the layers that the file names
    from pipeline.training import preprocessing

    network = keras.models.load_model(model.uri / "Format-Keras" / "model.keras")
    expected = preprocessing.Preprocessing(**model.properties["preprocessing"])
    batch = preprocessing.preprocess(tf.constant(list(images), tf.string), expected)
    return np.asarray(network(batch, training=False))


def compare(
    answers: Answers, expected: np.ndarray, classes: Sequence[str], tolerance: float
) -> tuple[list[str], float | None]:
    """Returns what is wrong with the answers, and the greatest difference of a probability.

    The difference is None where there is none to speak of.
    """
    wanted = (len(expected), len(classes))
    for found in (answers.together, answers.alone, expected):
        if found.shape != wanted:
            return [f"probabilities of shape {found.shape}, expected {wanted}"], None
    difference = float(np.abs(np.stack([answers.together, answers.alone]) - expected).max())
    reasons = []
    if not np.isfinite(difference):
        return ["a served probability is not a finite number"], None
    if difference > tolerance:
        reasons.append(
            f"a served probability differs from Keras' by {difference:.2e}; allowed {tolerance:g}"
        )
    best = [classes[index] for index in answers.together.argmax(axis=1)]
    if best != answers.names.tolist():
        reasons.append("the class names do not belong to the greatest probabilities")
    if not np.array_equal(answers.scores, answers.together.max(axis=1)):
        reasons.append("the scores are not the greatest probabilities")
    return reasons, difference


def _main(model: str, questions: str, answers: str) -> None:
    from pipeline.serving.predictor import Predictor

    predictor = Predictor(Path(model))
    images = list(tfrecord.read(Path(questions)))
    together = predictor(images)
    alone = [predictor([image]).probabilities[0] for image in images]
    if stowaways := [name for name in _STOWAWAYS if name in sys.modules]:
        raise RuntimeError(f"the probe imported {', '.join(stowaways)}")
    np.savez(
        answers,
        together=together.probabilities,
        alone=np.stack(alone),
        names=np.array([names[0] for names in together.classes]),
        scores=together.scores[:, 0],
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])
