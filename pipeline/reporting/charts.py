"""The geometry of the drawings: numbers in, coordinates and SVG paths out.

All coordinates are in units of the drawing's `viewBox`, with y downwards.
"""

import bisect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tensorflow_metadata.proto.v0 import statistics_pb2

WIDTH, HEIGHT = 320.0, 104.0
SQUARE = 300.0

_NARROWEST = 6.0
_MOST_TICKS = 6
_LEAST_TICKS = 3
_LEADS = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + step / 4 for step in range(36)))
_DOT, _LARGEST_DOT = 2.5, 16.0
_MOST_DOTS = 1000

Histogram = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is and the value there."""

    at: float
    value: float


@dataclass(frozen=True)
class Curve:
    """One histogram as a stepped line, and the area below it."""

    name: str
    line: str
    area: str


@dataclass(frozen=True)
class Overlay:
    """Histograms over each other, each of the same area."""

    curves: tuple[Curve, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Dot:
    """Images of one size in one split."""

    x: float
    y: float
    radius: float
    split: str
    width: int
    height: int
    count: int


@dataclass(frozen=True)
class Scatter:
    """Width to the right and height upwards, both by doublings and in the same measure.

    Args:
        dots: The commonest, the larger ones first, so that none is covered.
        x_ticks: Of the width.
        y_ticks: Of the height.
        diagonal: Both ends of the line of squares: x, y, x, y.
    """

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    diagonal: tuple[float, float, float, float]


class Scale:
    """Places values on an axis, linearly or by doublings.

    Args:
        low: The value at the beginning.
        high: The value at the end, greater than `low`.
        length: Where the end is; the beginning is at 0.
        doublings: Whether each doubling takes the same room; then with zero, one is added to all.
    """

    def __init__(self, low: float, high: float, length: float, doublings: bool):
        self._values = low, high
        self._length = length
        shift = 1.0 if low <= 0 else 0.0
        self._place: Callable[[float], float] = (
            (lambda value: math.log2(value + shift)) if doublings else float
        )
        self._doublings = doublings
        self._low, self._high = self._place(low), self._place(high)

    def __call__(self, value: float) -> float:
        """Returns where `value` is, to a tenth."""
        share = (self._place(value) - self._low) / (self._high - self._low)
        return round(share * self._length, 1)

    def ticks(self) -> tuple[Tick, ...]:
        """Returns three to six round values, or fewer where there are none."""
        low, high = self._values
        candidates = _by_doublings(low, high) if self._doublings else _linear(low, high)
        chosen: list[float] = []
        for values in candidates:
            inside = [value for value in values if low <= value <= high]
            if len(inside) > _MOST_TICKS:
                break
            chosen = inside
            if len(chosen) >= _LEAST_TICKS:
                break
        return tuple(Tick(self(value), value) for value in chosen)


def _by_doublings(low: float, high: float) -> Iterator[Iterable[float]]:
    """Yields ever more round values that are about as far apart on an axis of doublings."""
    first = math.floor(math.log10(low)) if low > 0 else 0
    last = math.ceil(math.log10(high))
    for step in range(max(1, (last - first) // 3), 0, -1):
        yield [10.0**power for power in range(first, last + 1, step)]
    for leads in _LEADS:
        yield [lead * 10.0**power for power in range(first, last + 1) for lead in leads]
    yield from _linear(low, high)


def _linear(low: float, high: float) -> Iterator[Iterable[float]]:
    """Yields ever more round values at equal distances."""
    power = math.floor(math.log10(high - low))
    for step in (5 * 10.0**power, 2 * 10.0**power, 10.0**power, 5 * 10.0 ** (power - 1)):
        first, last = math.ceil(low / step), math.floor(high / step)
        yield [step * number for number in range(first, last + 1)]


def histogram(stats: statistics_pb2.NumericStatistics) -> Histogram:
    """Returns low value, high value and count of each bucket of the standard histogram."""
    return [
        (bucket.low_value, bucket.high_value, bucket.sample_count)
        for found in stats.histograms
        if found.type == statistics_pb2.Histogram.STANDARD
        for bucket in found.buckets
    ]


def overlay(histograms: Mapping[str, Histogram], doublings: bool) -> Overlay | None:
    """Draws histograms over each other; None where there is nothing to draw.

    Each is scaled to the same area, so that splits of different sizes can be compared. Buckets too
    narrow to be seen are joined.

    Args:
        histograms: Name to buckets in ascending order.
        doublings: Whether the axis is one of doublings.
    """
    filled = {name: buckets for name, buckets in histograms.items() if _total(buckets)}
    edges = sorted(
        {edge for buckets in filled.values() for low, high, _ in buckets for edge in (low, high)}
    )
    if len(edges) < 2:
        return None
    scale = Scale(edges[0], edges[-1], WIDTH, doublings)
    edges = _apart(edges, scale)
    shares = {name: _shares(buckets, edges) for name, buckets in filled.items()}
    rooms = [scale(high) - scale(low) for low, high in pairwise(edges)]
    top = max(
        share / room for own in shares.values() for share, room in zip(own, rooms, strict=True)
    )
    curves = []
    for name, own in shares.items():
        points = [(scale(edges[0]), HEIGHT)]
        for (low, high), share, room in zip(pairwise(edges), own, rooms, strict=True):
            y = round(HEIGHT * (1 - share / room / top), 1)
            points += [(scale(low), y), (scale(high), y)]
        points.append((scale(edges[-1]), HEIGHT))
        line = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        curves.append(Curve(name, line, f"{line}Z"))
    return Overlay(tuple(curves), scale.ticks())


def _apart(edges: list[float], scale: Scale) -> list[float]:
    """Returns the edges without those that are too near to the one before, or to the last."""
    kept = [edges[0]]
    for edge in edges[1:-1]:
        if scale(edge) - scale(kept[-1]) >= _NARROWEST <= WIDTH - scale(edge):
            kept.append(edge)
    return [*kept, edges[-1]]


def _shares(buckets: Histogram, edges: list[float]) -> list[float]:
    """Returns which share of all lies from one edge to the next."""
    shares = [0.0] * (len(edges) - 1)
    total = _total(buckets)
    for low, high, count in buckets:
        middle = bisect.bisect_right(edges, (low + high) / 2) - 1
        shares[min(middle, len(shares) - 1)] += count / total
    return shares


def scatter(sizes: Counter[tuple[str, int, int]]) -> Scatter:
    """Draws how often each split, width and height was seen.

    Args:
        sizes: Not empty.
    """
    sides = [side for _, width, height in sizes for side in (width, height)]
    low, high = min(sides) / 1.25, max(sides) * 1.25
    scale = Scale(low, high, SQUARE, doublings=True)
    most = max(sizes.values())
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    dots = tuple(
        Dot(
            scale(width),
            round(SQUARE - scale(height), 1),
            round(max(_DOT, _LARGEST_DOT * math.sqrt(count / most)), 1),
            split,
            width,
            height,
            count,
        )
        for (split, width, height), count in ranked[:_MOST_DOTS]
    )
    ticks = scale.ticks()
    upwards = tuple(Tick(round(SQUARE - tick.at, 1), tick.value) for tick in ticks)
    return Scatter(dots, ticks, upwards, (0.0, SQUARE, SQUARE, 0.0))


def skyline(counts: Iterable[int]) -> str:
    """Returns the area below the counts, the greatest first, as an SVG path."""
    ranked = sorted(counts, reverse=True)
    top, step = max(ranked[0], 1), WIDTH * 3 / len(ranked)
    points = [f"M0 {HEIGHT:g}"]
    for rank, count in enumerate(ranked):
        y = round(HEIGHT * (1 - count / top), 1)
        points.append(f"L{rank * step:.1f} {y:g}L{(rank + 1) * step:.1f} {y:g}")
    return "".join((*points, f"L{WIDTH * 3:g} {HEIGHT:g}Z"))


def _total(buckets: Histogram) -> float:
    return sum(count for _, _, count in buckets)
