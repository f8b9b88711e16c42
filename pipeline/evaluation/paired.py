"""Tests of paired answers: two models, the same images. Each holds its level, also on few images.

Wins are images that only the candidate has right, losses those that only the baseline has right.
"""

import math
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
# Half of the step in which `wins - losses` moves. With it the score test holds its level wherever
# all outcomes were enumerated, on up to 2,000 images; without it, the level is exceeded by a fifth.
CONTINUITY = 0.5
_STEPS = 60
_NEGLIGIBLE = 1e-18
# Values drawn at once.
_BLOCK = 1 << 20


def mcnemar(wins: int, losses: int) -> float:
    """Returns the exact one-sided p-value that the candidate is right no more often.

    Of the images on which the two differ, each is won with probability 1/2 at the most (McNemar,
    Psychometrika 1947; the binomial form).
    """
    number = wins + losses
    if 2 * wins <= number:
        # The terms grow from here on; those of the other end are the ones that shrink.
        return 1 - _upper_tail(number, losses + 1)
    return _upper_tail(number, wins)


def _upper_tail(number: int, least: int) -> float:
    """Returns the chance of `least` or more of `number` fair coins; `least` is above the half."""
    if least > number:
        return 0.0
    choices = math.lgamma(number + 1) - math.lgamma(least + 1) - math.lgamma(number - least + 1)
    term = total = math.exp(choices - number * math.log(2))
    for count in range(least, number):
        term *= (number - count) / (count + 1)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return total


def score(wins: float, losses: float, examples: float, margin: float) -> float:
    """Returns z of the hypothesis that the candidate's share is less by `margin` or more.

    The score test for paired shares (Tango, Statistics in Medicine 17, 1998), with a continuity
    correction. Counts may be divided by a design effect.

    Args:
        wins: Images that only the candidate has right.
        losses: Images that only the baseline has right.
        examples: All images.
        margin: The difference under the hypothesis is `-margin`; from -1 to 1.
    """
    shift = -margin
    # The likelihood of the share of losses, under a difference of `shift`, is greatest at a root.
    a = 2 * examples
    b = -wins - losses + (2 * examples - wins + losses) * shift
    c = -losses * shift * (1 - shift)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = examples * (2 * share + shift * (1 - shift))
    distance = wins - losses - examples * shift - CONTINUITY
    if variance <= 0:
        return math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def score_p(wins: float, losses: float, examples: float, margin: float) -> float:
    """Returns the one-sided p-value of `score`."""
    return _NORMAL.cdf(-score(wins, losses, examples, margin))


def score_interval(
    wins: float, losses: float, examples: float, confidence: float
) -> tuple[float, float]:
    """Returns both bounds of the gain in share, each one-sided at `confidence`.

    A margin is passed exactly if the lower bound is above its negative.
    """
    return (
        _lower(wins, losses, examples, confidence),
        -_lower(losses, wins, examples, confidence),
    )


def _lower(wins: float, losses: float, examples: float, confidence: float) -> float:
    limit = _NORMAL.inv_cdf(confidence)
    low, high = -1.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if score(wins, losses, examples, -middle) >= limit:
            low = middle
        else:
            high = middle
    return low


def design_effect(gains: np.ndarray, members: np.ndarray) -> float:
    """Returns by how much less the images tell than as many independent ones, at least 1.

    The variance of the mean gain between groups over that between images (Rao & Scott, Biometrics
    1992). Where no image tells them apart, images of a group count as one (Kish, 1965).

    Args:
        gains: 1, 0 or -1 for each image, float64 (n,).
        members: The group of each.
    """
    sizes = np.bincount(members)
    number = len(sizes)
    if number == len(gains):
        return 1.0
    variance = gains.var()
    if variance == 0 or number == 1:
        return float((sizes**2).sum() / sizes.sum())
    rests = np.bincount(members, gains - gains.mean())
    between = (rests**2).sum() * number / (number - 1) / len(gains)
    return max(1.0, float(between / variance))


