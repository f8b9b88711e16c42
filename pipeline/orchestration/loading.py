"""Loads the heavy libraries before components that run at once both do."""

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator, Mapping

_HEAVY = ("tensorflow", "keras", "apache_beam")

_loading = threading.Lock()


def load(libraries: Mapping[str, str | None]) -> None:
    """Loads those of `libraries` that are heavy, in one thread at a time.

    Parts of them import each other in circles, of which two threads may see halves.

    Args:
        libraries: Import names, with the version of each that is installed.
    """
    with _loading, _signals_later():
        for name in _HEAVY:
            if libraries.get(name):
                importlib.import_module(name)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait for the end of the block: TensorFlow dies of one while loading."""
    received: list[int] = []
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for number in received:
        signal.raise_signal(number)
