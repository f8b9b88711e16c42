"""Asking a server until it answers: what may be tried again, how long is waited, and when it ends."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import PipelineError

T = TypeVar("T")

_FIRST_WAIT = 0.2
_LONGEST_WAIT = 5.0
# Doublings after which a wait is the longest in any case.
_DOUBLINGS = 10


class ServingError(PipelineError):
    """A server gave no answer that can be used; the message names its address and says why."""


class UnavailableError(ServingError):
    """No answer this time; the next time there may be one.

    Args:
        message: What happened.
        after: Seconds that the server asked to wait before the next request.
    """

    def __init__(self, message: str, after: float = 0.0):
        super().__init__(message)
        self.after = after


class NotFoundError(ServingError):
    """The server does not know the model, or the version or label of it."""


class LateError(ServingError):
    """The deadline passed before there was an answer."""


class TooLargeError(ServingError):
    """The request is larger than the server, or what stands before it, takes."""


class Deadline:
    """A moment that requests have to end by.

    Args:
        seconds: How far it lies ahead.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds that are left, 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True)
class Patience:
    """How long, and how often, a request is made.

    Args:
        timeout: Seconds for one request with all its repetitions.
        retries: How often it is made again.
    """

    timeout: float
    retries: int

    def ask(self, request: Callable[[Deadline], T], stop: threading.Event) -> T:
        """Returns what `request` returns, which is called again where it raises UnavailableError.

        The waits double from 0.2 s up to 5 s, and are shortened at random by up to half, so that
        clients that were cut off together do not come back together; a server that says how long
        to wait is obeyed.

        Args:
            request: Idempotent; raises LateError by the deadline that it is given, which may have
                passed already: a busy machine wakes later than it was asked to.
            stop: Ends the waiting.

        Raises:
            ServingError: There is no answer.
        """
        deadline = Deadline(self.timeout)
        before = ""
        for attempt in range(self.retries + 1):
            try:
                return request(deadline)
            except LateError as error:
                if not before:
                    raise
                raise ServingError(f"{error}; the attempt before it: {before}") from error
            except UnavailableError as error:
                before = str(error)  # the error itself would hold on to the request
                doubled = _FIRST_WAIT * 2 ** min(attempt, _DOUBLINGS)
                wait = max(min(_LONGEST_WAIT, doubled) * random.uniform(0.5, 1), error.after)
                if attempt == self.retries:
                    raise _given_up(error, attempt + 1) from error
                if error.after >= deadline.left():
                    raise ServingError(
                        f"{error}; it asks to wait {error.after:g} s, but the timeout of "
                        f"{self.timeout:g} s ends before; try again later, or with a longer one"
                    ) from error
                if wait >= deadline.left() or stop.wait(wait):
                    raise _given_up(error, attempt + 1) from error
        raise AssertionError  # the last attempt returns or raises


def _given_up(error: UnavailableError, attempts: int) -> ServingError:
    return ServingError(f"{error} ({attempts} attempts)" if attempts > 1 else str(error))
