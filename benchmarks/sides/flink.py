"""A folder of many small images becomes records, on a Flink cluster and in this process."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.plan import Turn
from benchmarks.side import cpu_seconds, descendants
from studies import data

# Of the images, in the run whose cost is taken for that of starting.
_SHARE = 10
_DATA = "KERAS_RESNET_TEST_DATA"
_CLASSES = 10
# How often the processes are looked at, in seconds.
_INTERVAL = 0.25


def prepare(folder: Path, images: int) -> None:
    """Makes `all` and `few`, class folders of PNG files."""
    few = images // _SHARE
    for number, (pixels, label) in enumerate(_pictures(images)):
        name = f"class{label}/{number:06}.png"
        path = folder / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        if number < few:
            (folder / "few" / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, folder / "few" / name)


def _pictures(number: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields pixels and labels: the training images of CIFAR-10 where they are, else made-up ones."""
    stored = Path(os.environ.get(_DATA, "")) / "cifar10"
    if not (os.environ.get(_DATA) and stored.is_dir()):
        random = np.random.default_rng(0)
        for index in range(number):
            coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
            yield (
                coarse.repeat(4, 0).repeat(4, 1) ^ random.integers(0, 8, (32, 32, 3), np.uint8),
                (index % _CLASSES),
            )
        return
    images = data.cifar10(stored).train.first(number)
    yield from zip(images.images, images.labels.tolist(), strict=True)


class Here:
    """ExampleGen in one process.

    Args:
        folder: What `prepare` has filled.
    """

    def __init__(self, folder: Path):
        from pipeline.beam import ingest  # noqa: F401, which takes seconds

        self._folder = folder
        self._images = {name: sum(1 for _ in self._files(name)) for name in ("few", "all")}
        self._warm = False

    def run(self) -> Turn:
        """Takes in the few and then all; the difference counts."""
        if not self._warm:
            self._measured("few")
            self._warm = True
        few, many = self._measured("few"), self._measured("all")
        wall, cpu, python, java = (after - before for before, after in zip(few, many, strict=True))
        mebibytes = sum(path.stat().st_size for path in self._files("all")) / 2**20
        return Turn(
            self._images["all"] - self._images["few"],
            wall,
            cpu,
            {
                "MiB of images in all": mebibytes,
                "MiB more in the largest Python process": python,
                "MiB more in the largest of Java": java,
                "s for the few": few[0],
            },
        )

    def _files(self, name: str) -> Iterator[Path]:
        return (self._folder / name).rglob("*.png")

    def _measured(self, name: str) -> tuple[float, float, float, float]:
        """Returns wall seconds, CPU seconds, and MiB of the largest process of Python and of Java."""
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch, _largest() as largest:
            wall, cpu = time.perf_counter(), cpu_seconds()
            self._write(self._folder / name, Path(scratch))
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        return wall, cpu, largest["python"] / 2**20, largest["java"] / 2**20

    def _write(self, images: Path, destination: Path) -> None:
        from pipeline.components import example_gen
        from pipeline.engine import Engine
        from pipeline.orchestration.artifact import Artifact, Context

        example_gen.run(
            {},
            {"examples": Artifact("Examples", destination)},
            # As in the original data, where some pictures are nearly alike.
            example_gen.Parameters(source=str(images)),
            Context("benchmark", engine=Engine(**self._engine())),
        )

    def _engine(self) -> dict:
        return {}


class Flink(Here):
    """ExampleGen on a cluster of two task managers, a job server and a pool of workers.

    Args:
        folder: What `prepare` has filled.
        slots: How many work at a time, over both task managers.
    """

    def __init__(self, folder: Path, slots: int):
        from tests.flink import cluster, downloads

        super().__init__(folder)
        self._slots = slots
        self._running = contextlib.ExitStack()
        self._cluster = self._running.enter_context(
            cluster.running(downloads.fetch(), folder / "cluster", slots=slots // 2)
        )

    def close(self) -> None:
        """Ends the cluster."""
        self._running.close()

    def _engine(self) -> dict:
        return {"runner": "FlinkRunner", "options": self._cluster.options(self._slots)}


@contextlib.contextmanager
def _largest() -> Iterator[dict[str, int]]:
    """Yields what receives the most resident bytes of a process, this one or one below, by kind."""
    found, over = {"python": 0, "java": 0}, threading.Event()

    def watch() -> None:
        while not over.wait(_INTERVAL):
            for process in (os.getpid(), *descendants()):
                kind, size = _resident(process)
                found[kind] = max(found[kind], size)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _resident(process: int) -> tuple[str, int]:
    place = Path(f"/proc/{process}")
    try:
        kind = "java" if (place / "comm").read_text().startswith("java") else "python"
        return kind, int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return "python", 0  # it ended meanwhile
