"""The geometry of the drawings of an evaluation: numbers in, coordinates out; see `charts`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation import metrics
from pipeline.evaluation.assessment import Assessment, Figure
from pipeline.evaluation.calibration import Bin
from pipeline.evaluation.comparison import Compared, Rule
from pipeline.reporting.charts import SQUARE, Scale, Tick
from pipeline.reporting.evaluated import Evaluated

HISTOGRAM = 56.0
STRIP, STRIP_HEIGHT = 640.0, 72.0
FOREST = 300.0
CELL = 22.0

_OF_SLICES = (metrics.ACCURACY, metrics.LOG_LOSS, metrics.CALIBRATION)
_ROOM = 0.06


@dataclass(frozen=True)
class Column:
    """One bin of the reliability diagram; `y` is where its accuracy is, `ideal` its confidence."""

    x: float
    width: float
    y: float
    ideal: float
    share: float
    bin: Bin


@dataclass(frozen=True)
class Band:
    """An interval on an axis, and the figure in it."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Strip:
    """The gain of a candidate on an axis with zero and the margin.

    Args:
        band: The gain and its interval.
        zero: Where there is no gain.
        bar: What the interval has to be above.
        ticks: Of the axis.
    """

    band: Band
    zero: float
    bar: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Line:
    """One slice in a forest: its name, its figure, and both on the axis."""

    name: str
    examples: int
    figure: Figure
    band: Band
    baseline: float | None


@dataclass(frozen=True)
class Forest:
    """The slices of one feature under one metric, with the whole split as a line to compare."""

    metric: str
    whole: float
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix; `share` is of the images of the true class."""

    row: int
    column: int
    count: int
    share: float


def reliability(bins: Sequence[Bin]) -> list[Column]:
    """Returns the bins with answers, drawn into a square of side `SQUARE`."""
    most = max(bin_.examples for bin_ in bins)
    return [
        Column(
            round(SQUARE * bin_.low, 1),
            round(max(SQUARE * (bin_.high - bin_.low) - 1, 0.6), 1),
            round(SQUARE * (1 - bin_.accuracy), 1),
            round(SQUARE * (1 - bin_.confidence), 1),
            round(HISTOGRAM * bin_.examples / most, 1),
            bin_,
        )
        for bin_ in bins
        if bin_.examples
    ]


def comparison(compared: Compared | None, rule: Rule | None) -> Strip | None:
    """Returns the gain on an axis; None where nothing was compared, or its reach is unknown.

    Args:
        compared: What the comparison found.
        rule: What the candidate had to be.
    """
    if compared is None or rule is None:
        return None
    allowed = rule.allowed
    low, high = compared.interval
    ends = min(low, -allowed, 0.0), max(high, 0.0)
    if not ends[0] < ends[1] or ends[0] == -float("inf"):
        return None
    room = _ROOM * (ends[1] - ends[0])
    scale = Scale(ends[0] - room, ends[1] + room, STRIP, doublings=False)
    band = Band(scale(low), scale(compared.gain), scale(high))
    return Strip(band, scale(0.0), scale(-allowed), scale.ticks())


def forests(found: Assessment | Evaluated) -> dict[str, list[Forest]]:
    """Returns for each feature how the metrics are on its slices."""
    features: dict[str, list[Forest]] = {}
    for feature in dict.fromkeys(part.feature for part in found.slices):
        parts = [part for part in found.slices if part.feature == feature]
        for metric in _OF_SLICES:
            whole = found.figures[metric].value
            figures = [part.figures[metric] for part in parts]
            bounds = [bound for own in figures for bound in own.interval or (own.value,)]
            before = [part.baseline[metric].value for part in parts if part.baseline]
            low, high = min(*bounds, *before, whole), max(*bounds, *before, whole)
            room = _ROOM * (high - low) or 0.01
            scale = Scale(low - room, high + room, FOREST, doublings=False)
            lines = tuple(
                Line(
                    part.name,
                    part.examples,
                    own,
                    Band(*(scale(x) for x in _around(own))),
                    scale(part.baseline[metric].value) if part.baseline else None,
                )
                for part, own in zip(parts, figures, strict=True)
            )
            features.setdefault(feature, []).append(
                Forest(metric, scale(whole), lines, scale.ticks())
            )
    return features


def _around(figure: Figure) -> tuple[float, float, float]:
    low, high = figure.interval or (figure.value, figure.value)
    return low, figure.value, high


def matrix(found: Assessment | Evaluated) -> list[Cell]:
    """Returns the cells of the confusion matrix that are not empty."""
    classes = found.classes
    return [
        Cell(true, said, count, count / found.per_class[classes[true]]["examples"])
        for true, said, count in found.confusion
    ]
