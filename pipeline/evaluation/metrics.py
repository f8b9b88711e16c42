"""How good answers are: over all examples, class by class, and which class is taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation import calibration
from pipeline.evaluation.predictions import Answers

ACCURACY = "accuracy"
TOP_5 = "top_5_accuracy"
LOG_LOSS = "log_loss"
CALIBRATION = "calibration_error"
EQUAL_MASS = "calibration_error_equal_mass"
BALANCED = "balanced_accuracy"
MACRO_F1 = "macro_f1"

# Those that any set of examples has, and those that speak of the classes together.
OF_EXAMPLES = (ACCURACY, TOP_5, LOG_LOSS, CALIBRATION, EQUAL_MASS)
OF_CLASSES = (BALANCED, MACRO_F1)
SHARES = (ACCURACY, TOP_5)

_TOP = 5
# Probabilities below this count as this much in the log loss, as in scikit-learn for float32.
_LEAST = float(np.finfo(np.float32).eps)


def hits(answers: Answers, labels: np.ndarray, metric: str) -> np.ndarray:
    """Returns which answers count as right for `ACCURACY` or `TOP_5`, bool (n,)."""
    return answers.rank < _TOP if metric == TOP_5 else answers.predicted == labels


def log_losses(answers: Answers) -> np.ndarray:
    """Returns the negative log likelihood of each true class in nats, float64 (n,)."""
    return -np.log(np.clip(answers.own, _LEAST, 1.0))


@dataclass(frozen=True)
class Measure:
    """The metrics of answers as a function of how often each example counts.

    Args:
        answers: What the model said.
        labels: The true classes.
        classes: The number of classes; None leaves out what speaks of the classes together.
    """

    answers: Answers
    labels: np.ndarray
    classes: int | None = None

    def __post_init__(self) -> None:
        """Computes what does not depend on the weights."""
        hit = hits(self.answers, self.labels, ACCURACY)
        sums = np.stack([hit, hits(self.answers, self.labels, TOP_5), log_losses(self.answers)])
        bins = []
        for divide in (calibration.equal_width, calibration.equal_mass):
            members, edges = divide(self.answers.score)
            bins.append((members, len(edges) - 1))
        object.__setattr__(self, "_sums", sums.astype(np.float64))
        object.__setattr__(self, "_gaps", self.answers.score - hit)
        object.__setattr__(self, "_bins", bins)

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that are returned, in their order."""
        return OF_EXAMPLES if self.classes is None else OF_EXAMPLES + OF_CLASSES

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the metrics, float64 in the order of `names`.

        Args:
            weights: How often each example counts, float64 (n,); by default once.
        """
        if weights is None:
            weights = np.ones(len(self.labels))
        found = [
            *(self._sums @ weights / weights.sum()),
            *(calibration.error(self._gaps, *bins, weights) for bins in self._bins),
        ]
        if self.classes is not None:
            found += _of_classes(self.answers, self.labels, self.classes, weights)
        return np.array(found)


def _of_classes(
    answers: Answers, labels: np.ndarray, classes: int, weights: np.ndarray
) -> tuple[float, float]:
    """Returns the mean recall of the classes with examples, and the mean F1.

    As in scikit-learn, the F1 is over the classes that are true or predicted somewhere.
    """
    there = np.bincount(labels, weights, classes)
    said = np.bincount(answers.predicted, weights, classes)
    right = np.bincount(labels, weights * (answers.predicted == labels), classes)
    recall = right[there > 0] / there[there > 0]
    known = there + said > 0
    return float(recall.mean()), float((2 * right[known] / (there + said)[known]).mean())


def confusion(answers: Answers, labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns true class, predicted class and how often that was, without what never was."""
    pairs, counts = np.unique(
        np.stack([labels, answers.predicted], axis=1), axis=0, return_counts=True
    )
    return [
        (*pair, count)
        for pair, count in zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True)
    ]


def per_class(
    answers: Answers, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns of each class what was found of it; None where nothing is there to divide by.

    Returns:
        Name to `examples` (the support), `predicted`, `recall`, `precision`, `f1`.
    """
    number = len(classes)
    there = np.bincount(labels, minlength=number).tolist()
    said = np.bincount(answers.predicted, minlength=number).tolist()
    right = np.bincount(labels[answers.predicted == labels], minlength=number).tolist()
    return {
        name: {
            "examples": there[label],
            "predicted": said[label],
            "recall": _share(right[label], there[label]),
            "precision": _share(right[label], said[label]),
            "f1": _share(2 * right[label], there[label] + said[label]),
        }
        for label, name in enumerate(classes)
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def worst(answers: Answers, labels: np.ndarray, keys: Sequence[str]) -> list[int]:
    """Returns the indices of the wrong answers, the most confident first."""
    wrong = np.flatnonzero(answers.predicted != labels).tolist()
    return sorted(wrong, key=lambda index: (-answers.score[index], keys[index]))
