"""How times and sizes are written."""

import datetime


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
