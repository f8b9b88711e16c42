"""How commands write times, sizes and places."""

import datetime
from pathlib import Path


def when(seconds: float) -> str:
    """Returns seconds since 1970 as date and time in UTC."""
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def size(number: float) -> str:
    """Returns a number of bytes in three digits."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def place(path: Path) -> Path:
    """Returns `path` relative to the working directory when it lies below it."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
