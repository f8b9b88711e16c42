"""What an evaluation leaves: JSON for programs, CSV for tables, images of the worst mistakes."""

import csv
import io
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.evaluation import metrics
from pipeline.evaluation.assessment import Assessment, Figure
from pipeline.evaluation.predictions import FILE_NAME
from pipeline.records.examples import ImageExample

METRICS = "metrics.json"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.csv"
SLICES = "slices.json"
CALIBRATION = "calibration.json"
COMPARISON = "comparison.json"
CONFIGURATION = "eval_config.json"
MISTAKES = "mistakes"

# Of more classes, only `confusion.csv` says which is taken for which.
_FULL_MATRIX = 100
_NAME_LENGTH = 40


def write(
    root: Path,
    found: Assessment,
    parts: Sequence[Path],
    comparison: Mapping[str, Any],
    configuration: Mapping[str, Any],
) -> None:
    """Writes the files of an evaluation, without images and page, into `root`.

    Args:
        root: The directory of the ModelEvaluation artifact.
        found: What was found out.
        parts: The files of predictions, in shard order; they become one and vanish.
        comparison: What `comparison.json` says.
        configuration: What the Evaluator ran with.
    """
    files.write_json(root / METRICS, as_json(found))
    files.write_json(root / SLICES, slices_as_json(found))
    files.write_json(
        root / CALIBRATION,
        {
            "equal_width": [asdict(bin_) for bin_ in found.reliability],
            "equal_mass": [asdict(bin_) for bin_ in found.reliability_equal_mass],
        },
    )
    files.write_json(root / COMPARISON, comparison)
    files.write_json(root / CONFIGURATION, configuration)
    rows = [{"class": name, **measured} for name, measured in found.per_class.items()]
    flat = [dict(_flattened(row)) for row in rows]
    files.write_text(root / PER_CLASS, _csv(list(flat[0]), (list(row.values()) for row in flat)))
    classes = found.predictions.classes
    pairs = ([classes[true], classes[said], count] for true, said, count in found.confusion)
    files.write_text(root / CONFUSION, _csv(["class", "predicted", "examples"], pairs))
    _join(parts, root / FILE_NAME)


def as_json(found: Assessment) -> dict[str, Any]:
    """Returns the metrics over all examples, as `metrics.json` says them."""
    classes = found.predictions.classes
    confusion = None
    if len(classes) <= _FULL_MATRIX:
        confusion = [[0] * len(classes) for _ in classes]
        for true, said, count in found.confusion:
            confusion[true][said] = count
    return {
        "examples": len(found.predictions),
        "independent_units": found.units,
        **{name: figure.value for name, figure in found.figures.items()},
        "intervals": {
            "confidence": found.sampling.confidence,
            "resamples": found.sampling.resamples,
            "seed": found.sampling.seed,
            **{name: figure.interval for name, figure in found.figures.items()},
        },
        **({"baseline": figures_as_json(found.baseline)} if found.baseline else {}),
        **({"gains": figures_as_json(found.gains)} if found.gains else {}),
        "per_class": found.per_class,
        "confusion": confusion,
    }


def slices_as_json(found: Assessment) -> list[dict[str, Any]]:
    """Returns what was found slice by slice."""
    return [
        {
            "feature": part.feature,
            "slice": part.name,
            "examples": part.examples,
            "metrics": figures_as_json(part.figures),
            **({"baseline": figures_as_json(part.baseline)} if part.baseline else {}),
            **({"gains": figures_as_json(part.gains)} if part.gains else {}),
        }
        for part in found.slices
    ]


def figures_as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Returns values and intervals by metric."""
    return {name: asdict(figure) for name, figure in figures.items()}


def write_mistakes(
    root: Path, found: Assessment, chosen: Sequence[int], pictures: Mapping[Any, ImageExample]
) -> None:
    """Writes the images of mistakes, named for what they were taken for and how surely.

    Args:
        root: The directory of the ModelEvaluation artifact.
        found: What was found out.
        chosen: Indices of mistakes.
        pictures: Their images by their place.
    """
    given = found.predictions
    for index in chosen:
        example = pictures[given.places[index]]
        predicted = given.classes[given.candidate.predicted[index]]
        names = "-not-".join(_in_file_name(text) for text in (predicted, example.text))
        score = f"{given.candidate.score[index]:.2f}"
        path = f"{names}_{score}_{example.key[:8]}.{example.format}"
        files.write_bytes(root / MISTAKES / path, example.encoded)


def _in_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:_NAME_LENGTH]


def _flattened(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yields the columns of a table; an interval becomes two."""
    for key, value in row.items():
        if key.endswith("_interval"):
            name = key.removesuffix("_interval")
            yield from ((f"{name}_low", value and value[0]), (f"{name}_high", value and value[1]))
        else:
            yield key, value


def _csv(head: list[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def _join(parts: Sequence[Path], destination: Path) -> None:
    """Makes one file of several, which vanish."""
    joined = destination.with_name(f".{destination.name}")
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    joined.replace(destination)
    for part in parts:
        part.unlink()


def result_line(found: Assessment) -> str:
    """Returns the figures for the table at the end of a run."""
    accuracy, loss = found.figures[metrics.ACCURACY], found.figures[metrics.LOG_LOSS]
    return (
        f"test accuracy {accuracy.value:.2%} on {len(found.predictions):,} images, "
        f"log loss {loss.value:.4f}"
    )
