"""How far a download is, on the screen."""

import sys
import time
from types import TracebackType
from typing import Self

_SECONDS_BETWEEN = 0.2
_MEGABYTE = 1e6


class Progress:
    """A line on standard error with the share of a file that has come.

    On a terminal the line is redrawn; elsewhere it is printed at the beginning and at the end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._done = 0
        self._size: int | None = None
        self._drawn = 0.0
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._started:
            self._draw("\n")

    def begin(self, done: int, size: int | None) -> None:
        """States how much is there and how much there will be, in bytes."""
        self._done, self._size = done, size
        if not self._started:
            self._started = True
            self._draw("\r" if sys.stderr.isatty() else "\n")

    def add(self, count: int) -> None:
        """Counts bytes that have come."""
        self._done += count
        if sys.stderr.isatty() and time.monotonic() - self._drawn > _SECONDS_BETWEEN:
            self._draw("\r")

    def _draw(self, end: str) -> None:
        self._drawn = time.monotonic()
        if self._size:
            share = f"{100 * self._done / self._size:3.0f} % of {self._size / _MEGABYTE:.1f} MB"
        else:
            share = f"{self._done / _MEGABYTE:.1f} MB"
        print(f"Downloading {self.name}: {share}", end=end, file=sys.stderr, flush=True)
