"""Predictions made up by the tests."""

import numpy as np

from pipeline.evaluation import predictions
from pipeline.evaluation.predictions import Answers, Predictions


def answers(probabilities, labels):
    """Returns what is kept of rows of probabilities."""
    rows = [predictions.judged(p, label) for p, label in zip(probabilities, labels, strict=True)]
    columns = [[row[key] for row in rows] for key in ("predicted", "score", "probability", "rank")]
    return Answers(*map(np.array, columns))


def table(probabilities, labels, baseline=None, **features):
    """Returns predictions with class names `"0"`, `"1"`, … and keys in order."""
    number = len(labels)
    return Predictions(
        classes=tuple(map(str, range(np.shape(probabilities)[1]))),
        labels=np.array(labels, np.int64),
        candidate=answers(probabilities, labels),
        baseline=None if baseline is None else answers(baseline, labels),
        keys=[f"{index:04}" for index in range(number)],
        filenames=[f"{index}.png" for index in range(number)],
        places=[(0, index) for index in range(number)],
        features=features,
    )


def drawn(classes, examples, seed, sharpness=3.0):
    """Returns probabilities (examples, classes) and labels that they are often right about."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, examples)
    logits = generator.normal(size=(examples, classes))
    logits[np.arange(examples), labels] += sharpness * generator.random(examples)
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels
