"""Where trials are drawn, against their definition by hand."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.reporting import tuning_charts as charts
from pipeline.reporting.tuning_charts import HEIGHT, WIDTH
from pipeline.reporting.tuning_parallel import BELOW, TALL, parallel
from pipeline.tuning.importance import Importance, Share
from pipeline.tuning.trial import Record, Trial
from tests.pipeline.tuning import records

_VALUES = records.proposed(1)[0]


def _record(*trials: Trial, **changes) -> Record:
    return dataclasses.replace(records.searched(1), trials=trials, best=None, **changes)


def _scored(number: int, score: float | None, **changes) -> Trial:
    state = "COMPLETED" if score is not None else "FAILED"
    given = {"score": score, "state": state, "reason": "" if score else "diverged"} | changes
    return records.trial(number, given.pop("values", _VALUES), **given)


_COSTS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=12)


@given(_COSTS, st.sampled_from(["min", "max"]))
def test_nothing_beats_what_is_on_the_front_and_something_beats_the_rest(
    costs: list[tuple[int, int]], direction: str
) -> None:
    trials = [_scored(n, float(score), macs=macs) for n, (macs, score) in enumerate(costs)]
    better = (lambda a, b: a > b) if direction == "max" else (lambda a, b: a < b)

    def beats(one: Trial, other: Trial) -> bool:
        cheaper = one.macs <= other.macs and not better(other.score, one.score)
        return cheaper and (one.macs < other.macs or better(one.score, other.score))

    found = charts.front(trials, direction)
    best = {(one.macs, one.score) for one in trials if not any(beats(two, one) for two in trials)}
    assert {(one.macs, one.score) for one in found} == best
    assert len(found) == len(best)
    assert [one.macs for one in found] == sorted(one.macs for one in found)


def test_the_best_so_far_is_a_line_that_only_improves() -> None:
    scores = [0.5, 0.4, 0.7, None, 0.6, 0.8]
    record = _record(
        *(_scored(n, score) for n, score in enumerate(scores)), _scored(9, 0.99, kind="final")
    )
    drawn = charts.progress(record)
    assert len(drawn.points) == 6  # the training with another seed is none of the search
    heights = {score: point.y for score, point in zip(scores, drawn.points, strict=True)}
    assert heights[None] == HEIGHT
    numbers = [float(text) for text in re.findall(r"[\d.]+", drawn.path)]
    xs = [point.x for point in drawn.points]
    assert numbers == [
        *(xs[0], heights[0.5], xs[2], heights[0.7], xs[5], heights[0.8], WIDTH),
    ]
    assert drawn.points[-1].x == WIDTH
    assert drawn.level is None


def test_what_is_smaller_is_better_where_that_is_asked_for() -> None:
    record = _record(
        *(_scored(n, score) for n, score in enumerate([0.5, 0.4, 0.7])),
        direction="min",
        objective="eval_loss",
    )
    drawn = charts.progress(record)
    assert drawn.path.count("V") == 1  # from 0.5 to 0.4
    lines = parallel(record).lines
    assert [line.heat for line in lines] == [0, 50, 100]
    assert "eval_loss" not in drawn.unit
    assert lines[-1].title.startswith("trial 0001, 3 epochs: 0.4")


def test_time_when_nothing_was_worked_on_is_left_out() -> None:
    """Killed after the second trial, and started again an hour later; two at a time."""
    begins = [(0, 10), (5, 10), (3600, 10), (3602, 18)]
    trials = [
        _scored(n, 0.5 + n / 100, begin=records.BEGIN + begin, seconds=float(seconds))
        for n, (begin, seconds) in enumerate(begins)
    ]
    drawn = charts.progress(_record(*trials))
    ends = [10, 15, 25, 35]  # 15 seconds before it was killed, and 20 after that
    assert [point.x for point in drawn.points] == [
        pytest.approx(WIDTH * end / 35, abs=0.1) for end in ends
    ]
    assert drawn.unit == "seconds"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(1, 60)), min_size=1, max_size=10, unique=True
    )
)
def test_the_time_that_was_worked_is_that_of_counting_seconds(spans: list[tuple[int, int]]) -> None:
    trials = [
        _scored(n, 0.5, begin=float(begin), seconds=float(length))
        for n, (begin, length) in enumerate(spans)
    ]
    busy = {second for begin, length in spans for second in range(begin, begin + length)}
    ends = [sum(second < begin + length for second in busy) for begin, length in spans]
    drawn = charts.progress(_record(*trials))
    assert [point.x for point in drawn.points] == [
        pytest.approx(WIDTH * end / len(busy), abs=0.1) for end in sorted(ends)
    ]


def test_costs_have_the_front_and_what_was_rejected() -> None:
    record = _record(
        _scored(0, 0.5, macs=10_000_000, kind="default"),
        _scored(1, 0.4, macs=20_000_000),
        _scored(2, 0.8, macs=80_000_000),
        _scored(3, None, macs=90_000_000, state="REJECTED"),
        _scored(4, None, macs=10_000_000, state="FAILED"),
        _scored(5, 0.9, macs=10_000_000, epochs=1),  # was not trained to its end
    )
    drawn = charts.costs(record)
    assert [point.kind for point in drawn.points] == ["default", "search", "search", "rejected"]
    default, _, best, rejected = drawn.points
    assert rejected.y == HEIGHT
    assert drawn.level == default.y
    assert drawn.path == (
        f"M{default.x:g} {HEIGHT:g}V{default.y:g}H{best.x:g}V{best.y:g}H{WIDTH:g}"
    )
    # From 10 to 90 millions they are drawn by doublings, and three of them are 80.
    second = drawn.points[1]
    assert best.x - default.x == pytest.approx(3 * (second.x - default.x), abs=0.3)
    assert [mark.text for mark in drawn.x_ticks] == ["10M", "30M", "100M"]


def test_costs_that_are_all_the_same_are_not_drawn() -> None:
    assert charts.costs(_record(_scored(0, 0.5, macs=5), _scored(1, 0.6, macs=5))) is None
    assert charts.costs(_record(_scored(0, 0.5, macs=None), _scored(1, 0.6, macs=5))) is None


def test_every_trial_crosses_the_axes_at_its_values() -> None:
    values = [
        {"learning_rate": 0.01, "model_arguments.depths": [1, 1, 1], "random_shift": 0},
        {"learning_rate": 0.1, "model_arguments.depths": [2, 2, 2]},
        {"learning_rate": 30.0, "model_arguments.depths": [3, 3, 3], "random_shift": 3},
    ]
    trials = [
        _scored(n, score, values=own)
        for n, (own, score) in enumerate(zip(values, (0.5, 0.7, None), strict=True))
    ]
    record = dataclasses.replace(_record(*trials), best="0001")
    drawn = parallel(record)
    assert [axis.key for axis in drawn.axes] == [*values[0], "eval_accuracy"]
    assert [axis.name for axis in drawn.axes] == [
        *("learning rate", "depths", "random shift", "eval accuracy")
    ]
    rate, depths, *_ = drawn.axes
    # What was configured lies beyond the range, and is on the axis still.
    assert [mark.text for mark in rate.marks] == ["0.001", "0.01", "0.1", "1", "10"]
    assert [mark.text for mark in depths.marks] == ["[1, 1, 1]", "[2, 2, 2]", "[3, 3, 3]"]
    assert [axis.low for axis in drawn.axes] == ["", "", "not set", "no score"]
    lines = {line.id: line for line in drawn.lines}
    assert [line.id for line in drawn.lines] == ["0002", "0000", "0001"]
    ends = {name: re.findall(r"[\d.]+ ([\d.]+)(?=C|$)", line.path) for name, line in lines.items()}
    heights = {name: [float(text) for text in found] for name, found in ends.items()}
    at = {mark.text: mark.at for mark in (*rate.marks, *depths.marks)}
    assert heights["0000"][:2] == [pytest.approx(at["0.01"], abs=0.1), at["[1, 1, 1]"]]
    assert heights["0001"][:2] == [pytest.approx(at["0.1"], abs=0.1), at["[2, 2, 2]"]]
    assert heights["0002"][0] == 0.0
    assert heights["0001"][2] == TALL + BELOW
    assert heights["0002"][3] == TALL + BELOW
    assert heights["0000"][3] > heights["0001"][3]
    assert {name: line.kind for name, line in lines.items()} == {
        "0000": "search",
        "0001": "best",
        "0002": "failed",
    }
    assert (lines["0000"].heat, lines["0001"].heat) == (0, 100)


def test_trials_of_the_same_choice_are_told_apart() -> None:
    record = records.searched(30)
    drawn = parallel(record)
    crossings = [re.findall(r"[\d.]+ ([\d.]+)(?=C|$)", line.path)[1] for line in drawn.lines]
    assert len(set(crossings)) > len(crossings) / 2
    marks = sorted(mark.at for mark in drawn.axes[1].marks)
    for height in map(float, crossings):
        assert min(abs(height - mark) for mark in marks) < (marks[1] - marks[0]) / 2


def test_of_too_many_trials_the_best_are_drawn() -> None:
    record = _record(*(_scored(n, n / 1000) for n in range(310)))
    drawn = parallel(record)
    assert drawn.left_out == 10
    assert [line.id for line in drawn.lines] == [f"{n:04}" for n in range(10, 310)]


def test_bars_are_as_long_as_what_they_mean() -> None:
    shares = (Share("a", 1.5, 0.5), Share("b", 0.25, 0.5), Share("c", -0.1, 0.05))
    found = charts.bars(Importance(shares, 0.8, 20))
    assert [(bar.low, bar.length, bar.high) for bar in found] == [
        (150.0, 225.0, 300.0),
        (0.0, 37.5, 112.5),
        (0.0, 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.333"),
        (1e-5, "1e-05"),
        (2.0, "2"),
        (128, "128"),
        (True, "true"),
        (None, "null"),
        ([1, 2], "[1, 2]"),
        ("sgd", "sgd"),
    ],
)
def test_values_are_shown_as_the_configuration_has_them(value: object, text: str) -> None:
    assert charts.shown(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(12_239_488, "12.2M"), (4.1e9, "4.1G"), (271, "271"), (75_770, "75.8k")]
)
def test_counts_are_short(number: float, text: str) -> None:
    assert charts.counted(number) == text


def test_scores_of_all_sizes_can_be_drawn() -> None:
    for scores in ([1.0], [0.0], [0.5, 0.5], [1.0, 0.0], [1e-9, 2e-9], [-3.0, 7e5]):
        for objective in ("eval_accuracy", "eval_loss"):
            record = _record(
                *(_scored(n, score) for n, score in enumerate(scores)), objective=objective
            )
            drawn = charts.progress(record)
            assert all(0 <= point.y <= HEIGHT and 0 <= point.x <= WIDTH for point in drawn.points)
            assert parallel(record).lines
    assert charts.progress(_record(_scored(0, None))) is None
    assert parallel(_record(_scored(0, None))).lines
    assert parallel(_record()) is None
