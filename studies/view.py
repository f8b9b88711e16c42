"""Tells how far the work is, with the time that is left."""

import time

from rich.console import Console


class Lines:
    """A line for each step that is done.

    The time left follows from the time that the share so far has taken.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console):
        self._console = console
        self._begin: tuple[float, float] | None = None

    def begin(self, name: str, share: float) -> None:
        if self._begin is None:
            self._begin = time.monotonic(), share

    def progress(self, name: str, share: float, text: str) -> None:
        self._console.print(f"{share:4.0%}  {name}: {text}{self._left(share)}", highlight=False)

    def reused(self, name: str) -> None:
        self._console.print(f"      {name}: done before", highlight=False)

    def _left(self, share: float) -> str:
        if self._begin is None or share >= 1:
            return ""
        begin, first = self._begin
        if share <= first:
            return ""
        seconds = (time.monotonic() - begin) / (share - first) * (1 - share)
        return f"; about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Returns a time for a person: `45 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
