"""What is served: the SavedModel's signature, and asking it, or a server, for predictions."""

import importlib
from typing import Any

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    # Looked up when it is asked for: what stands here is imported by everything below.
    if name in __all__:
        return getattr(importlib.import_module("pipeline.serving.client"), name)
    raise AttributeError(f"module 'pipeline.serving' has no attribute {name!r}")
