"""Being asked to stop: SIGTERM and Ctrl-C wait for the end of a round, so that it can be saved."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from pipeline.errors import Stopped


class Interruption:
    """Notes SIGTERM and the first Ctrl-C while it is entered, in place of their usual effect.

    Before `arm` is called nothing is worth saving, and both take effect at once; so does a second
    Ctrl-C. Signals can be received by the main thread alone: in others this does nothing.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._armed = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @property
    def received(self) -> signal.Signals | None:
        """The signal that asked to stop, or None."""
        return self._received

    def arm(self) -> None:
        """From now on there is something to save."""
        self._armed = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self._received is not None
        self._received = signal.Signals(number)
        if number == signal.SIGINT and (again or not self._armed):
            raise KeyboardInterrupt
        if not self._armed:
            raise Stopped(f"stopped by {self._received.name} before the first step was done")
