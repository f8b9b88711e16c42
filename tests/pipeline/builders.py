"""Tiny data for the tests of the pipeline."""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.components import example_gen
from pipeline.orchestration.artifact import Artifact, Context

CONTEXT = Context("tiny")

# A run that takes seconds; the accuracy that it reaches does not matter.
TINY_RUN = {
    "name": "tiny",
    "example_gen": {"source": "digits", "splits": {"train": 0.2, "eval": 0.1, "test": 0.7}},
    "trainer": {
        "model": "cifar_resnet20",
        "model_arguments": {"depths": [1, 1, 1], "widths": [8, 8, 8], "stem_width": 8},
        "image_size": [8, 8],
        "batch_size": 64,
        "epochs": 2,
        "learning_rate": 0.05,
    },
    "evaluator": {"thresholds": {"accuracy": 0.1}},
}

PYTHON = [sys.executable, "-m", "pipeline"]


def encode(pixels: np.ndarray, format_: str = "PNG", **options: object) -> bytes:
    """Returns uint8 pixels as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **options)
    return buffer.getvalue()


def noise(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    """Returns uint8 pixels of shape (height, width, 3) that are the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), images: int = 20) -> Path:
    """Writes `images` pictures of each class to `root/CLASS/` and returns `root`."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(images):
            pixels = noise(1000 * number + index)
            (root / name / f"{index:03}.png").write_bytes(encode(pixels))
    return root


def artifact(uri: Path, kind: str = "Any", **properties: object) -> Artifact:
    """Returns an artifact in a new directory."""
    uri.mkdir(parents=True, exist_ok=True)
    return Artifact(kind, uri, dict(properties))


def examples(
    root: Path, source: str | Path = "digits", **parameters: object
) -> tuple[Artifact, str]:
    """Runs ExampleGen and returns its artifact and its result line."""
    written = artifact(root, "Examples")
    outcome = example_gen.run(
        {},
        {"examples": written},
        example_gen.Parameters(source=str(source), **parameters),
        CONTEXT,
    )
    return written, outcome.result
