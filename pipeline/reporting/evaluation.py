"""One page about an evaluation: the verdict, the figures with their intervals, the mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from pipeline.evaluation import metrics
from pipeline.evaluation.assessment import Assessment
from pipeline.evaluation.verdict import Verdict
from pipeline.records.examples import ImageExample
from pipeline.reporting import evaluation_charts as drawing
from pipeline.reporting import page
from pipeline.reporting.evaluated import Evaluated
from pipeline.reporting.pictures import Thumbnail, thumbnail

_DECIMALS = 2  # of a percentage

# How much is shown of each kind before "and N more".
_LIMITS = {"classes": 200, "galleries": 40, "pairs": 25, "matrix": 40, "checks": 60}

TITLES = {
    metrics.ACCURACY: "Accuracy",
    metrics.TOP_5: "Top-5 accuracy",
    metrics.LOG_LOSS: "Log loss",
    metrics.CALIBRATION: "Calibration error",
    metrics.EQUAL_MASS: "Calibration error, equal mass",
    metrics.BALANCED: "Balanced accuracy",
    metrics.MACRO_F1: "Macro F1",
}
_IN_NATS = (metrics.LOG_LOSS,)


@dataclass(frozen=True)
class Chosen:
    """The mistakes that are shown, by their index.

    Args:
        worst: The most confident ones of all.
        per_class: Label to the most confident ones of that class.
    """

    worst: tuple[int, ...]
    per_class: Mapping[int, tuple[int, ...]]

    @property
    def all(self) -> tuple[int, ...]:
        """Each of them once."""
        own = (index for chosen in self.per_class.values() for index in chosen)
        return tuple(dict.fromkeys((*self.worst, *own)))


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with its picture."""

    name: str
    text: str
    predicted: str
    score: float
    own: float
    thumbnail: Thumbnail | None


def choose(found: Assessment, worst: int, of_class: int) -> Chosen:
    """Returns which mistakes to show: the worst of all, and of each class.

    Args:
        found: What was found out.
        worst: How many of all.
        of_class: How many of each class, of the classes with the most mistakes.
    """
    given = found.predictions
    ranked = metrics.worst(given.candidate, given.labels, given.keys)
    by_class: dict[int, list[int]] = {}
    for index in ranked:
        by_class.setdefault(int(given.labels[index]), []).append(index)
    fullest = sorted(by_class, key=lambda label: (-len(by_class[label]), label))
    return Chosen(
        tuple(ranked[:worst]),
        {label: tuple(by_class[label][:of_class]) for label in fullest[: _LIMITS["galleries"]]}
        if of_class
        else {},
    )


def render(
    name: str,
    found: Assessment,
    verdict: Verdict,
    chosen: Chosen,
    pictures: Mapping[tuple[int, int], ImageExample],
) -> str:
    """Returns the page: one file that needs nothing else. Equal input gives equal bytes.

    Args:
        name: Name of the model.
        found: What was found out.
        verdict: What it means.
        chosen: The mistakes to show.
        pictures: Their images by their place.
    """
    given = found.predictions
    small: dict[int, Thumbnail | None] = {
        index: thumbnail(pictures[given.places[index]].encoded) for index in chosen.all
    }

    def shown(indices: Sequence[int]) -> list[Mistake]:
        return [
            Mistake(
                given.filenames[index],
                given.classes[given.labels[index]],
                given.classes[given.candidate.predicted[index]],
                float(given.candidate.score[index]),
                float(given.candidate.own[index]),
                small[index],
            )
            for index in indices
        ]

    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            name=name,
            limits=_LIMITS,
            worst=shown(chosen.worst),
            galleries=[
                (given.classes[label], found.per_class[given.classes[label]], shown(indices))
                for label, indices in chosen.per_class.items()
            ],
            **drawn(found, verdict),
        )
    )


def environment() -> jinja2.Environment:
    """Returns the templates of pages that show an evaluation."""
    found = page.environment()
    found.filters.update(figure=figure, signed=signed, interval=interval, p_value=p_value)
    found.globals.update(titles=TITLES, drawing=drawing)
    return found


def drawn(found: Assessment | Evaluated, verdict: Verdict) -> dict[str, Any]:
    """Returns what the parts of a page show of an evaluation, all but the pictures.

    Args:
        found: What was found out, or what the files of an evaluation say of it.
        verdict: What it means.
    """
    return {
        "found": found,
        "verdict": verdict,
        "classes": found.classes,
        "wrong": sum(count for true, said, count in found.confusion if true != said),
        "diagram": drawing.reliability(found.reliability),
        "equal_mass": drawing.reliability(found.reliability_equal_mass),
        "strip": drawing.comparison(verdict.compared, verdict.rule),
        "forests": drawing.forests(found),
        "rows": sorted(
            found.per_class.items(),
            key=lambda item: (
                item[1]["recall"] is None,
                item[1]["recall"] if item[1]["recall"] is not None else 0.0,
                item[0],
            ),
        ),
        "matrix": drawing.matrix(found) if len(found.classes) <= _LIMITS["matrix"] else None,
        "pairs": _pairs(found),
    }


def _pairs(found: Assessment | Evaluated) -> list[tuple[str, str, int, float]]:
    """Returns which class is taken for which how often, the commonest first."""
    classes = found.classes
    ranked = sorted(
        ((count, true, said) for true, said, count in found.confusion if true != said),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    return [
        (classes[true], classes[said], count, count / found.per_class[classes[true]]["examples"])
        for count, true, said in ranked
    ]


def figure(value: float | None, metric: str = "") -> str:
    """Returns a metric for a person: shares in per cent, log losses in nats."""
    if value is None:
        return "–"
    return f"{value:.4f}" if metric in _IN_NATS else f"{100 * value:.{_DECIMALS}f} %"


def signed(value: float, metric: str = "") -> str:
    """Returns a difference of metrics, in percentage points or nats."""
    text = f"{value:+.4f}" if metric in _IN_NATS else f"{100 * value:+.{_DECIMALS}f}"
    return text.replace("-", "−")


def interval(bounds: Sequence[float] | None, metric: str = "", sign: bool = False) -> str:
    """Returns an interval without its unit, which stands with the figure."""
    if bounds is None:
        return ""
    scale, digits = (1, 4) if metric in _IN_NATS else (100, _DECIMALS)
    form = f"{'+' if sign else ''}.{digits}f"
    return " to ".join(format(scale * bound, form).replace("-", "−") for bound in bounds)


def p_value(value: float) -> str:
    """Returns a p-value in two digits."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
