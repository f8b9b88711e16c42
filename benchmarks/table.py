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
    "stages",
    "flink",
)


def load(name: str) -> Benchmark:
    """Returns a benchmark.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        perhaps = f", perhaps {close[0]!r}" if close else ""
        known = ", ".join(NAMES)
        raise UsageError(f"there is no benchmark {name!r}{perhaps}; expected one of {known}")
    return importlib.import_module(f"benchmarks.{name}").BENCHMARK
