"""The benchmarks by name."""

import difflib
import importlib

from benchmarks.plan import Benchmark
from pipeline.errors import UsageError

# In the order in which they run.
NAMES = (
    "start",
    "training_step",
    "stochastic_depth",
    "inference",
    "gpu",
    "input_pipeline",
    "ingest",
    "serving",
    "bulk_inference",
    "tuner_workers",
    "main_job",
)
# Only where they are named: they are long, and need Java, or have no other side.
ON_REQUEST = ("stages", "flink")


def load(name: str) -> Benchmark:
    """Returns a benchmark.

    Raises:
        UsageError: If there is none of that name.
    """
    every = (*NAMES, *ON_REQUEST)
    if name not in every:
        close = difflib.get_close_matches(name, every, n=1)
        perhaps = f", perhaps {close[0]!r}" if close else ""
        known = ", ".join(every)
        raise UsageError(f"there is no benchmark {name!r}{perhaps}; expected one of {known}")
    return importlib.import_module(f"benchmarks.{name}").BENCHMARK
