"""How far two distributions are apart, and how far chance alone takes them.

Both distances are those of TensorFlow Data Validation, between 0 and 1.
"""

import math
from collections.abc import Hashable, Mapping

Counts = Mapping[Hashable, float]

# One-sided, one in ten thousand.
_SIGMAS = 3.72


def l_infinity(one: Counts, other: Counts) -> tuple[float, Hashable]:
    """Returns the greatest difference between the shares of a value, and that value.

    Args:
        one: How often each value was seen, at least one of them.
        other: The same of the other distribution.
    """
    total, others = sum(one.values()), sum(other.values())
    return max(
        (abs(one.get(value, 0) / total - other.get(value, 0) / others), value)
        for value in one.keys() | other.keys()
    )


def l_infinity_by_chance(one: Counts, other: Counts) -> float:
    """Returns what `l_infinity` hardly exceeds for two samples of one distribution."""
    value = l_infinity(one, other)[1]
    total, others = sum(one.values()), sum(other.values())
    share = (one.get(value, 0) + other.get(value, 0)) / (total + others)
    return min(_SIGMAS * math.sqrt(share * (1 - share) * (1 / total + 1 / others)), 1.0)


def jensen_shannon(one: Counts, other: Counts) -> float:
    """Returns the Jensen-Shannon divergence in bits (Lin, IEEE Trans. Inf. Theory 37, 1991).

    Args:
        one: How often a value was seen in each bucket, at least one of them.
        other: The same of the other distribution, of the same buckets.
    """
    total, others = sum(one.values()), sum(other.values())
    divergence = 0.0
    for bucket in one.keys() | other.keys():
        share, other_share = one.get(bucket, 0) / total, other.get(bucket, 0) / others
        middle = (share + other_share) / 2
        divergence += sum(p * math.log2(p / middle) for p in (share, other_share) if p) / 2
    return min(max(divergence, 0.0), 1.0)


def jensen_shannon_by_chance(one: Counts, other: Counts) -> float:
    """Returns what `jensen_shannon` hardly exceeds for two samples of one distribution.

    The divergence of two samples follows a chi-squared law with one degree of freedom less than
    there are buckets (Menéndez et al., J. Franklin Inst. 334, 1997); its quantile is Wilson and
    Hilferty's.
    """
    filled = sum(1 for bucket in one.keys() | other.keys() if one.get(bucket) or other.get(bucket))
    freedom = max(filled - 1, 1)
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + _SIGMAS * math.sqrt(spread)) ** 3
    sizes = 1 / sum(one.values()) + 1 / sum(other.values())
    return min(quantile * sizes / (8 * math.log(2)), 1.0)
