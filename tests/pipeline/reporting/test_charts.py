import re
from collections import Counter
from itertools import pairwise

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.reporting import charts


def _points(path):
    return [tuple(map(float, pair.split())) for pair in re.split("[MLZ]", path) if pair]


def _area(path):
    """The area between a stepped line and the ground, by the shoelace formula."""
    points = _points(path)
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x * v - u * y for (x, y), (u, v) in pairs)) / 2


@pytest.mark.parametrize("doublings", [False, True])
def test_splits_of_any_size_are_drawn_to_the_same_area(doublings):
    drawn = charts.overlay(
        {
            "train": [(16, 32, 9000), (32, 64, 700), (64, 128, 300)],
            "eval": [(32, 64, 1), (64, 128, 2)],
        },
        doublings,
    )
    assert [curve.name for curve in drawn.curves] == ["train", "eval"]
    train, evaluation = (_area(curve.area) for curve in drawn.curves)
    assert train == pytest.approx(evaluation, rel=0.01)
    tops = [min(y for _, y in _points(curve.line)) for curve in drawn.curves]
    assert min(tops) == 0  # the highest step fills the drawing


def test_a_step_stands_over_its_bucket_on_an_axis_of_doublings():
    drawn = charts.overlay({"train": [(16, 32, 1), (32, 64, 0), (64, 256, 1)]}, True)
    places = [x for x, _ in _points(drawn.curves[0].line)]
    quarter = charts.WIDTH / 4  # of four doublings
    assert places == [0, 0, quarter, quarter, 2 * quarter, 2 * quarter, 4 * quarter, 4 * quarter]


def test_buckets_too_narrow_to_be_seen_are_joined_and_nothing_is_lost():
    buckets = [(i / 1000, (i + 1) / 1000, 1) for i in range(1000)] + [(1, 1 << 20, 1000)]
    drawn = charts.overlay({"train": buckets, "eval": [(1, 1 << 20, 5)]}, True)
    lines = [_points(curve.line) for curve in drawn.curves]
    places = sorted({x for x, _ in lines[0]})
    assert min(b - a for a, b in pairwise(places)) >= 6
    areas = [_area(curve.area) for curve in drawn.curves]
    assert areas[0] == pytest.approx(areas[1], rel=0.01)


def test_nothing_to_draw_draws_nothing():
    assert charts.overlay({}, True) is None
    assert charts.overlay({"train": []}, True) is None
    assert charts.overlay({"train": [(1, 2, 0)]}, False) is None
    assert charts.overlay({"train": [(5, 5, 3)]}, False) is None


@pytest.mark.parametrize("doublings", [False, True])
@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 256), (384, 512), (0.5, 2), (0, 350_000), (1, 1e12), (0.001, 0.002), (120.0, 120.5)],
)
def test_ticks_are_few_round_and_on_the_axis(low, high, doublings):
    scale = charts.Scale(low, high, 100.0, doublings)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    places = [tick.at for tick in ticks]
    assert places == sorted(set(places))
    assert all(0 <= place <= 100 for place in places)
    for tick in ticks:
        assert low <= tick.value <= high
        assert len(f"{tick.value:.4g}".strip("0.").replace(".", "").split("e")[0].rstrip("0")) <= 4


def test_scatter_places_sizes_and_grows_with_their_number():
    drawn = charts.scatter(
        Counter({("train", 100, 200): 400, ("eval", 200, 100): 4, ("train", 100, 100): 100})
    )
    by_size = {(dot.split, dot.width, dot.height): dot for dot in drawn.dots}
    tall, wide = by_size["train", 100, 200], by_size["eval", 200, 100]
    square = by_size["train", 100, 100]
    assert (tall.x, wide.y) == (square.x, square.y)
    assert tall.x == pytest.approx(charts.SQUARE - wide.y)
    assert wide.x > square.x
    assert tall.y < square.y  # higher images are drawn higher
    assert tall.radius == pytest.approx(2 * square.radius)  # four times the area
    assert [dot.count for dot in drawn.dots] == [400, 100, 4]


def test_the_skyline_falls_from_the_largest_class():
    heights = [y for _, y in _points(charts.skyline([1, 5, 3]))]
    tops = heights[1:-1:2]
    assert tops == sorted(tops)
    assert tops[0] == 0
    assert charts.skyline([0, 0])


def test_the_standard_histogram_is_read_and_no_other():
    stats = statistics_pb2.NumericStatistics()
    for kind, low in (
        (statistics_pb2.Histogram.QUANTILES, 7),
        (statistics_pb2.Histogram.STANDARD, 1),
    ):
        stats.histograms.add(type=kind).buckets.add(low_value=low, high_value=8, sample_count=3)
    assert charts.histogram(stats) == [(1, 8, 3)]
