"""How good predictions are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.records.examples import ImageExample

# Probabilities below this count as this much in the log loss, as in scikit-learn for float32.
_LEAST = float(np.finfo(np.float32).eps)


def measure(
    probabilities: Sequence[np.ndarray], labels: Sequence[int], classes: Sequence[str]
) -> dict[str, Any]:
    """Returns the metrics of predictions.

    Args:
        probabilities: One vector per example, in label order.
        labels: The true labels.
        classes: The class names in label order.

    Returns:
        `examples`, `accuracy`, `top_5_accuracy`, `log_loss` (nats per example), `per_class`
        (examples, recall and precision; None where nothing is there to divide by) and
        `confusion` (rows: the true class).
    """
    scores, truth = np.asarray(probabilities), np.asarray(labels)
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (truth, predicted), 1)
    own = scores[np.arange(len(truth)), truth]
    rank = (scores > own[:, None]).sum(axis=1)
    return {
        "examples": len(truth),
        "accuracy": float((predicted == truth).mean()),
        "top_5_accuracy": float((rank < 5).mean()),
        "log_loss": float(-np.log(np.clip(own, _LEAST, 1.0)).mean()),
        "per_class": {
            name: {
                "examples": int(confusion[label].sum()),
                "recall": _share(confusion[label, label], confusion[label].sum()),
                "precision": _share(confusion[label, label], confusion[:, label].sum()),
            }
            for label, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def rows(
    probabilities: Sequence[np.ndarray], examples: Sequence[ImageExample], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the true class, the predicted one and its score for each example."""
    return [
        {
            "class": example.text,
            "predicted": classes[int(vector.argmax())],
            "score": float(vector.max()),
        }
        for vector, example in zip(probabilities, examples, strict=True)
    ]


def worst(
    probabilities: Sequence[np.ndarray], examples: Sequence[ImageExample], classes: Sequence[str]
) -> list[tuple[dict[str, Any], ImageExample]]:
    """Returns the examples that were classified wrongly, the most confident mistake first."""
    mistakes = [
        (row, example)
        for row, example in zip(rows(probabilities, examples, classes), examples, strict=True)
        if row["predicted"] != row["class"]
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake[0]["score"], mistake[1].key))


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
