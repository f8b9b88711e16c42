"""What can be said of a few seeds: means, their spread, and whether two differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

CONFIDENCE = 0.95


class Decision(StrEnum):
    """What the data say of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds.

    Args:
        values: One for each seed.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(tuple(float(value) for value in values))

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """The standard deviation of the sample; 0 for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def told(self, digits: int = 3) -> str:
        """Returns the mean and the deviation, as `1.23 ± 0.04`; the mean alone for one seed."""
        mean = f"{self.mean:.{digits}g}"
        return f"{mean} ± {self.deviation:.2g}" if len(self.values) > 1 else mean


@dataclass(frozen=True)
class Comparison:
    """The difference of two means, and the interval that it lies in with `CONFIDENCE`.

    Args:
        difference: The first mean less the second.
        low: The interval's lower end; -inf where nothing can be said.
        high: The upper end.
    """

    difference: float
    low: float
    high: float

    def exceeds(self, least: float = 0.0) -> Decision:
        """Whether the first is greater than the second by more than `least`.

        It is only if the whole interval says so, and it is not only if the whole interval does.
        """
        if self.low > least:
            return Decision.SUPPORTED
        return Decision.CONTRADICTED if self.high < least else Decision.UNDECIDED

    def within(self, most: float) -> Decision:
        """Whether the two differ by less than `most`, either way."""
        if -most < self.low and self.high < most:
            return Decision.SUPPORTED
        outside = self.low > most or self.high < -most
        return Decision.CONTRADICTED if outside else Decision.UNDECIDED

    def told(self, digits: int = 3) -> str:
        """Returns the difference with its interval."""
        if math.isinf(self.low):
            return f"{self.difference:+.{digits}g}, of unknown spread"
        return (
            f"{self.difference:+.{digits}g} (95 % interval {self.low:+.{digits}g} to "
            f"{self.high:+.{digits}g})"
        )


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compares the means of two samples of seeds by Welch's t interval.

    The two may have different spreads and numbers of seeds. A single seed has no spread, and where
    a value is no number (a training that diverged) nothing can be said: the interval is endless.

    Reference:
        - Welch, 1947, Biometrika 34, 28-35
    """
    from scipy import stats

    first, second = np.asarray(first, float), np.asarray(second, float)
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2 or not math.isfinite(difference):
        return Comparison(difference, -math.inf, math.inf)
    shares = [np.var(values, ddof=1) / len(values) for values in (first, second)]
    error = math.sqrt(sum(shares))
    if not error:
        # Counts, say, which are the same for every seed.
        return Comparison(difference, difference, difference)
    # As parts of their sum, whose square may be too small for a float.
    parts = [share / sum(shares) for share in shares]
    freedom = 1 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Comparison(difference, difference - reach, difference + reach)


def all_of(decisions: Sequence[Decision]) -> Decision:
    """Supported if all are, contradicted if one is, and else undecided."""
    if Decision.CONTRADICTED in decisions:
        return Decision.CONTRADICTED
    supported = all(decision is Decision.SUPPORTED for decision in decisions)
    return Decision.SUPPORTED if supported else Decision.UNDECIDED
