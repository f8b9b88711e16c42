"""Images of a folder become records: by ExampleGen, and in a plain loop."""

import os
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from benchmarks import photographs
from benchmarks.plan import Turn
from benchmarks.side import cpu_seconds

_SHARES = {"train": 0.8, "eval": 0.1, "test": 0.1}
_MOMENT = 0.5  # seconds in which no worker can do the work of another


def prepare(folder: Path, images: int, height: int, width: int) -> None:
    """Makes `photos`, class folders of JPEG files."""
    photographs.make(folder / "photos", images, height, width)


class _Ingest:
    """A turn takes all images in; what it wrote is removed behind it, which does not count."""

    def __init__(self, photos: Path):
        self._photos = photos
        self._number = sum(1 for _ in photos.rglob("*.jpg"))

    def run(self) -> Turn:
        with tempfile.TemporaryDirectory(dir=self._photos.parent) as scratch:
            wall, cpu = time.perf_counter(), cpu_seconds()
            self._write(Path(scratch))
            return Turn(self._number, time.perf_counter() - wall, cpu_seconds() - cpu)

    def _write(self, destination: Path) -> None:
        raise NotImplementedError


class Generator(_Ingest):
    """ExampleGen.

    Args:
        folder: What `prepare` has filled.
        workers: Processes that decode.
        first: So many images of the folder; None for all.
    """

    def __init__(self, folder: Path, workers: int, first: int | None = None):
        from pipeline.beam import ingest  # noqa: F401, which takes seconds

        photos = folder / "photos"
        if first is not None:
            photos = folder / f"first-{first}"
            for path in sorted((folder / "photos").rglob("*.jpg"), key=lambda p: p.name)[:first]:
                place = photos / path.parent.name
                place.mkdir(parents=True, exist_ok=True)
                os.link(path, place / path.name)
        self._workers = workers
        super().__init__(photos)

    def run(self) -> Turn:
        if self._workers > 1:
            self._await_workers()  # they end when they have nothing to do for a while
        return super().run()

    def _await_workers(self) -> None:
        from pipeline.beam import workers

        workers.warm(self._workers)
        pool = workers.shared(self._workers)
        for busy in [pool.submit(time.sleep, _MOMENT) for _ in range(self._workers)]:
            busy.result()

    def _write(self, destination: Path) -> None:
        from pipeline.components import example_gen
        from pipeline.orchestration.artifact import Artifact, Context

        example_gen.run(
            {},
            {"examples": Artifact("Examples", destination)},
            example_gen.Parameters(source=str(self._photos)),
            Context("benchmark", workers=self._workers),
        )


class Loop(_Ingest):
    """Reads, decodes twice, hashes, serializes and writes; drops equal pictures."""

    def __init__(self, folder: Path):
        super().__init__(folder / "photos")

    def _write(self, destination: Path) -> None:
        from pipeline import sources
        from pipeline.beam import reading
        from pipeline.records import examples, images, tfrecord

        opened = sources.open_source(str(self._photos))
        labels = {text: label for label, text in enumerate(opened.classes)}
        files = {name: (destination / name).open("wb") for name in _SHARES}
        seen = set()
        for part in opened.parts:
            for reference, encoded in opened.read(part):
                try:
                    image = images.normalize(encoded)
                except images.BadImageError:
                    continue
                sha256(encoded).hexdigest()
                if image.pixels in seen:
                    continue
                seen.add(image.pixels)
                payload = examples.serialize(
                    examples.ImageExample(
                        image.encoded,
                        image.format,
                        image.height,
                        image.width,
                        labels[reference.text],
                        reference.text,
                        reference.name,
                    )
                )
                split = reading.assign_split(image.pixels, _SHARES)
                files[split].write(tfrecord.frame(payload))
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
