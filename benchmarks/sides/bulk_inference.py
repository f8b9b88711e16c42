"""All photographs of a folder are classified: by BulkInferrer, and in a loop."""

import json
import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import apache_beam  # noqa: F401  in both, so that their memory can be compared
import tensorflow as tf

_BATCH = 32


class _Classified:
    """A turn classifies every photograph.

    Args:
        folder: What `benchmarks.sides.serving.prepare` has filled.
    """

    def __init__(self, folder: Path):
        self._photos, self._model = folder / "photos", folder / "model"
        self._number = sum(1 for _ in self._photos.rglob("*.jpg"))

    def run(self) -> int:
        with tempfile.TemporaryDirectory(dir=self._model.parent) as scratch:
            self._classify(Path(scratch, "output"))
        return self._number

    def _classify(self, output: Path) -> None:
        raise NotImplementedError


class Job(_Classified):
    """BulkInferrer."""

    def _classify(self, output: Path) -> None:
        from pipeline.bulk import job
        from pipeline.orchestration.artifact import Context

        request = job.Request(str(self._photos), self._model, "benchmark", batch_size=_BATCH)
        job.run(request, output, Context("benchmark"))


class Loop(_Classified):
    """One batch after the other."""

    def _classify(self, output: Path) -> None:
        signature = tf.saved_model.load(str(self._model)).signatures["serving_default"]
        photos = sorted(self._photos.rglob("*.jpg"))
        with output.open("w") as file:
            for start in range(0, len(photos), _BATCH):
                paths = photos[start : start + _BATCH]
                answer = signature(image_bytes=tf.constant([path.read_bytes() for path in paths]))
                names, scores = answer["classes"].numpy(), answer["scores"].numpy()
                for path, classes, numbers in zip(paths, names, scores, strict=True):
                    row = {
                        "path": str(path),
                        "classes": [name.decode() for name in classes],
                        "scores": numbers.tolist(),
                    }
                    file.write(f"{json.dumps(row)}\n")
