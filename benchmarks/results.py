"""What was measured: medians, spreads, ratios, and the JSON that holds them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.plan import Aim, Case

# Goes up when a field changes its meaning or goes away.
SCHEMA = 1
MEASURED, UNAVAILABLE, FAILED = "measured", "unavailable", "failed"


@dataclass
class Measured:
    """A side of a case, and what it has done so far.

    Args:
        name: Of the side.
        aim: Of the side, as JSON; None without.
        status: `measured`, `unavailable` or `failed`.
        reason: Why it was not measured.
        making: Seconds that it took to be made.
        versions: By distribution.
        turns: Records of `benchmarks.side.measured`, in the order of the rounds.
    """

    name: str
    aim: dict[str, Any] | None
    status: str = MEASURED
    reason: str = ""
    making: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns `median`, `low` and `high`, the least and the greatest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summary(side: Measured) -> dict[str, Any] | None:
    """Returns what a side's turns say, or None where there is none.

    Returns:
        `rate` (units per wall second), `wall` and `cpu` (seconds for a unit), and each of
        `figures`, as of `spread`; `memory` and `gpu_memory`, peaks in bytes.
    """
    if not side.turns:
        return None
    told = [turn["gpu_memory"] for turn in side.turns if turn["gpu_memory"] is not None]
    names = dict.fromkeys(name for turn in side.turns for name in turn["figures"])
    return {
        "rate": spread([turn["items"] / turn["wall"] for turn in side.turns]),
        "wall": spread([turn["wall"] / turn["items"] for turn in side.turns]),
        "cpu": spread([turn["cpu"] / turn["items"] for turn in side.turns]),
        "memory": max(turn["memory"] for turn in side.turns),
        "gpu_memory": max(told, default=None),
        "figures": {
            name: spread([turn["figures"][name] for turn in side.turns if name in turn["figures"]])
            for name in names
        },
    }


def comparison(ours: Measured, other: Measured) -> dict[str, Any] | None:
    """Returns how many times as fast as another side ours is, round by round.

    Returns:
        `ratio` by wall and `cpu_ratio` by CPU time, and `extra`, the wall seconds that a unit takes
        us more, as of `spread`; None where one of the two has no turn.
    """
    rounds = list(zip(ours.turns, other.turns, strict=False))
    if not rounds:
        return None
    return {
        "side": other.name,
        "ratio": spread([_each(b, "wall") / _each(a, "wall") for a, b in rounds]),
        "cpu_ratio": spread([_each(b, "cpu") / _each(a, "cpu") for a, b in rounds]),
        "extra": spread([_each(a, "wall") - _each(b, "wall") for a, b in rounds]),
        "cpu_extra": spread([_each(a, "cpu") - _each(b, "cpu") for a, b in rounds]),
    }


def _each(turn: dict[str, Any], clock: str) -> float:
    """Returns seconds for a unit."""
    return turn[clock] / turn["items"]


def verdict(case: dict[str, Any], side: dict[str, Any]) -> dict[str, Any] | None:
    """Returns `wanted` and `found`, numbers, and `met`, for the aim of a side of `as_json`.

    None where it has no aim, or not what that needs was measured.
    """
    aim = side["aim"]
    if aim is None or side["summary"] is None:
        return None
    if aim["seconds"] is not None:
        found = side["summary"][aim["by"]]["median"]
        return {"wanted": aim["seconds"], "found": found, "met": found <= aim["seconds"]}
    compared = next((one for one in case["comparisons"] if one["side"] == side["name"]), None)
    if compared is None:
        return None
    by = "cpu_" if aim["by"] == "cpu" else ""
    if aim["ratio"] is not None:
        found = compared[f"{by}ratio"]["median"]
        return {"wanted": aim["ratio"], "found": found, "met": found >= aim["ratio"]}
    found = compared[f"{by}extra"]["median"]
    return {"wanted": aim["extra_seconds"], "found": found, "met": found <= aim["extra_seconds"]}


def aim_as_json(aim: Aim | None) -> dict[str, Any] | None:
    """Returns the fields of an aim."""
    return None if aim is None else dict(vars(aim))


def case_as_json(case: Case, sides: Sequence[Measured]) -> dict[str, Any]:
    """Returns a case with its turns and what they say, as the JSON file has it."""
    ours, *others = sides
    compared = [comparison(ours, other) for other in others]
    found: dict[str, Any] = {
        "name": case.name,
        "unit": case.unit,
        "show": case.show,
        "note": case.note,
        "sides": [{**vars(side), "summary": summary(side)} for side in sides],
        "comparisons": [one for one in compared if one is not None],
    }
    for side in found["sides"]:
        side["verdict"] = verdict(found, side)
    return found


def failures(found: dict[str, Any]) -> list[str]:
    """Returns a line for each side that failed; `found` is the whole JSON."""
    return [
        f"{benchmark['name']}, {case['name']}, {side['name']}: {side['reason']}"
        for benchmark in found["benchmarks"]
        for case in benchmark["cases"]
        for side in case["sides"]
        if side["status"] == FAILED
    ]
