"""What a worker on another machine has to see before it may read a single image."""

import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipeline.errors import PipelineError


class Arrival(beam.DoFn):
    """Looks, in each process that works on what follows, whether it sees what all have to see.

    Without this, a worker that lacks a folder would say of each image that it cannot be read.
    Relative paths mean the same as in the process that submits the job.

    Args:
        needed: Paths that have to be there.
    """

    def __init__(self, needed: tuple[Path, ...]):
        self._home = Path.cwd()
        self._needed = needed

    def setup(self) -> None:
        """Raises PipelineError where a path is missing."""
        if self._home.is_dir():
            os.chdir(self._home)
        elif any(not path.is_absolute() for path in self._needed):
            require(self._home)
        for path in self._needed:
            require(self._home / path)

    def process(self, element: Any) -> Iterator[Any]:
        """Hands the element on."""
        yield element


def require(path: Path) -> None:
    """Raises PipelineError unless `path` is there, on the machine where this runs."""
    if not path.exists():
        raise PipelineError(
            f"{path}: not there on {socket.gethostname()}, where a worker of the cluster runs; all "
            "workers need it at this place: use a file system that they share, such as NFS, or for "
            "images a URI, such as gs://BUCKET/FOLDER"
        )


def require_written(paths: Iterable[Path]) -> None:
    """Raises PipelineError unless this machine sees what workers have written."""
    if missing := [path for path in paths if not path.exists()]:
        raise PipelineError(
            f"{missing[0]}: was written by a worker, and is not there on {socket.gethostname()}; the "
            "folder has to be on a file system that this machine and all workers share"
        )
