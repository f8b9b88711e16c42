"""Everything that is found out about predictions: figures, classes, slices, comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation import calibration, comparison, intervals, metrics, slices
from pipeline.evaluation.comparison import Compared, Rule
from pipeline.evaluation.predictions import Predictions
from pipeline.records import examples


@dataclass(frozen=True)
class Sampling:
    """How intervals are found.

    Args:
        resamples: Of each bootstrap; with none there are no intervals.
        confidence: Of the two-sided intervals.
        seed: Of what is drawn.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """A number, and the interval in which it would be on all images of the kind."""

    value: float
    interval: list[float] | None = None


@dataclass(frozen=True)
class Slice:
    """What was found on the examples of one slice.

    Args:
        feature: Name of the feature.
        name: What a person calls the slice.
        examples: How many there are.
        figures: Metric to figure.
        baseline: The same of the model in production; empty where there is none.
        gains: Metric to the candidate's figure less the baseline's; empty where there is none.
    """

    feature: str
    name: str
    examples: int
    figures: dict[str, Figure]
    baseline: dict[str, Figure]
    gains: dict[str, Figure]


@dataclass(frozen=True)
class Assessment:
    """What was found out.

    Args:
        predictions: What it was found from.
        units: How many independent ones there are: groups where there are groups, else images.
        figures: Metric to figure, of the candidate on all examples.
        baseline: The same of the model in production; empty where there is none.
        gains: Metric to the candidate's figure less the baseline's; empty where there is none.
        per_class: Class to its metrics and their intervals.
        confusion: True class, predicted class and how often, without what never was.
        reliability: The bins of equal width.
        reliability_equal_mass: The bins of equally many answers.
        slices: What was found slice by slice.
        without: Features that give no slices.
        compared: What the comparison found; None without a baseline or a rule.
        sampling: How intervals were found.
    """

    predictions: Predictions
    units: int
    figures: dict[str, Figure]
    baseline: dict[str, Figure]
    gains: dict[str, Figure]
    per_class: dict[str, dict[str, Any]]
    confusion: list[tuple[int, int, int]]
    reliability: list[calibration.Bin]
    reliability_equal_mass: list[calibration.Bin]
    slices: list[Slice]
    without: list[str]
    compared: Compared | None
    sampling: Sampling

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in label order."""
        return self.predictions.classes

    @property
    def examples(self) -> int:
        """How many examples it was found from."""
        return len(self.predictions)


def assess(
    found: Predictions,
    by: Mapping[str, slices.Bins],
    rule: Rule | None,
    sampling: Sampling,
    present: tuple[str, ...] = (),
) -> Assessment:
    """Returns what predictions tell.

    Images of one group are drawn together, and what each interval speaks of has its size: a slice
    is resampled within itself. Equal predictions and seeds give equal results.

    Args:
        found: The predictions.
        by: The slices: feature to a number of parts, or to edges.
        rule: What the candidate is held against, if there is a baseline.
        sampling: How intervals are found.
        present: The features that the records have, for an error's message.

    Raises:
        DataError: A feature of `by` does not exist.
    """
    members = intervals.units(found.features.get(examples.GROUP), len(found))
    parts, without = slices.divide(found.features, by, present)
    every = np.arange(len(found))
    figures, baseline, gains = _figures(found, every, members, sampling, "", len(found.classes))
    divided = []
    for part in parts:
        own = _figures(
            found, part.members, members, sampling, f"{part.feature}={part.name}", classes=None
        )
        divided.append(Slice(part.feature, part.name, len(part.members), *own))
    answers, labels = found.candidate, found.labels
    return Assessment(
        predictions=found,
        units=int(members.max()) + 1,
        figures=figures,
        baseline=baseline,
        gains=gains,
        per_class=_per_class(found, sampling.confidence),
        confusion=metrics.confusion(answers, labels),
        reliability=calibration.reliability(
            answers, labels, *calibration.equal_width(answers.score)
        ),
        reliability_equal_mass=calibration.reliability(
            answers, labels, *calibration.equal_mass(answers.score)
        ),
        slices=divided,
        without=without,
        compared=(
            comparison.compare(found, rule, members, sampling.seed)
            if rule is not None and found.baseline is not None
            else None
        ),
        sampling=sampling,
    )


def _figures(
    found: Predictions,
    chosen: np.ndarray,
    members: np.ndarray,
    sampling: Sampling,
    name: str,
    classes: int | None,
) -> tuple[dict[str, Figure], dict[str, Figure], dict[str, Figure]]:
    """Returns the figures of the candidate and of the baseline, and their differences."""
    labels = found.labels[chosen]
    asked = [found.candidate] + ([found.baseline] if found.baseline is not None else [])
    measures = [metrics.Measure(answers.take(chosen), labels, classes) for answers in asked]
    names = measures[0].names
    values = [measure() for measure in measures]
    own = np.unique(members[chosen], return_inverse=True)[1]
    units = int(own.max()) + 1
    replicates = None
    # A single unit says nothing of how far others may be from it.
    if sampling.resamples and units > 1:
        drawn = intervals.bootstrap(
            lambda weights: np.concatenate([measure(weights) for measure in measures], axis=-1),
            own,
            sampling.resamples,
            sampling.seed,
            name,
        )
        replicates = np.split(drawn, len(measures), axis=1)
    figures = [
        {
            metric: Figure(
                float(value),
                _interval(metric, float(value), replicates[model][:, column], units, sampling)
                if replicates
                else None,
            )
            for column, (metric, value) in enumerate(zip(names, values[model], strict=True))
        }
        for model in range(len(measures))
    ]
    if len(measures) == 1:
        return figures[0], {}, {}
    differences = values[0] - values[1]
    gains = {
        metric: Figure(
            float(differences[column]),
            intervals.percentile(
                replicates[0][:, column] - replicates[1][:, column], sampling.confidence
            )
            if replicates
            else None,
        )
        for column, metric in enumerate(names)
    }
    return figures[0], figures[1], gains


def _interval(
    metric: str, value: float, replicates: np.ndarray, units: int, sampling: Sampling
) -> list[float]:
    if metric in metrics.SHARES and value in (0.0, 1.0):
        return intervals.extreme(value, units, sampling.confidence)
    if metric in (metrics.CALIBRATION, metrics.EQUAL_MASS):
        return intervals.unbiased(replicates, value, sampling.confidence)
    return intervals.percentile(replicates, sampling.confidence)


def _per_class(found: Predictions, confidence: float) -> dict[str, dict[str, Any]]:
    classes = metrics.per_class(found.candidate, found.labels, found.classes)
    for measured in classes.values():
        for share, whole in (("recall", "examples"), ("precision", "predicted")):
            right = round((measured[share] or 0) * measured[whole])
            measured[f"{share}_interval"] = intervals.wilson(right, measured[whole], confidence)
    if found.baseline is not None:
        before = metrics.per_class(found.baseline, found.labels, found.classes)
        for name, measured in classes.items():
            measured["baseline_recall"] = before[name]["recall"]
            measured["baseline_precision"] = before[name]["precision"]
    return classes
