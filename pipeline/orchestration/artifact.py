"""What components exchange: artifacts in, artifacts out, and how a component ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.engine import LOCALLY, Engine


@dataclass(frozen=True)
class Artifact:
    """A directory that one execution wrote.

    Args:
        type: TFX's name of the artifact type, such as `"Examples"`.
        uri: The directory.
        properties: Small JSON values that describe it, such as `{"blessed": 1}`.
        digest: SHA-256 over the names and contents of its files; empty while it is being written.
        listing: The size in bytes of each of its files; empty while it is being written.
    """

    type: str
    uri: Path
    properties: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    listing: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a component ended.

    Args:
        result: One line of measured figures for the table at the end of a run.
        refusal: Why nothing that depends on this component may run, or None. The outputs are
            kept either way: they are what a person looks at to find out.
    """

    result: str
    refusal: str | None = None


class Progress(Protocol):
    """Receives how far a component has come."""

    def __call__(self, done: float, total: float, **figures: float | str) -> None:
        """Reports `done` of `total` units, and the figures worth seeing, such as `loss=0.3`."""


@dataclass(frozen=True)
class Context:
    """What a component may use beside its inputs, outputs and parameters.

    Args:
        name: The name of the run's pipeline, which names the model.
        progress: Receives how far the work has come.
        say: Prints a line for the person who watches.
        workers: The number of processes that may work at once.
        state: A directory that a killed execution leaves to the one that starts again on the same
            inputs, parameters and code; it need not exist. None where nothing is to be kept.
        outside: What the component's `look_outside` found when the cache was asked; None where
            it has none, or nobody asked.
        engine: Where Beam computes.
    """

    name: str
    progress: Progress = lambda done, total, **figures: None
    say: Callable[[str], None] = lambda line: None
    workers: int = 1
    state: Path | None = None
    outside: Any = None
    engine: Engine = LOCALLY
