"""Counts and lines from wherever transforms run to the process that shows them to a person."""

import contextlib
import functools
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SECONDS = 0.5
_COUNT, _LINES = ".count", ".lines"

_here: dict[str, "Reporter"] = {}


class Reporter:
    """Collects how many elements are done, and lines for the person who watches.

    It travels with the transforms. In this process it stays the one that it is; elsewhere it
    becomes one that writes into a folder, where the one here finds it. A runner that tries a bundle
    twice counts it twice.

    Args:
        folder: A folder that all workers share; None where all are in this process.
    """

    def __init__(self, folder: Path | None = None):
        self._name = uuid.uuid4().hex
        self._folder = folder
        self._lock = threading.Lock()
        self._count = 0
        self._lines: list[str] = []
        self._read: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        _here[self._name] = self

    def close(self) -> None:
        """Ends it, in the process that began it."""
        _here.pop(self._name, None)

    def tick(self, count: int = 1) -> None:
        """Counts so many elements done."""
        with self._lock:
            self._count += count

    def say(self, line: str) -> None:
        """Shows a line to the person who watches."""
        with self._lock:
            self._lines.append(line)

    def count(self) -> int:
        """Returns how many elements are done by now, as far as is known here."""
        for path in self._files(_COUNT):
            # One that is being replaced counts as before: not every file system does that at once.
            with contextlib.suppress(OSError, ValueError):
                self._counts[path] = int(path.read_text())
        return self._count + sum(self._counts.values())

    def lines(self) -> Iterator[str]:
        """Yields what was said since this was asked before."""
        with self._lock:
            said, self._lines = self._lines, []
        yield from said
        for path in self._files(_LINES):
            with path.open(encoding="utf-8", errors="replace") as file:
                file.seek(self._read.get(path, 0))
                # What does not end yet is being written.
                text, end, _ = file.read().rpartition("\n")
                self._read[path] = self._read.get(path, 0) + len((text + end).encode())
            yield from text.splitlines()

    def _files(self, ending: str) -> Iterator[Path]:
        return iter(self._folder.glob(f"*{ending}") if self._folder else ())

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._name, self._folder)


class _Sender:
    """The reporter in another process."""

    def __init__(self, folder: Path):
        self._path = folder / uuid.uuid4().hex
        self._lock = threading.Lock()
        self._count, self._written = 0, 0.0

    def tick(self, count: int = 1) -> None:
        with self._lock:
            self._count += count
            if time.monotonic() - self._written < _SECONDS:
                return
            self._written = time.monotonic()
            # Whoever reads sees the number before or this one.
            new = self._path.with_suffix(".new")
            new.write_text(str(self._count))
            new.replace(self._path.with_suffix(_COUNT))

    def say(self, line: str) -> None:
        path = self._path.with_suffix(_LINES)
        # File names may be no text.
        with self._lock, path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(line.split())}\n")


def _arrived(name: str, folder: Path | None) -> Any:
    return _here.get(name) or _sender(folder, os.getpid())


@functools.lru_cache(maxsize=8)
def _sender(folder: Path, process: int) -> _Sender:
    """Returns the one of this process; a forked one needs its own."""
    return _Sender(folder)
