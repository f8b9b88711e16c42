"""Many files as requests of bounded size, several under way at once, answers in order."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def chunks(
    items: Iterable[T], most: int, most_bytes: int, size: Callable[[T], int]
) -> Iterator[list[T]]:
    """Yields the items in order, in lists that keep both limits.

    Args:
        items: Taken one at a time, at most one beyond the list that is yielded.
        most: Items in a list, at least 1.
        most_bytes: What the items of a list may have together. An item that has more by itself is
            a list of its own.
        size: Returns the bytes of an item.
    """
    chunk: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if chunk and total + own > most_bytes:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += own
        if len(chunk) == most:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def in_order(function: Callable[[T], R], items: Iterable[T], in_flight: int) -> Iterator[R]:
    """Yields `function` of each item in order; so many calls are under way at once.

    At most `in_flight` items and results are held. When the iteration is left, calls under way go
    on to their end in threads that no process waits for, and what they return is dropped.

    Raises:
        BaseException: What `function` raises, when the turn of its item comes.
    """
    tasks: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()

    def step() -> bool:
        # A frame of its own, so that a thread that waits holds on to nothing.
        if (task := tasks.get()) is None:
            return False
        item, future = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001  raised where it is waited for
                future.set_exception(error)
        return True

    def work() -> None:
        while step():
            pass

    threads = 0
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            if threads < in_flight:
                threads += 1
                # The standard library's pools are waited for when a process ends, Ctrl-C or not.
                threading.Thread(target=work, daemon=True).start()
            pending.append(Future())
            tasks.put((item, pending[-1]))
            if len(pending) == in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)
