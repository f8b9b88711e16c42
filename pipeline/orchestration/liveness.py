"""Which executions and runs are alive: a file each, locked for as long as its process lives."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Locks:
    """The locks that this process holds in a folder; the system frees them when it dies.

    Args:
        folder: Made when the first lock is taken.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Takes the lock `name`; False where somebody, perhaps this process, holds it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / name, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[name] = descriptor
        return True

    @contextlib.contextmanager
    def kept_if_well(self) -> Iterator[None]:
        """Frees the locks that were taken in the block when it raises."""
        before = self.held
        try:
            yield
        except BaseException:
            for name in self.held:
                if name not in before:
                    self.free(name)
            raise

    @property
    def held(self) -> list[str]:
        """The names of the locks that this object holds."""
        return list(self._held)

    def free(self, name: str) -> None:
        """Frees the lock `name`, which this process holds, and removes its file."""
        (self._folder / name).unlink(missing_ok=True)
        os.close(self._held.pop(name))
