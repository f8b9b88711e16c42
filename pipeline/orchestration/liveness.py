"""Which executions and runs are alive: a file each, locked for as long as its process lives."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
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
    def kept_if_well(self) -> Iterator[Callable[[str], bool]]:
        """Yields `take`, whose locks are freed when the block raises; those of others are not."""
        taken: list[str] = []

        def take(name: str) -> bool:
            is_taken = self.take(name)
            if is_taken:
                taken.append(name)
            return is_taken

        try:
            yield take
        except BaseException:
            for name in taken:
                self.free(name)
            raise

    @property
    def held(self) -> list[str]:
        """The names of the locks that this object holds."""
        return list(self._held)

    def of_others(self) -> list[str]:
        """The names of the locks that lie there and that this object does not hold."""
        try:
            return [path.name for path in self._folder.iterdir() if path.name not in self._held]
        except FileNotFoundError:
            return []

    def free(self, name: str) -> None:
        """Frees the lock `name`, which this process holds, and removes its file."""
        # Another thread may take it as soon as its file is gone.
        descriptor = self._held.pop(name)
        (self._folder / name).unlink(missing_ok=True)
        os.close(descriptor)
