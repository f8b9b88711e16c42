"""Running a Beam pipeline on a named runner, with progress where the work is in this process."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.beam import workers
from pipeline.orchestration.artifact import Progress

# Beam's default, DirectRunner, downloads a binary at run time; this one is part of Beam.
RUNNER = "FnApiRunner"
_INTERVAL = 0.2

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
        with beam.Pipeline(options=options) as running:
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
