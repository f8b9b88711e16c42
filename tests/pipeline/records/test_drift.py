"""Distances between distributions, against SciPy, and how far chance takes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

from pipeline.records import drift

_COUNTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**6), min_size=1).filter(
    lambda counts: sum(counts.values()) > 0
)


def shares(one, other):
    keys = sorted(one.keys() | other.keys())
    counts = np.array([[found.get(key, 0) for key in keys] for found in (one, other)], float)
    return counts / counts.sum(axis=1, keepdims=True)


@given(_COUNTS, _COUNTS)
def test_distances_are_those_of_scipy(one, other):
    first, second = shares(one, other)
    value, most = drift.l_infinity(one, other)
    assert value == pytest.approx(distance.chebyshev(first, second), abs=1e-12)
    keys = sorted(one.keys() | other.keys())
    assert abs(first - second)[keys.index(most)] == pytest.approx(value, abs=1e-12)
    expected = distance.jensenshannon(first, second, base=2) ** 2
    # SciPy's root of what rounding leaves of zero is not zero.
    assert drift.jensen_shannon(one, other) == pytest.approx(expected, abs=1e-7)


@given(_COUNTS)
def test_equal_distributions_are_at_distance_zero_and_disjoint_ones_at_one(counts):
    doubled = {key: 2 * count for key, count in counts.items()}
    assert drift.l_infinity(counts, doubled)[0] == pytest.approx(0, abs=1e-12)
    assert drift.jensen_shannon(counts, doubled) == pytest.approx(0, abs=1e-12)
    elsewhere = {key.upper(): count for key, count in counts.items()}
    assert drift.jensen_shannon(counts, elsewhere) == pytest.approx(1)


@pytest.mark.parametrize("size", [30, 200, 5000])
def test_chance_alone_hardly_ever_goes_beyond_its_limit(size):
    rng = np.random.default_rng(size)
    beyond = {"l_infinity": 0, "jensen_shannon": 0}
    for _ in range(1000):
        weights = rng.dirichlet(np.ones(12))
        one, other = (
            dict(enumerate(rng.multinomial(number, weights).tolist()))
            for number in (size, 2 * size)
        )
        value, _ = drift.l_infinity(one, other)
        beyond["l_infinity"] += value > drift.l_infinity_by_chance(one, other)
        value = drift.jensen_shannon(one, other)
        beyond["jensen_shannon"] += value > drift.jensen_shannon_by_chance(one, other)
    assert max(beyond.values()) <= 3, beyond


def test_the_limit_of_chance_falls_as_the_samples_grow_and_lets_drift_be_seen():
    def limits(size):
        one = dict.fromkeys(range(10), size)
        return drift.l_infinity_by_chance(one, one), drift.jensen_shannon_by_chance(one, one)

    small, large = limits(5), limits(5000)
    assert np.divide(small, large) == pytest.approx((1000**0.5, 1000))
    assert large[0] < 0.01
    assert large[1] < 0.001
