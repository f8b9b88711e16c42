"""The geometry of parallel coordinates: every trial of a search as a line over its values."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting.charts import Scale
from pipeline.reporting.tuning_charts import (
    Mark,
    kind_of,
    objective_tick,
    shown,
    sign,
    title,
    upwards_of,
)
from pipeline.tuning.trial import Record, Trial

TALL = 270.0
# Below the axes: where what is not set, or has no score, goes.
BELOW = 26.0

# Of the whole drawing, and between two axes at least and at most.
_WIDTH, _GAPS = 960.0, (128.0, 260.0)
_SPREAD = 9.0  # of the trials of one choice, times the root of their number
_FEW = 12  # whole numbers that are drawn as choices
_LONGEST = 18  # characters of a name
_LONGEST_TICK = 14
_MOST_LINES = 300


@dataclass(frozen=True)
class Axis:
    """A key of the space, or the objective as the last one.

    Args:
        key: Its whole name.
        name: As much of it as there is room for.
        x: Where it stands.
        marks: Values on it.
        low: What the place below the axis means; empty where nothing is there.
    """

    key: str
    name: str
    x: float
    marks: tuple[Mark, ...]
    low: str


@dataclass(frozen=True)
class Line:
    """A trial across all axes.

    Args:
        id: Of the trial.
        path: SVG.
        kind: As that of a `Point`.
        heat: From 0 for the worst score to 100 for the best.
        title: What it was and what came out.
    """

    id: str
    path: str
    kind: str
    heat: int
    title: str


@dataclass(frozen=True)
class Parallel:
    """Every trial as a line over an axis for each key.

    Args:
        axes: From left to right.
        lines: The best last, so that none covers it.
        width: Of the drawing.
        left_out: Trials that are too many to draw, the worst.
    """

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    width: float
    left_out: int


def parallel(record: Record) -> Parallel | None:
    """Draws every trial over an axis for each key; None where nothing was searched."""
    trials = _ranked(record)
    keys = list(dict.fromkeys(entry["config"]["name"] for entry in record.space))
    if not trials or not keys:
        return None
    left_out = max(0, len(trials) - _MOST_LINES)
    trials = trials[left_out:]
    places = [_places(record, key, trials) for key in keys]
    scores = [trial.score for trial in trials if trial.score is not None]
    upwards = upwards_of(record, scores, TALL)
    lasts = [None if trial.score is None else upwards(trial.score) for trial in trials]
    ticks = [
        Mark(round(TALL - tick.at, 1), objective_tick(record, tick.value))
        for tick in upwards.ticks()
    ]
    places.append(([None if at is None else TALL - at for at in lasts], tuple(ticks)))
    gap = min(max(_WIDTH / len(keys), _GAPS[0]), _GAPS[1])
    axes, ys = [], []
    for number, (key, (at, marks)) in enumerate(
        zip([*keys, record.objective], places, strict=True)
    ):
        low = "no score" if number == len(keys) else "not set"
        below = low if None in at else ""
        axes.append(Axis(key, _name(key), round(gap * number, 1), marks, below))
        ys.append([TALL + BELOW if one is None else round(one, 1) for one in at])
    lines = [
        Line(
            trial.id,
            _across([axis.x for axis in axes], across),
            kind_of(record, trial),
            heat,
            title(record, trial),
        )
        for trial, across, heat in zip(
            trials, zip(*ys, strict=True), _heats(record, trials), strict=True
        )
    ]
    return Parallel(tuple(axes), tuple(lines), round(gap * len(keys), 1), left_out)


def _ranked(record: Record) -> list[Trial]:
    """Returns the trials that ended, those without a score first and the best last."""
    tried = [trial for trial in record.trials if trial.ended and trial.kind != "final"]

    def rank(trial: Trial) -> tuple[bool, bool, float]:
        score = -math.inf if trial.score is None else sign(record) * trial.score
        return trial.id == record.best, trial.score is not None, score

    return sorted(tried, key=rank)


def _heats(record: Record, trials: Sequence[Trial]) -> list[int]:
    """Returns the rank of each trial among those with a score, from 0 to 100."""
    scores = sorted({sign(record) * trial.score for trial in trials if trial.score is not None})
    place = {score: round(100 * n / max(1, len(scores) - 1)) for n, score in enumerate(scores)}
    return [0 if one.score is None else place[sign(record) * one.score] for one in trials]


def _name(key: str) -> str:
    last = key.rpartition(".")[2].replace("_", " ")
    return last if len(last) <= _LONGEST else f"{last[: _LONGEST - 1]}…"


def _across(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Returns a smooth line that meets each axis at a right angle."""
    path = [f"M{xs[0]:g} {ys[0]:g}"]
    for before, x, y, last in zip(xs, xs[1:], ys[1:], ys, strict=False):
        middle = (before + x) / 2
        path.append(f"C{middle:g} {last:g} {middle:g} {y:g} {x:g} {y:g}")
    return "".join(path)