class Studentized:
    """The bootstrap-t of a mean (Efron, 1982; Hall, Annals of Statistics 1988), and Student's t.

    The first follows the skewness that differences of log losses have, the second holds where
    tails are long; a test passes and a bound counts where both agree.

    Args:
        values: Of each example, float64 (n,).
        members: The unit of each example; units are independent.
        resamples: How many samples are drawn.
        draw: Draws them.
    """

    def __init__(
        self, values: np.ndarray, members: np.ndarray, resamples: int, draw: np.random.Generator
    ):
        self.mean = float(values.mean())
        self._units = int(members.max()) + 1
        # Of units of different sizes, the mean is a ratio; these have its mean and its variance.
        rests = np.bincount(members, values - self.mean)
        independent = self.mean + rests * (self._units / len(values))
        self.variance = float(independent.var())
        if self._units > 1:
            self._error = float(_errors(independent[None])[0])
            self._ratios = np.sort(self._resampled(independent, resamples, draw))

    def _resampled(
        self, values: np.ndarray, resamples: int, draw: np.random.Generator
    ) -> np.ndarray:
        together = max(1, _BLOCK // len(values))
        found = []
        for start in range(0, resamples, together):
            shape = (min(together, resamples - start), len(values))
            samples = values[draw.integers(0, len(values), shape)]
            found.append(_ratios(samples.mean(axis=1) - self.mean, _errors(samples)))
        return np.concatenate(found)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns both bounds of the mean, each one-sided at `confidence`."""
        if self._units < 2:
            return -math.inf, math.inf
        number = len(self._ratios)
        # Of resamples that are too few for the quantile, the outermost.
        reach = min(math.ceil(confidence * (number + 1)), number)
        student = _student(confidence, self._units - 1)
        above = max(float(self._ratios[reach - 1]), student)
        below = min(float(self._ratios[number - reach]), -student)
        if not self._error:
            return self.mean, self.mean
        return self.mean - above * self._error, self.mean - below * self._error

    def p_value(self, margin: float) -> float:
        """Returns the one-sided p-value that the mean is `-margin` or less."""
        if self._units < 2:
            return 1.0
        ratio = float(_ratios(np.array([self.mean + margin]), np.array([self._error]))[0])
        beyond = len(self._ratios) - int(np.searchsorted(self._ratios, ratio))
        resampled = (1 + beyond) / (1 + len(self._ratios))
        return max(resampled, _student_p(ratio, self._units - 1))


def _errors(samples: np.ndarray) -> np.ndarray:
    """Returns the standard errors of the means of samples (b, n)."""
    return samples.std(axis=1, ddof=1) / math.sqrt(samples.shape[1])


def _ratios(distances: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Returns distances over errors; of an error of 0, infinity with the distance's sign."""
    infinite = np.where(distances == 0, 0.0, np.copysign(math.inf, distances))
    return np.divide(distances, errors, out=infinite, where=errors > 0)


def _student_p(ratio: float, freedom: int) -> float:
    """Returns the upper tail of Student's t (Abramowitz & Stegun, 26.7.8)."""
    if math.isinf(ratio):
        return 0.0 if ratio > 0 else 1.0
    z = ratio * (1 - 1 / (4 * freedom)) / math.sqrt(1 + ratio * ratio / (2 * freedom))
    return _NORMAL.cdf(-z)


def _student(confidence: float, freedom: int) -> float:
    """Returns the quantile of which `_student_p` is one less `confidence`."""
    z = _NORMAL.inv_cdf(confidence)
    rest = (1 - 1 / (4 * freedom)) ** 2 - z * z / (2 * freedom)
    return z / math.sqrt(rest) if rest > 0 else math.inf


def power(
    variance: float, gap: float, examples: float, confidence: float, correction: float = 0.0
) -> float:
    """Returns the chance to find a gap between means on so many independent images.

    Args:
        variance: Of the difference on one image.
        gap: What separates the truth from the hypothesis, positive.
        examples: Independent images.
        confidence: Of the one-sided test.
        correction: What the test takes off the sum of differences.
    """
    if variance <= 0:
        return 1.0
    reach = (gap * examples - correction) / math.sqrt(variance * examples)
    return _NORMAL.cdf(reach - _NORMAL.inv_cdf(confidence))


def needed(
    variance: float, gap: float, chance: float, confidence: float, correction: float = 0.0
) -> int:
    """Returns how many independent images find a gap with a given chance; see `power`."""
    reach = (_NORMAL.inv_cdf(confidence) + _NORMAL.inv_cdf(chance)) * math.sqrt(variance)
    root = (reach + math.sqrt(reach**2 + 4 * gap * correction)) / (2 * gap)
    return math.ceil(root**2)
