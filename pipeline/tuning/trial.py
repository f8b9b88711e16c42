"""What is written down of a trial and of a whole search, and read again by the report."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError

RESULTS = "tuner_results.json"
BEST = "best_hyperparameters.txt"
RECORD = "search.json"

State = Literal["RUNNING", "COMPLETED", "FAILED", "REJECTED", "STOPPED"]
# What a trial is for. Only those of the first two kinds are the search's own.
Kind = Literal["default", "search", "final"]


@dataclass(frozen=True)
class Trial:
    """One trial, or the longer training of an earlier one.

    Args:
        id: Its number in the search, such as `"0007"`.
        kind: `"default"`: the configuration as it is; `"search"`: values that the oracle proposed;
            `"final"`: the values of an earlier trial once more, with another seed.
        values: Value by key of the space; keys whose condition does not hold are left out.
        seed: The seed of the training.
        epochs: Epochs after which it ends, counted from the beginning of the training.
        continues: The trial whose checkpoint it goes on from (Hyperband), or None.
        first_epoch: Epochs that are that one's.
        repeats: The trial whose values a final one has, or None.
        state: `"COMPLETED"`: it has a score; `"FAILED"`: it diverged, ran out of memory or died;
            `"REJECTED"`: a constraint does not allow it, or its values do not go together, and
            nothing was trained; `"STOPPED"`: the
            budget ended first; `"RUNNING"`: it has no end yet.
        score: The objective of the weights that would be exported; None without one.
        objective: The objective after each epoch, from `first_epoch` + 1 on; None where it is no
            finite number.
        figures: All that was measured last, by name, such as `eval_loss`.
        begin: When it began, in seconds since 1970.
        seconds: How long it was worked on, over all attempts.
        attempts: How often it was begun.
        worker: Who worked on it last.
        parameters: Weights of the network; None where none could be built.
        macs: Multiply-adds of one image; None in the same way.
        reason: Why it has no score, for a person.
    """

    id: str
    kind: Kind
    values: dict[str, Any]
    seed: int
    epochs: int
    continues: str | None = None
    first_epoch: int = 0
    repeats: str | None = None
    state: State = "RUNNING"
    score: float | None = None
    objective: tuple[float | None, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    begin: float = 0.0
    seconds: float = 0.0
    attempts: int = 0
    worker: str = ""
    parameters: int | None = None
    macs: int | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether nobody works on it any more."""
        return self.state != "RUNNING"


@dataclass(frozen=True)
class Record:
    """A whole search.

    Args:
        algorithm: `"hyperband"`, `"bayesian"` or `"random"`.
        objective: What was judged, such as `"eval_accuracy"`.
        direction: Whether the greatest or the smallest is the best.
        space: The space, as `HyperParameters.get_config()["space"]`.
        epochs: Epochs of a whole training.
        seconds: Wall time of the search, over all processes that did it one after the other.
        best: The trial whose values won; None before the end.
        reason: Why that one, for a person.
        trials: All of them, in the order in which they began.
    """

    algorithm: str
    objective: str
    direction: Literal["min", "max"]
    space: list[dict[str, Any]]
    epochs: int
    seconds: float
    best: str | None
    reason: str
    trials: tuple[Trial, ...]


def read(path: Path) -> Record:
    """Returns the search that a file records, one that has ended or, in its state, one under way.

    Raises:
        DataError: It is not there, or is no such file.
    """
    try:
        found = json.loads(path.read_bytes())
        return TypeAdapter(Record).validate_python(found.get("record", found))
    except (OSError, ValueError, AttributeError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(f"{path}: is no record of a search ({said}); run Tuner again") from None
