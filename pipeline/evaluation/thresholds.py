"""What a model has to reach: bounds of metrics over all examples, of classes, and of slices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

from pydantic import Field

from pipeline.evaluation import metrics
from pipeline.parameters import Fraction, Positive, parameters

EACH = "*"

Least = Fraction | None
Greatest = Annotated[float, Field(ge=0.0)] | None

# What has to stay below its bound; the rest has to reach it.
_GREATEST = (metrics.LOG_LOSS, metrics.CALIBRATION, metrics.EQUAL_MASS)


@parameters
class OfSlice:
    """Bounds for each slice of a feature: the least accuracies, the greatest losses."""

    accuracy: Least = None
    top_5_accuracy: Least = None
    log_loss: Greatest = None
    calibration_error: Greatest = None
    calibration_error_equal_mass: Greatest = None


@parameters
class OfClass:
    """The least recall, precision and F1 of a class."""

    recall: Least = None
    precision: Least = None
    f1: Least = None


@parameters
class Thresholds(OfSlice):
    """What the model has to reach on the test split before it may be pushed.

    Args:
        accuracy: The least share of images whose most probable class is the true one.
        top_5_accuracy: The least share of those of which it is among the five most probable.
        log_loss: The greatest mean negative log likelihood, in nats.
        calibration_error: The greatest expected calibration error, in 15 bins of equal width.
        calibration_error_equal_mass: The same, in bins of equally many answers.
        balanced_accuracy: The least mean recall of the classes.
        macro_f1: The least mean F1 of the classes.
        classes: Class to bounds; `"*"` stands for each class that is not named.
        slices: Feature, as in `evaluator.slices`, to bounds for each of its slices.
        least_examples: Slices, and classes under `"*"`, of fewer images are shown and decide
            nothing.
    """

    balanced_accuracy: Least = None
    macro_f1: Least = None
    classes: dict[str, OfClass] = Field(default_factory=dict)
    slices: dict[str, OfSlice] = Field(default_factory=dict)
    least_examples: Positive = 1


@dataclass(frozen=True)
class Check:
    """One bound, and what was found.

    Args:
        metric: Name of the metric.
        of: What it was measured on, such as `"class 'cat'"`; empty for the whole split.
        value: What was found; None where nothing was there to measure.
        bound: What it is held against.
        at_least: Whether the bound is the least, and not the greatest.
        interval: Of the value, where it is known.
        passed: Whether the value keeps to the bound.
    """

    metric: str
    of: str
    value: float | None
    bound: float
    at_least: bool
    interval: Sequence[float] | None
    passed: bool

    def __str__(self) -> str:
        """Returns what was found and what was expected."""
        what = f"{self.metric} of {self.of}" if self.of else self.metric
        expected = f"expected at {'least' if self.at_least else 'most'} {self.bound:g}"
        if self.value is None:
            return f"{what} cannot be told, there are no images for it; {expected}"
        # A value that misses by less than the digits shown would look as if it did not.
        shown = f"{self.value:.4f}"
        if not self.passed and float(shown) == self.bound:
            shown = repr(self.value)
        return f"{what} is {shown}, {expected}"


def bounds(thresholds: Any) -> dict[str, float]:
    """Returns the bounds that are set, by the name of the metric."""
    return {
        field.name: value
        for field in fields(thresholds)
        if field.name != "least_examples"
        and isinstance(value := getattr(thresholds, field.name), float | int)
    }


def are_set(thresholds: Thresholds) -> bool:
    """Returns whether any bound is set."""
    inner = (*thresholds.classes.values(), *thresholds.slices.values())
    return any(bounds(some) for some in (thresholds, *inner))


def as_json(thresholds: Any) -> dict[str, Any]:
    """Returns the bounds that are set, nested as in the configuration."""
    found: dict[str, Any] = dict(bounds(thresholds))
    for field in fields(thresholds):
        value = getattr(thresholds, field.name)
        if isinstance(value, Mapping) and value:
            found[field.name] = {
                name: as_json(own) for name, own in value.items() if is_dataclass(own)
            }
    return found


def check(
    thresholds: Thresholds,
    figures: Mapping[str, Any],
    per_class: Mapping[str, Mapping[str, Any]],
    slices: Sequence[Any],
) -> list[Check]:
    """Returns each bound with what was found.

    Args:
        thresholds: The bounds.
        figures: Metric to a figure with `value` and `interval`, over all examples.
        per_class: Class to its metrics, and `recall_interval` and so on.
        slices: With `feature`, `name`, `examples` and `figures` each.
    """
    found = list(_of_figures(thresholds, "", figures))
    named = set(thresholds.classes) - {EACH}
    for name, own in thresholds.classes.items():
        meant = [name] if name != EACH else [text for text in per_class if text not in named]
        for text in meant:
            measured = per_class.get(text, {})
            if name == EACH and measured["examples"] < thresholds.least_examples:
                continue
            found += [
                _checked(
                    metric,
                    f"class {text!r}",
                    measured.get(metric),
                    bound,
                    measured.get(f"{metric}_interval"),
                )
                for metric, bound in bounds(own).items()
            ]
    for feature, own in thresholds.slices.items():
        parts = [part for part in slices if part.feature == feature]
        if not parts:
            # Said rather than passed over: it may be a slip of the pen.
            found += [
                _checked(metric, feature, None, bound, None)
                for metric, bound in bounds(own).items()
            ]
        for part in parts:
            if part.examples >= thresholds.least_examples:
                found += _of_figures(own, f"{feature} {part.name}", part.figures)
    return found


def _of_figures(thresholds: Any, of: str, figures: Mapping[str, Any]) -> Iterator[Check]:
    for metric, bound in bounds(thresholds).items():
        yield _checked(metric, of, figures[metric].value, bound, figures[metric].interval)


def _checked(
    metric: str, of: str, value: float | None, bound: float, interval: Sequence[float] | None
) -> Check:
    at_least = metric not in _GREATEST
    passed = value is not None and (value >= bound if at_least else value <= bound)
    return Check(metric, of, value, bound, at_least, interval, passed)
