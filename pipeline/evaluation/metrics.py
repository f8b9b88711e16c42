"""How good answers are: over all examples, class by class, and which class is taken for which."""

from collections.abc import Sequence
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


class Measure:
    """The metrics of answers as a function of how often each example counts.

    Args:
        answers: What the model said.
        labels: The true classes.
        classes: The number of classes; None leaves out what speaks of the classes together.
    """

    def __init__(self, answers: Answers, labels: np.ndarray, classes: int | None = None):
        hit = hits(answers, labels, ACCURACY)
        columns = [hit, hits(answers, labels, TOP_5), log_losses(answers)]
        self._columns = np.stack(columns, axis=1).astype(np.float64)
        self._gaps = answers.score - hit
        divisions = (calibration.equal_width, calibration.equal_mass)
        self._bins = [_Sums(divide(answers.score)[0], calibration.BINS) for divide in divisions]
        self._of_classes = None if classes is None else _OfClasses(answers, labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that are returned, in their order."""
        return OF_EXAMPLES if self._of_classes is None else OF_EXAMPLES + OF_CLASSES

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the metrics, float64 (…, m) in the order of `names`.

        Args:
            weights: How often each example counts, float64 (…, n); by default once.
        """
        if weights is None:
            weights = np.ones(len(self._gaps))
        total = weights.sum(axis=-1)
        gaps = weights * self._gaps
        found = [
            *np.moveaxis(weights @ self._columns, -1, 0) / total,
            *(np.abs(bins(gaps)).sum(axis=-1) / total for bins in self._bins),
        ]
        if self._of_classes is not None:
            found += self._of_classes(weights)
        return np.stack(found, axis=-1)


class _OfClasses:
    """The mean recall of the classes with examples, and the mean F1, as functions of weights.

    As in scikit-learn, the F1 is over the classes that are true or predicted somewhere.
    """

    def __init__(self, answers: Answers, labels: np.ndarray):
        # Only those: of thousands of classes, a slice or a small split may have a few.
        known = np.unique(np.concatenate([labels, answers.predicted]))
        self._number = len(known)
        self._there = _Sums(np.searchsorted(known, labels), self._number)
        self._said = _Sums(np.searchsorted(known, answers.predicted), self._number)
        self._hit = (answers.predicted == labels).astype(np.float64)

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there, said = self._there(weights), self._said(weights)
        right = self._there(weights * self._hit)
        return _mean_ratio(right, there), _mean_ratio(2 * right, there + said)


class _Sums:
    """Sums over the last axis by class, or by bin."""

    def __init__(self, members: np.ndarray, number: int):
        self._members, self._number = members, number

    def __call__(self, values: np.ndarray) -> np.ndarray:
        rows = np.arange(values.size // len(self._members))
        # One fold for all rows: each has numbers of its own.
        own = (self._members + self._number * rows[:, None]).ravel()
        sums = np.bincount(own, values.ravel(), len(rows) * self._number)
        return sums.reshape(*values.shape[:-1], self._number)


def _mean_ratio(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis of parts over wholes, where there is a whole."""
    there = wholes > 0
    ratios = np.divide(parts, wholes, out=np.zeros_like(parts), where=there)
    return ratios.sum(axis=-1) / there.sum(axis=-1)


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
