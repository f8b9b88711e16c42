"""Running a Beam pipeline on a named runner, with progress where the work is in this process."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.orchestration.artifact import Progress

# Beam's default, DirectRunner, downloads a binary at run time; this one is part of Beam.
RUNNER = "FnApiRunner"
_INTERVAL = 0.2

_ticks: Counter[str] = Counter()


def tick(name: str, count: int = 1) -> None:
    """Counts `count` elements done under `name`; called from within transforms.

    Counts of workers in other processes do not reach this one: progress is then not shown.
    """
    _ticks[name] += count


@contextlib.contextmanager
def pipeline(progress: Progress, name: str, total: int) -> Iterator[beam.Pipeline]:
    """Yields a Beam pipeline that runs when the block ends well.

    Args:
        progress: Receives the number of elements that were counted under `name`.
        name: What the transforms call `tick` with.
        total: The number of elements expected.
    """
    del _ticks[name]
    options = PipelineOptions(flags=[], runner=RUNNER)
    done = threading.Event()

    def report() -> None:
        while not done.wait(_INTERVAL):
            progress(min(_ticks[name], total), total)

    reporter = threading.Thread(target=report, name=f"progress of {name}", daemon=True)
    try:
        with beam.Pipeline(options=options) as running:
            yield running
            reporter.start()
            # The block of beam.Pipeline runs the pipeline when it is left.
    finally:
        done.set()
        if reporter.is_alive():
            reporter.join()
    progress(total, total)
