"""From images to a served model: a TFX-style pipeline driven by Apache Beam.

`pipeline.run("digits")` runs a configuration from Python; `python -m pipeline --help` shows what
the command line offers.
"""

import importlib
from typing import Any

__all__ = ["RunResult", "run"]


def __getattr__(name: str) -> Any:
    # Looked up when it is asked for: `--help` and the workers of Beam need none of it.
    if name in __all__:
        return getattr(importlib.import_module("pipeline.api"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
