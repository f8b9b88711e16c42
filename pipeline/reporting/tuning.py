"""What the page about a run shows of a search for hyperparameters."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.reporting import tuning_charts as drawing
from pipeline.reporting.tuning_charts import Bar, Plane
from pipeline.reporting.tuning_parallel import Parallel, parallel
from pipeline.tuning import importance, trial
from pipeline.tuning.importance import Importance
from pipeline.tuning.trial import Record, Trial

# Where less is explained of scores that were not seen, what is drawn is a hint at most.
LEAST_EXPLAINED = 0.1

_MOST_REASONS = 20


@dataclass(frozen=True)
class Value:
    """One key: what is configured, and what won."""

    key: str
    configured: str
    best: str

    @property
    def changed(self) -> bool:
        """Whether another value won."""
        return self.configured != self.best


@dataclass(frozen=True)
class Final:
    """Values that were trained with several seeds.

    Args:
        id: The trial that had them first.
        name: What they are to a person.
        won: Whether these values are taken.
        first: The score in the search, which luck has chosen.
        scores: Of each further seed.
        mean: Of these; `–` where none has a score.
        error: Its standard error; empty with a single score.
    """

    id: str
    name: str
    won: bool
    first: str
    scores: tuple[str, ...]
    mean: str
    error: str


@dataclass(frozen=True)
class Ended:
    """Why trials have no score, and which."""

    state: str
    reason: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A search as the page shows it.

    Args:
        record: The search.
        states: How many trials ended in each way.
        epochs: Trained in all.
        kept: Whether the configuration won.
        values: What won, by key.
        finals: What was trained with several seeds.
        without: Why trials have no score.
        more: Reasons that are not shown.
        rows: The trials, the best first.
        parallel: Every trial over an axis for each key, or None.
        progress: The best so far over the time, or None.
        costs: Score against operations, or None.
        macs: Operations of the networks where all cost the same.
        importance: What the score depends on, or None.
        bars: The same, drawn.
        unsure: Whether it explains too little to be more than a hint.
    """

    record: Record
    states: dict[str, int]
    epochs: int
    kept: bool
    values: tuple[Value, ...]
    finals: tuple[Final, ...]
    without: tuple[Ended, ...]
    more: int
    rows: tuple[Trial, ...]
    parallel: Parallel | None
    progress: Plane | None
    costs: Plane | None
    macs: int | None
    importance: Importance | None
    bars: tuple[Bar, ...]
    unsure: bool


def read(results: Path) -> Summary:
    """Reads a search.

    Args:
        results: A TunerResults artifact, or what a stopped search has left of one.

    Raises:
        DataError: It is damaged.
    """
    return summarize(trial.read(results / trial.RECORD))


def summarize(record: Record) -> Summary:
    """Returns what is shown of a search."""
    found = importance.measure(record)
    sign = drawing.sign(record)
    ended = [one for one in record.trials if one.ended]
    scored = [one for one in ended if one.score is not None]
    reasons = _without(ended)
    macs = {one.macs for one in scored if one.macs}
    return Summary(
        record=record,
        states=dict(Counter(one.state for one in record.trials)),
        epochs=sum(len(one.objective) for one in record.trials),
        kept=any(one.kind == "default" and one.id == record.best for one in ended),
        values=_values(record),
        finals=_finals(record),
        without=reasons[:_MOST_REASONS],
        more=max(0, len(reasons) - _MOST_REASONS),
        rows=(
            *sorted(scored, key=lambda one: -sign * one.score),
            *(one for one in ended if one.score is None),
        ),
        parallel=parallel(record),
        progress=drawing.progress(record),
        costs=drawing.costs(record),
        macs=next(iter(macs)) if len(macs) == 1 else None,
        importance=found,
        bars=drawing.bars(found) if found else (),
        unsure=bool(found) and found.explained < LEAST_EXPLAINED,
    )


def _values(record: Record) -> tuple[Value, ...]:
    best = _by_id(record).get(record.best)
    default = next((one for one in record.trials if one.kind == "default"), None)
    if best is None:
        return ()
    configured = default.values if default else {}
    return tuple(
        Value(key, _shown(configured, key), _shown(best.values, key))
        for key in dict.fromkeys((*best.values, *configured))
    )


def _shown(values: dict[str, Any], key: str) -> str:
    return drawing.shown(values[key]) if key in values else "not set"


def _by_id(record: Record) -> dict[str | None, Trial]:
    return {one.id: one for one in record.trials}


def _finals(record: Record) -> tuple[Final, ...]:
    by_id = _by_id(record)
    repeated = [one for one in record.trials if one.repeats in by_id]
    found = []
    for id_ in dict.fromkeys(one.repeats for one in repeated):
        first = by_id[id_]
        again = [one.score for one in repeated if one.repeats == id_]
        scores = [score for score in again if score is not None]
        error = _error(scores)
        found.append(
            Final(
                id_,
                "as configured" if first.kind == "default" else f"trial {id_}",
                id_ == record.best,
                drawing.objective(record, first.score),
                tuple(drawing.objective(record, score) for score in again),
                drawing.objective(record, statistics.fmean(scores) if scores else None),
                "" if error is None else drawing.objective(record, error),
            )
        )
    return tuple(found)


def _error(scores: Sequence[float]) -> float | None:
    return statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else None


def _without(ended: Sequence[Trial]) -> tuple[Ended, ...]:
    """Returns the reasons of trials without a score, those of most trials first."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in ended:
        if one.score is None:
            found.setdefault((one.state, one.reason), []).append(one.id)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
    return tuple(Ended(state, reason, tuple(ids)) for (state, reason), ids in ranked)
