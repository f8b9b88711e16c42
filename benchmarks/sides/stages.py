"""The stages of a run that pass all images, each alone, in one process."""

import itertools
import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

from benchmarks import photographs
from pipeline.components import evaluator, example_gen, statistics_gen
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.records import manifest

_CLASSES = 10
_SIZE = 224
_BATCH = 32


def prepare(folder: Path, images: int) -> None:
    """Makes `photos`, their `examples`, nearly all for testing, and `model`, a Model artifact."""
    import keras

    import keras_resnet
    from pipeline.serving import export
    from pipeline.training.preprocessing import Preprocessing

    photographs.make(folder / "photos", images, 384, 512)
    _ingest(folder / "photos", folder / "examples", {"train": 0.05, "eval": 0.05, "test": 0.9})
    keras.utils.set_random_seed(0)
    network = keras_resnet.create("resnet50", input_shape=(_SIZE, _SIZE, 3), classes=_CLASSES)
    expected = Preprocessing(height=_SIZE, width=_SIZE, mean=(127.5,) * 3, std=(60.0,) * 3)
    classes = [f"class{number}" for number in range(_CLASSES)]
    export.save(network, classes, expected, folder / "model" / "Format-Serving")


def _ingest(photos: Path, destination: Path, splits: dict[str, float]) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    chosen = example_gen.Parameters(source=str(photos), splits=splits)
    example_gen.run({}, {"examples": Artifact("Examples", destination)}, chosen, _CONTEXT)


_CONTEXT = Context("benchmark")


class _Stage:
    """A turn passes all images.

    Args:
        folder: What `prepare` has filled.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._images = sum(1 for _ in (folder / "photos").rglob("*.jpg"))
        self._scratch = tempfile.TemporaryDirectory(dir=folder)
        self._numbers = itertools.count()

    def run(self) -> int:
        """Passes all images, and returns how many there are."""
        self._pass(Path(self._scratch.name, str(next(self._numbers))))
        return self._count()

    def _count(self) -> int:
        return self._images

    def close(self) -> None:
        """Removes what was written."""
        self._scratch.cleanup()

    def _pass(self, destination: Path) -> None:
        raise NotImplementedError

    def _examples(self) -> dict[str, Artifact]:
        return {"examples": Artifact("Examples", self._folder / "examples")}


class ExampleGen(_Stage):
    """From files to records."""

    def _pass(self, destination: Path) -> None:
        _ingest(self._folder / "photos", destination, {"train": 0.8, "eval": 0.1, "test": 0.1})


class StatisticsGen(_Stage):
    """From records to what is known of them."""

    def _pass(self, destination: Path) -> None:
        destination.mkdir()
        statistics_gen.run(
            self._examples(),
            {"statistics": Artifact("ExampleStatistics", destination)},
            statistics_gen.Parameters(),
            _CONTEXT,
        )


class Evaluator(_Stage):
    """From records to figures about a model."""

    def _count(self) -> int:
        return manifest.load(self._folder / "examples").split("test").examples

    def _pass(self, destination: Path) -> None:
        outputs = {
            name: Artifact(kind, destination / name)
            for name, kind in (("evaluation", "ModelEvaluation"), ("blessing", "ModelBlessing"))
        }
        for artifact in outputs.values():
            artifact.uri.mkdir(parents=True)
        evaluator.run(
            {**self._examples(), "model": Artifact("Model", self._folder / "model")},
            outputs,
            evaluator.Parameters(batch_size=_BATCH),
            _CONTEXT,
        )


class BulkInferrer(_Stage):
    """From files to answers of a model."""

    def _pass(self, destination: Path) -> None:
        from pipeline.bulk import job

        found, name = job.model_of(self._folder / "model")
        request = job.Request(str(self._folder / "photos"), found, name, batch_size=_BATCH)
        job.run(request, destination, _CONTEXT)
