"""Tells how far the measurement is, and about how long it will still take."""

import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.status import Status

from benchmarks import page
from benchmarks.plan import Case


class Live:
    """A line that changes on a terminal, and a table under it for each case that is done.

    Args:
        console: Where to; standard error, say.
        expected: About how long each case takes, in the order in which they come.
    """

    def __init__(self, console: Console, expected: Sequence[float]):
        self._console, self._left = console, list(expected)
        self._done = 0.0
        self._begin = time.monotonic()
        self._title = ""
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")
        else:
            self._print(f"{self._title}: {text}")

    def begin(self, benchmark: str, case: Case) -> None:
        self._title = f"{benchmark}, {case.name}"
        if self._status is None:
            self._print(f"{self._title}{self._time_left(0.0)}")

    def progress(self, text: str, share: float) -> None:
        if self._status is not None:
            self._status.update(f"{self._title}: {text}{self._time_left(share)}")

    def end(self, case: dict[str, Any]) -> None:
        self._done += self._left.pop(0)
        self._print(f"\n{self._title}")
        for line in page.case_lines(case):
            self._print(f"  {line}")
        self._print("")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _time_left(self, share: float) -> str:
        """Returns the time left: what was expected, times how long the work so far took of it."""
        now = share * self._left[0]
        left = sum(self._left) - now
        spent, worth = time.monotonic() - self._begin, self._done + now
        pace = spent / worth if worth > 0 else 1.0
        return f", about {page.duration(left * pace)} left"