def _places(
    record: Record, key: str, trials: Sequence[Trial]
) -> tuple[list[float | None], tuple[Mark, ...]]:
    """Returns where the values of a key are on its axis, and what is written beside it."""
    entries = [entry for entry in record.space if entry["config"]["name"] == key]
    given = [trial.values[key] for trial in trials if key in trial.values]
    chosen = [_choices(entry) for entry in entries]
    if None in chosen and all(type(value) in (int, float) for value in given):
        return _on_range(key, [own["config"] for own in entries if not _choices(own)], trials)
    return _on_steps(key, [value for own in chosen for value in own or ()], trials)


def _choices(entry: dict[str, Any]) -> list[Any] | None:
    """Returns the values of a choice or of a few whole numbers; None for a range."""
    own = entry["config"]
    if entry["class_name"] == "Choice":
        return [_decoded(value) for value in own["values"]]
    if entry["class_name"] == "Int" and own["max_value"] - own["min_value"] <= _FEW:
        return list(range(own["min_value"], own["max_value"] + 1))
    return None


def _on_range(
    key: str, ranges: Sequence[dict[str, Any]], trials: Sequence[Trial]
) -> tuple[list[float | None], tuple[Mark, ...]]:
    # What is configured may lie outside of what is searched.
    given = [trial.values[key] for trial in trials if key in trial.values]
    low = min([*(own["min_value"] for own in ranges), *given])
    high = max([*(own["max_value"] for own in ranges), *given])
    doublings = low > 0 and any(own.get("sampling") == "log" for own in ranges)
    scale = Scale(low, high, TALL, doublings)
    at = [TALL - scale(one.values[key]) if key in one.values else None for one in trials]
    marks = tuple(Mark(round(TALL - tick.at, 1), shown(tick.value)) for tick in scale.ticks())
    return at, marks


def _on_steps(
    key: str, chosen: Sequence[Any], trials: Sequence[Trial]
) -> tuple[list[float | None], tuple[Mark, ...]]:
    """Places choices at equal distances, and the trials of each a little apart."""
    given = [trial.values[key] for trial in trials if key in trial.values]
    texts = list(dict.fromkeys(map(shown, [*chosen, *given])))
    if all(type(value) in (int, float) for value in [*chosen, *given]):
        texts = [shown(value) for value in sorted({*chosen, *given})]
    step = TALL / len(texts)
    middles = {text: TALL - step * (number + 0.5) for number, text in enumerate(texts)}
    own: dict[str, list[int]] = {text: [] for text in texts}
    for number, trial in enumerate(trials):
        if key in trial.values:
            own[shown(trial.values[key])].append(number)
    at: list[float | None] = [None] * len(trials)
    for text, numbers in own.items():
        room = min(0.6 * step, _SPREAD * math.sqrt(len(numbers)))
        for place, number in enumerate(numbers):
            share = place / (len(numbers) - 1) - 0.5 if len(numbers) > 1 else 0.0
            at[number] = middles[text] - room * share
    marks = tuple(
        Mark(
            round(middle, 1),
            text if len(text) <= _LONGEST_TICK else f"{text[: _LONGEST_TICK - 1]}…",
        )
        for text, middle in middles.items()
    )
    return at, marks


def _decoded(value: Any) -> Any:
    """Returns what Keras Tuner has as JSON because it knows no lists and no null."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
