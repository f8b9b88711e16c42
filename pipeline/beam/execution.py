"""Running a Beam pipeline on a named runner, with progress where the work is in this process."""

import contextlib
import errno
import logging
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.beam import workers
from pipeline.errors import PipelineError, Stopped
from pipeline.orchestration.artifact import Progress

# Beam's default, DirectRunner, downloads a binary at run time; this one is part of Beam.
RUNNER = "FnApiRunner"
_INTERVAL = 0.2
# What Beam adds to the message of every error.
_WHERE = re.compile(r" \[while running '[^']*'\]")

_ticks: Counter[str] = Counter()
_said: list[Callable[[str], None]] = []


def tick(name: str, count: int = 1) -> None:
    """Counts `count` elements done under `name`; called from within transforms.

    Counts of workers in other processes do not reach this one: progress is then not shown.
    """
    _ticks[name] += count


def say(line: str) -> None:
    """Shows a line to the person who watches; called from within transforms in this process."""
    for show in _said:
        show(line)


@contextlib.contextmanager
def pipeline(
    progress: Progress, name: str, total: int, show: Callable[[str], None] = lambda line: None
) -> Iterator[beam.Pipeline]:
    """Yields a Beam pipeline that runs when the block ends well.

    Args:
        progress: Receives how many images were counted under `name`, and how many are done in a
            second.
        name: What the transforms call `tick` with.
        total: The number of images expected.
        show: Receives the lines that the transforms `say`.
    """
    del _ticks[name]
    options = PipelineOptions(flags=[], runner=RUNNER)
    done = threading.Event()

    def report() -> None:
        begin, before = time.monotonic(), 0
        while not done.wait(_INTERVAL):
            ticks = min(_ticks[name], total)
            if not before:
                # Until the first image is done, the time goes into starting.
                begin, before = time.monotonic(), ticks
            seconds = time.monotonic() - begin
            rate = (ticks - before) / seconds if seconds > 0 else 0
            figures = {"images_per_second": f"{rate:,.0f}"} if rate else {}
            progress(ticks, total, **figures)

    reporter = threading.Thread(target=report, name=f"progress of {name}", daemon=True)
    _said.append(show)
    try:
        with _interruptible(), beam.Pipeline(options=options) as running:
            yield running
            reporter.start()
            # The block of beam.Pipeline runs the pipeline when it is left.
    finally:
        workers.stop()
        _said.remove(show)
        done.set()
        if reporter.is_alive():
            reporter.join()
    progress(total, total)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets errors and signals out as what they are: Beam wraps both, and prints a page of each."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    loggers = logging.getLogger("apache_beam.runners")
    level, previous = loggers.level, {}
    loggers.setLevel(logging.CRITICAL)
    if threading.current_thread() is threading.main_thread():
        previous = {n: signal.signal(n, receive) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        if signal.SIGTERM in received:
            raise Stopped("stopped by SIGTERM; nothing of it is kept, start again") from None
        if received or isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        text = _WHERE.sub("", str(error))
        if f"[Errno {errno.ENOSPC}]" in text:
            raise PipelineError(
                f"the disk is full ({text}); until the shards are written, a second copy of the "
                "images is needed; free space, or choose another --root, and run again"
            ) from error
        if isinstance(error, PipelineError):
            raise type(error)(text) from error
        if isinstance(error, Exception):
            raise PipelineError(f"{type(error).__name__}: {text}") from error
        raise
    finally:
        loggers.setLevel(level)
        for number, handler in previous.items():
            signal.signal(number, handler)
