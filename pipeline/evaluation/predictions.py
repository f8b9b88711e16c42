"""What models said of each example of a split, as lines of a file and as columns in memory."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError

FILE_NAME = "predictions.jsonl"
# How many of the most probable classes are kept of each example.
TOP = 5
_NAMED = 3


@dataclass(frozen=True)
class Answers:
    """What one model said of n examples, without the probabilities of all classes.

    Args:
        predicted: The most probable class, int64 (n,); of equal ones the first.
        score: Its probability, float64 (n,).
        own: The probability of the true class, float64 (n,).
        rank: How many classes are more probable than the true one, int64 (n,).
    """

    predicted: np.ndarray
    score: np.ndarray
    own: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.predicted)

    def take(self, chosen: np.ndarray) -> "Answers":
        """Returns the answers to the chosen examples: indices, or a mask."""
        return Answers(
            self.predicted[chosen], self.score[chosen], self.own[chosen], self.rank[chosen]
        )


@dataclass(frozen=True)
class Predictions:
    """The examples of a split with what was said of them, in their stored order.

    Args:
        classes: The class names in label order.
        labels: The true classes, int64 (n,).
        candidate: What the model under evaluation said.
        baseline: What the one in production said, or None.
        keys: The SHA-256 of each image.
        filenames: Where each came from.
        places: Number of the shard and position in it, for whoever needs the image.
        features: Name to the value of each example, None where an example has none.
        baseline_failure: Why the model in production, although asked, cannot be compared.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    candidate: Answers
    baseline: Answers | None
    keys: Sequence[str]
    filenames: Sequence[str]
    places: Sequence[tuple[int, int]]
    features: Mapping[str, Sequence[Any]]
    baseline_failure: str = ""

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.labels)


def judged(probabilities: np.ndarray, label: int) -> dict[str, Any]:
    """Returns what is kept of one answer: `predicted`, `score`, `probability`, `rank`.

    Args:
        probabilities: float32 or float64 (classes,), finite.
        label: The true class.
    """
    vector = np.asarray(probabilities, np.float64)
    best = int(vector.argmax())
    return {
        "predicted": best,
        "score": float(vector[best]),
        "probability": float(vector[label]),
        "rank": int((vector > vector[label]).sum()),
    }


def most_probable(probabilities: np.ndarray, classes: Sequence[str]) -> list[list[Any]]:
    """Returns name and probability of the `TOP` most probable classes, best first."""
    order = np.argsort(-np.asarray(probabilities), kind="stable")[:TOP]
    return [[classes[index], float(probabilities[index])] for index in order]


def read(paths: Iterable[Path], classes: Sequence[str]) -> Predictions:
    """Returns the predictions in files of JSON lines, file by file.

    Raises:
        DataError: A model had no answer to an image; the message names some of those.
    """
    index = {name: label for label, name in enumerate(classes)}
    labels, keys, filenames, places = [], [], [], []
    columns: tuple[list, list] = ([], [])
    features: dict[str, list[Any]] = {}
    failed: list[str] = []
    baseline_failure = ""
    for shard, path in enumerate(paths):
        with path.open(encoding="utf-8") as lines:
            for position, line in enumerate(lines):
                row = json.loads(line)
                if "error" in row:
                    failed.append(f"{row['filename']}: {row['error']}")
                    continue
                labels.append(index[row["class"]])
                keys.append(row["key"])
                filenames.append(row["filename"])
                places.append((shard, position))
                for column, answer in zip(columns, (row, row.get("baseline")), strict=True):
                    if answer is None:
                        continue
                    if "error" in answer:
                        baseline_failure = baseline_failure or answer["error"]
                        continue
                    column.append(
                        (
                            index[answer["predicted"]],
                            answer["score"],
                            answer["probability"],
                            answer["rank"],
                        )
                    )
                for name, value in row["features"].items():
                    features.setdefault(name, []).append(value)
    if failed:
        shown = "; ".join(failed[:_NAMED])
        more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise DataError(
            f"the model has no answer to {len(failed)} of {len(failed) + len(labels)} images: "
            f"{shown}{more}"
        )
    if not labels:
        raise DataError("there are no predictions to evaluate: the split holds no images")
    candidate, baseline = columns
    return Predictions(
        tuple(classes),
        np.array(labels, np.int64),
        _answers(candidate),
        _answers(baseline) if baseline and not baseline_failure else None,
        keys,
        filenames,
        places,
        features,
        baseline_failure,
    )


def _answers(rows: list[tuple[int, float, float, int]]) -> Answers:
    predicted, score, own, rank = zip(*rows, strict=True)
    return Answers(
        np.array(predicted, np.int64),
        np.array(score, np.float64),
        np.array(own, np.float64),
        np.array(rank, np.int64),
    )
