"""Whether a model that says 0.9 is right in nine of ten cases."""

from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.predictions import Answers

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The answers of similar confidence.

    Args:
        low: The least confidence of the bin.
        high: The greatest.
        examples: How many answers are in it.
        confidence: Their mean confidence; None of an empty bin.
        accuracy: The share of them that is right; None of an empty bin.
    """

    low: float
    high: float
    examples: int
    confidence: float | None
    accuracy: float | None


def equal_width(scores: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Divides the confidences from 0 to 1 into bins of equal width (Guo et al., ICML 2017, 2).

    Returns:
        The bin of each score, int64 (n,), and the edges, float64 (bins + 1,). A score on an edge
        is in the bin below it.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, scores) - 1, 0, bins - 1), edges


def equal_mass(scores: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Divides the scores into bins of equally many (Nixon et al., CVPR workshops 2019, 3).

    Equal scores are in one bin, whatever their order, so that bins may be fewer and of other
    sizes.

    Returns:
        As `equal_width`.
    """
    ranked = np.sort(scores)
    inner = ranked[np.linspace(0, len(ranked), bins + 1).astype(int)[1:-1] - 1]
    edges = np.unique(np.concatenate([[0.0], inner, ranked[-1:]]))
    if len(edges) == 1:
        edges = np.array([0.0, 1.0])
    return np.clip(np.searchsorted(edges, scores) - 1, 0, len(edges) - 2), edges


def error(gaps: np.ndarray, members: np.ndarray) -> float:
    """Returns the expected calibration error: the mean over examples of their bin's gap.

    Args:
        gaps: Confidence less 1 for a right answer or 0 for a wrong one, float64 (n,).
        members: The bin of each example.
    """
    return float(np.abs(np.bincount(members, gaps)).sum() / len(gaps))


def reliability(
    answers: Answers, labels: np.ndarray, members: np.ndarray, edges: np.ndarray
) -> list[Bin]:
    """Returns the bins with what is in them, in ascending order."""
    hits = answers.predicted == labels
    number = len(edges) - 1
    counts = np.bincount(members, minlength=number)
    confidence = np.bincount(members, answers.score, number)
    right = np.bincount(members, hits, number)
    return [
        Bin(
            float(edges[index]),
            float(edges[index + 1]),
            int(counts[index]),
            float(confidence[index] / counts[index]) if counts[index] else None,
            float(right[index] / counts[index]) if counts[index] else None,
        )
        for index in range(number)
    ]
