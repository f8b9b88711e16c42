"""The geometry of the drawings of a search: numbers in, coordinates and SVG paths out; see `charts`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting import page
from pipeline.reporting.charts import Scale
from pipeline.tuning.importance import Importance
from pipeline.tuning.trial import Record, Trial

WIDTH, HEIGHT = 320.0, 190.0
BAR = 300.0

_ROOM = 0.05
_RANGE = 4.0  # costs that differ by more are drawn by doublings


@dataclass(frozen=True)
class Mark:
    """A value on an axis, and how it is written."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A trial as a point.

    Args:
        x: Where it is.
        y: The same.
        kind: `"best"`, `"default"`, `"search"`, `"final"`, or the state of one without a score.
        title: What it was and what came out.
    """

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True)
class Plane:
    """Trials as points, and a line of the best of them.

    Args:
        points: The best last.
        path: SVG of the line: the best so far, or the Pareto front.
        level: Where the configuration as it is lies; None where it has no score.
        x_ticks: Time, or multiply-accumulate operations.
        y_ticks: The objective.
        unit: Of the axis to the right.
    """

    points: tuple[Point, ...]
    path: str
    level: float | None
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    unit: str


@dataclass(frozen=True)
class Bar:
    """The importance of one key: the length of its bar, and where its error begins and ends.

    Where it is less than its error, it is not told from nothing.
    """

    key: str
    drop: float
    error: float
    length: float
    low: float
    high: float


def objective(record: Record, value: float | None) -> str:
    """Returns a value of the objective for a person; accuracies in percent."""
    if value is None:
        return "–"
    return f"{value:.2%}" if "accuracy" in record.objective else f"{value:.4g}"


def objective_tick(record: Record, value: float) -> str:
    """Returns a round value of the objective for an axis."""
    return f"{100 * value:.4g} %" if "accuracy" in record.objective else f"{value:.4g}"


def shown(value: Any) -> str:
    """Returns the value of a field for a person."""
    if type(value) in (int, float):
        return f"{value:.3g}" if value != round(value) else f"{value:.0f}"
    return value if isinstance(value, str) else json.dumps(value)


def counted(number: float) -> str:
    """Returns a large number as the configuration takes it, such as 12.2M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def title(record: Record, trial: Trial) -> str:
    """Returns what a trial was and what came out, in lines."""
    came = objective(record, trial.score) if trial.score is not None else trial.reason
    values = [f"{key}: {shown(value)}" for key, value in trial.values.items()]
    return "\n".join((f"trial {trial.id}, {trial.epochs} epochs: {came}", *values))


def progress(record: Record) -> Plane | None:
    """Draws the score of each trial where it ended, and the best so far; None without a score.

    Times when no trial was under way, as after the search was killed, are left out. Trainings with
    other seeds, which come after the search, are no part of it.
    """
    tried = [trial for trial in record.trials if trial.kind != "final" and trial.ended]
    scored = [trial for trial in tried if trial.score is not None]
    if not scored:
        return None
    ends = dict(zip((one.id for one in tried), _worked(tried), strict=True))
    unit, length = _time_unit(max(ends.values()))
    across = Scale(0.0, max(ends.values()) / length or 1.0, WIDTH, doublings=False)
    upwards = upwards_of(record, [trial.score for trial in scored], HEIGHT)
    points, steps, best = [], [], None
    for trial in sorted(tried, key=lambda one: (ends[one.id], one.id)):
        x = across(ends[trial.id] / length)
        if trial.score is None:
            points.append(Point(x, HEIGHT, trial.state.lower(), title(record, trial)))
            continue
        y = round(HEIGHT - upwards(trial.score), 1)
        points.append(Point(x, y, kind_of(record, trial), title(record, trial)))
        if best is None or (trial.score - best) * sign(record) > 0:
            best = trial.score
            steps.append(f"M{x:g} {y:g}" if not steps else f"H{x:g}V{y:g}")
    return Plane(
        tuple(sorted(points, key=lambda point: point.kind == "best")),
        f"{''.join(steps)}H{WIDTH:g}",
        _level(record, upwards),
        tuple(Mark(tick.at, page.number(tick.value)) for tick in across.ticks()),
        _marks(record, upwards),
        unit,
    )


def costs(record: Record) -> Plane | None:
    """Draws score against operations, with the Pareto front.

    Only trials of the full length are compared, where there are some.

    Returns:
        The drawing, or None where all networks cost the same or the costs are not known.
    """
    known = [trial for trial in record.trials if trial.macs and trial.kind != "final"]
    scored = _whole(record, [trial for trial in known if trial.score is not None])
    if len({trial.macs for trial in scored}) < 2:
        return None
    shown_ones = [*scored, *(trial for trial in known if trial.state == "REJECTED")]
    macs = [trial.macs for trial in shown_ones]
    low, high = min(macs), max(macs)
    doublings = high > _RANGE * low
    room = (high / low) ** _ROOM if doublings else _ROOM * (high - low)
    ends = (low / room, high * room) if doublings else (low - room, high + room)
    across = Scale(*ends, WIDTH, doublings)
    upwards = upwards_of(record, [trial.score for trial in scored], HEIGHT)
    points = [
        Point(
            across(trial.macs),
            HEIGHT if trial.score is None else round(HEIGHT - upwards(trial.score), 1),
            trial.state.lower() if trial.score is None else kind_of(record, trial),
            f"{counted(trial.macs)} multiply-adds\n{title(record, trial)}",
        )
        for trial in shown_ones
    ]
    edge = [
        (across(trial.macs), round(HEIGHT - upwards(trial.score), 1))
        for trial in front(scored, record.direction)
    ]
    steps = [f"H{x:g}V{y:g}" for x, y in edge[1:]]
    return Plane(
        tuple(sorted(points, key=lambda point: point.kind == "best")),
        f"M{edge[0][0]:g} {HEIGHT:g}V{edge[0][1]:g}{''.join(steps)}H{WIDTH:g}",
        _level(record, upwards),
        tuple(Mark(tick.at, counted(tick.value)) for tick in across.ticks()),
        _marks(record, upwards),
        "multiply-adds per image",
    )


def front(trials: Sequence[Trial], direction: str) -> list[Trial]:
    """Returns the trials that none beats: a better one costs more, and a cheaper one is worse.

    Args:
        trials: With a score and a cost each.
        direction: Whether the greatest score is the best, `"max"`, or the least, `"min"`.
    """
    sign = 1 if direction == "max" else -1
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.macs, -sign * one.score)):
        if not found or sign * trial.score > sign * found[-1].score:
            found.append(trial)
    return found


def bars(found: Importance) -> tuple[Bar, ...]:
    """Draws how important each key is; what is below nothing is chance, and drawn as nothing."""
    top = max(max(share.drop + share.error for share in found.shares), 1e-9)

    def place(value: float) -> float:
        return round(BAR * max(0.0, value) / top, 1)

    return tuple(
        Bar(
            share.key,
            share.drop,
            share.error,
            place(share.drop),
            place(share.drop - share.error),
            place(share.drop + share.error),
        )
        for share in found.shares
    )


def sign(record: Record) -> int:
    """Returns what to multiply the objective with, so that the greatest is the best."""
    return 1 if record.direction == "max" else -1


def _whole(record: Record, trials: list[Trial]) -> list[Trial]:
    """Returns the trials of the full length, or all where there are not two of them."""
    whole = [trial for trial in trials if trial.epochs == record.epochs]
    return whole if len(whole) > 1 else trials


def kind_of(record: Record, trial: Trial) -> str:
    """Returns how a trial is drawn: see `Point`."""
    if trial.score is None:
        return trial.state.lower()
    return "best" if trial.id == record.best else trial.kind


def upwards_of(record: Record, scores: Sequence[float], length: float) -> Scale:
    """Returns the axis of the objective, with a little room at both ends."""
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    room = _ROOM * (high - low) or 0.01 * abs(high) or 1.0
    top = high + room
    if "accuracy" in record.objective and high < 1.0:
        top = min(1.0, top)
    return Scale(low - room, top, length, doublings=False)


def _level(record: Record, upwards: Scale) -> float | None:
    """Returns where the score of the configuration as it is lies."""
    own = next((one.score for one in record.trials if one.kind == "default"), None)
    return None if own is None else round(HEIGHT - upwards(own), 1)


def _marks(record: Record, upwards: Scale) -> tuple[Mark, ...]:
    return tuple(
        Mark(round(HEIGHT - tick.at, 1), objective_tick(record, tick.value))
        for tick in upwards.ticks()
    )


def _worked(trials: Sequence[Trial]) -> list[float]:
    """Returns when each trial ended, in seconds that any trial was under way."""
    spans = sorted((trial.begin, trial.begin + trial.seconds) for trial in trials)
    busy: list[tuple[float, float, float]] = []  # begin and end, and what was worked before
    for begin, end in spans:
        if busy and begin <= busy[-1][1]:
            first, last, before = busy[-1]
            busy[-1] = first, max(last, end), before
        else:
            before = busy[-1][2] + busy[-1][1] - busy[-1][0] if busy else 0.0
            busy.append((begin, end, before))

    def until(moment: float) -> float:
        first, last, before = next(one for one in reversed(busy) if one[0] <= moment)
        return before + min(moment, last) - first

    return [until(trial.begin + trial.seconds) for trial in trials]


def _time_unit(seconds: float) -> tuple[str, float]:
    """Returns the unit to count so long a time in, and its length in seconds."""
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 3 * length:
            return unit, length
    return "seconds", 1.0
