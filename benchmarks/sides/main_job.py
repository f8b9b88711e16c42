"""The main job in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

_COMPLETE = "complete"  # a file beside what a run leaves


def prepare(folder: Path) -> None:
    """Makes nothing: the folder is for what a first run leaves to the second."""


class First:
    """A turn is a run in an empty folder.

    Args:
        folder: In which each run has a folder.
        more: Arguments of the command.
    """

    def __init__(self, folder: Path, more: list[str]):
        self._folder, self._more = folder, more

    def run(self) -> int:
        place = tempfile.mkdtemp(prefix="run-", dir=self._folder)
        _run(Path(place), self._more)
        Path(place, _COMPLETE).touch()
        return 1


class Second:
    """A turn is a run in a folder in which a run is complete.

    Args:
        folder: That `First` has filled; without a run in it, one is done first.
        more: Arguments of the command.
    """

    def __init__(self, folder: Path, more: list[str]):
        self._more = more
        if not any(folder.glob(f"run-*/{_COMPLETE}")):
            First(folder, more).run()
        self._place = next(folder.glob(f"run-*/{_COMPLETE}")).parent

    def run(self) -> int:
        _run(self._place, self._more)
        return 1


def _run(place: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "pipeline", "run", *more]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise RuntimeError(f"the run ended with exit code {done.returncode}: {last}")
