"""What the files of an evaluation say, for pages that are drawn long after it was made."""

import contextlib
import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.evaluation import metrics, output
from pipeline.evaluation.assessment import Figure, Sampling, Slice
from pipeline.evaluation.calibration import Bin
from pipeline.evaluation.comparison import Compared, Rule
from pipeline.evaluation.predictions import FILE_NAME
from pipeline.evaluation.thresholds import Check
from pipeline.evaluation.verdict import Verdict
from pipeline.reporting import reading


@dataclass(frozen=True)
class Wrong:
    """A wrong answer of which the image was kept.

    Args:
        name: Of the image in the source.
        text: The true class.
        predicted: What it was taken for.
        score: How sure the model was.
        own: The probability of the true class.
        image: The file with the image.
    """

    name: str
    text: str
    predicted: str
    score: float
    own: float
    image: Path


@dataclass(frozen=True)
class Evaluated:
    """An evaluation as its files tell it; the fields are those of `Assessment`.

    Args:
        classes: In label order.
        examples: How many images were asked about.
        units: How many independent ones there are among them.
        figures: Metric to figure.
        baseline: The same of the model in production; empty where none was compared.
        gains: Metric to the difference of the two; empty where none was compared.
        per_class: Class to its metrics and their intervals.
        confusion: True class, predicted class and how often, without what never was.
        reliability: The bins of equal width.
        reliability_equal_mass: The bins of equally many answers.
        slices: What was found slice by slice.
        without: Features that give no slices; the files name none.
        sampling: How intervals were found.
    """

    classes: tuple[str, ...]
    examples: int
    units: int
    figures: dict[str, Figure]
    baseline: dict[str, Figure]
    gains: dict[str, Figure]
    per_class: dict[str, dict[str, Any]]
    confusion: list[tuple[int, int, int]]
    reliability: list[Bin]
    reliability_equal_mass: list[Bin]
    slices: list[Slice]
    without: tuple[str, ...]
    sampling: Sampling


def read(root: Path) -> Evaluated:
    """Reads the directory of a ModelEvaluation artifact.

    Raises:
        DataError: A file is missing or damaged; the message names it.
    """
    found = _json(root / output.METRICS)
    calibration = _json(root / output.CALIBRATION)
    parts = _json(root / output.SLICES)
    with _in_this_form(root):
        intervals, per_class = found["intervals"], found["per_class"]
        return Evaluated(
            classes=tuple(per_class),
            examples=found["examples"],
            units=found["independent_units"],
            figures={
                name: Figure(found[name], intervals[name])
                for name in (*metrics.OF_EXAMPLES, *metrics.OF_CLASSES)
            },
            baseline=_figures(found.get("baseline")),
            gains=_figures(found.get("gains")),
            per_class=per_class,
            confusion=_confusion(root / output.CONFUSION, tuple(per_class)),
            reliability=[Bin(**bin_) for bin_ in calibration["equal_width"]],
            reliability_equal_mass=[Bin(**bin_) for bin_ in calibration["equal_mass"]],
            slices=[
                Slice(
                    part["feature"],
                    part["slice"],
                    part["examples"],
                    _figures(part["metrics"]),
                    _figures(part.get("baseline")),
                    _figures(part.get("gains")),
                )
                for part in parts
            ],
            without=(),
            sampling=Sampling(intervals["resamples"], intervals["confidence"], intervals["seed"]),
        )


def verdict(blessing: Path) -> Verdict:
    """Reads the verdict from the directory of a ModelBlessing artifact.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = next((path for path in sorted(blessing.glob("*BLESSED"))), blessing / "BLESSED")
    found = _json(path)
    with _in_this_form(blessing):
        comparison = found["comparison"]
        compared, rule = comparison["result"], comparison["rule"]
        if compared is not None:
            # JSON has no infinity.
            low, high = compared["interval"]
            bounds = (-math.inf if low is None else low, math.inf if high is None else high)
            compared = Compared(**{**compared, "interval": bounds})
        return Verdict(
            tuple(found["reasons"]),
            tuple(Check(**check) for check in found["checks"]),
            compared,
            comparison["baseline"] or "",
            comparison["note"],
            Rule(**rule) if rule else None,
        )


def worst(root: Path, most: int) -> list[Wrong]:
    """Returns the wrong answers whose images were kept, the most confident first.

    Args:
        root: The directory of a ModelEvaluation artifact.
        most: How many at most.

    Raises:
        DataError: `predictions.jsonl` is missing or damaged.
    """
    kept = {path.stem.rsplit("_", 1)[-1]: path for path in (root / output.MISTAKES).glob("*")}
    if not kept:
        return []
    with _in_this_form(root), (root / FILE_NAME).open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["key"][:8] in kept]
        found = [
            Wrong(
                row["filename"],
                row["class"],
                row["predicted"],
                row["score"],
                row["probability"],
                kept[row["key"][:8]],
            )
            for row in sorted(rows, key=lambda row: (-row["score"], row["key"]))
            if row["predicted"] != row["class"]
        ]
    return found[:most]


@contextlib.contextmanager
def _in_this_form(root: Path) -> Iterator[None]:
    """Makes a DataError of a file that is missing, and of what is not as the Evaluator writes it."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: missing; run the Evaluator again") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{root}: not as this version writes it ({type(error).__name__}: {error}); run the "
            "Evaluator again"
        ) from None


def _figures(found: Mapping[str, Any] | None) -> dict[str, Figure]:
    return {name: Figure(**own) for name, own in (found or {}).items()}


def _confusion(path: Path, classes: tuple[str, ...]) -> list[tuple[int, int, int]]:
    labels = {text: label for label, text in enumerate(classes)}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(labels[row["class"]], labels[row["predicted"]], int(row["examples"])) for row in rows]


def _json(path: Path) -> Any:
    found = reading.json_file(path)
    if found is None:
        raise DataError(f"{path}: missing; run the Evaluator again")
    return found
