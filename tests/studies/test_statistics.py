import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from studies.statistics import CONFIDENCE, Decision, Spread, all_of, compare

SAMPLES = st.lists(st.floats(-100, 100), min_size=2, max_size=6)


@given(SAMPLES, SAMPLES)
def test_the_interval_is_that_of_welchs_test(first, second):
    if np.std(first) < 1e-3 or np.std(second) < 1e-3:
        return
    found = compare(first, second)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-6, atol=1e-9)
    assert found.low <= found.difference <= found.high


@given(SAMPLES, SAMPLES, st.floats(0, 50))
def test_a_claim_and_its_opposite_are_never_both_supported(first, second, least):
    decisions = compare(first, second).exceeds(least), compare(second, first).exceeds(least)
    assert decisions.count(Decision.SUPPORTED) <= 1


def test_a_difference_within_the_spread_decides_nothing():
    assert compare([1.0, 2.0, 3.0], [1.1, 1.9, 2.7]).exceeds() is Decision.UNDECIDED
    assert compare([1.0, 2.0, 3.0], [1.1, 1.9, 2.7]).within(0.1) is Decision.UNDECIDED


def test_a_difference_beyond_the_spread_decides_either_way():
    assert compare([5.0, 5.1, 4.9], [1.0, 1.1, 0.9]).exceeds(3) is Decision.SUPPORTED
    assert compare([1.0, 1.1, 0.9], [5.0, 5.1, 4.9]).exceeds() is Decision.CONTRADICTED
    assert compare([1.0, 1.1, 0.9], [1.0, 1.1, 0.9]).within(1) is Decision.SUPPORTED
    assert compare([5.0, 5.1, 4.9], [1.0, 1.1, 0.9]).within(1) is Decision.CONTRADICTED


@pytest.mark.parametrize("second", [[0.0], [0.0, math.nan], [0.0, math.inf]])
def test_one_seed_or_a_training_that_diverged_decides_nothing(second):
    found = compare([10.0, 10.1], second)
    assert found.exceeds() is found.within(1) is Decision.UNDECIDED
    assert "unknown spread" in found.told()


def test_counts_are_decided_without_a_spread():
    assert compare([3, 3], [2, 2]).exceeds() is Decision.SUPPORTED
    assert compare([3, 3], [3, 3]).exceeds() is Decision.UNDECIDED


def test_a_verdict_of_several_parts_needs_all_of_them():
    yes, no, open_ = Decision.SUPPORTED, Decision.CONTRADICTED, Decision.UNDECIDED
    assert all_of([yes, yes]) is yes
    assert all_of([yes, open_]) is open_
    assert all_of([yes, open_, no]) is no


def test_a_spread_is_told_with_its_deviation():
    assert Spread.of([1.0, 2.0, 3.0]).told() == "2 ± 1"
    assert Spread.of([2.5]).told() == "2.5"
