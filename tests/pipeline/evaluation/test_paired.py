"""The tests of paired answers hold their level, which is enumerated or simulated, and have power."""

import bisect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation import comparison, paired
from pipeline.evaluation.comparison import Rule

LEVEL = 0.05
SLOWLY = settings(deadline=None, max_examples=50)


@SLOWLY
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_exact_test_is_the_binomial_one(wins, losses):
    if wins + losses:
        expected = stats.binomtest(wins, wins + losses, alternative="greater").pvalue
    else:
        expected = 1.0
    assert paired.mcnemar(wins, losses) == pytest.approx(expected)


@SLOWLY
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.floats(0.001, 0.2))
def test_the_score_test_takes_the_most_likely_share_under_the_hypothesis(
    wins, losses, both, margin
):
    examples = wins + losses + both + 1
    # The share of losses that makes the counts most likely, found by looking at many.
    shares = np.linspace(margin, (1 + margin) / 2, 20_001)[1:-1]
    with np.errstate(divide="ignore"):
        likelihood = (
            wins * np.log(shares - margin)
            + losses * np.log(shares)
            + (both + 1) * np.log(1 - 2 * shares + margin)
        )
    share = shares[likelihood.argmax()] if losses + wins else margin
    variance = examples * (2 * share - margin - margin**2)
    expected = (wins - losses + examples * margin - 0.5) / np.sqrt(variance)
    assert paired.score(wins, losses, examples, margin) == pytest.approx(expected, rel=2e-2)


@SLOWLY
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 300))
def test_a_margin_is_passed_exactly_if_the_interval_is_above_it(wins, losses, both):
    examples = wins + losses + both
    low, high = paired.score_interval(wins, losses, examples, 1 - LEVEL)
    assert low <= (wins - losses) / examples <= high
    for margin in (0.005, 0.02, 0.1, 0.4):
        passed = paired.score_p(wins, losses, examples, margin) <= LEVEL
        assert passed == (low > -margin) or abs(low + margin) < 1e-9


def rejections(examples, lost, won, passes):
    """Returns the chance that `passes`, from all counts of wins and losses that can come."""
    differ = stats.binom.pmf(np.arange(examples + 1), examples, lost + won)
    total = 0.0
    for number in np.flatnonzero(differ > 1e-9).tolist():
        # Who wins more passes as well.
        least = bisect.bisect_left(range(number + 1), True, key=lambda w: passes(w, number - w))
        total += differ[number] * stats.binom.sf(least - 1, number, won / (lost + won))
    return total


@pytest.mark.parametrize("examples", [20, 75, 149, 300])
@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
def test_a_model_that_is_worse_by_the_margin_passes_as_not_worse_at_most_in_a_twentieth(
    examples, margin
):
    """Enumerated: of every share of images on which the two differ."""
    for lost in (margin, 1.05 * margin, 1.5 * margin, 3 * margin):
        won = lost - margin
        passes = lambda w, c: paired.score_p(w, c, examples, margin) <= LEVEL
        assert rejections(examples, lost, won, passes) <= LEVEL


@pytest.mark.parametrize("examples", [20, 150, 400])
def test_an_equal_model_passes_as_better_at_most_in_a_twentieth(examples):
    for differ in (0.02, 0.1, 0.4):
        passes = lambda w, c: paired.mcnemar(w, c) <= LEVEL
        assert rejections(examples, differ / 2, differ / 2, passes) <= LEVEL


@pytest.mark.parametrize(
    ("accuracy", "differ", "examples"),
    list(itertools.product((0.6, 0.9, 0.98), (0.01, 0.04, 0.2), (100, 1000, 10_000))),
)
def test_simulated_models_pass_no_more_often_than_they_may(accuracy, differ, examples):
    """Whole images, thousands of trials: an equal model, and one that is worse by the margin."""
    trials, margin = 4000, 0.01
    generator = np.random.default_rng([int(100 * accuracy), int(100 * differ), examples])
    # Each has to be right as often as wrong about what they differ on.
    differ = min(differ, 2 * (1 - accuracy))

    def passed(won, lost, passes):
        counts = generator.multinomial(examples, [won, lost, 1 - won - lost], trials)
        pairs, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        return sum(t for (w, c), t in zip(pairs.tolist(), times, strict=True) if passes(w, c))

    equal = passed(differ / 2, differ / 2, lambda w, c: paired.mcnemar(w, c) <= LEVEL)
    lost = max(differ / 2, margin)
    worse = passed(
        lost - margin,
        lost,
        lambda w, c: paired.score_p(w, c, examples, margin) <= LEVEL,
    )
    # A test of exactly this level shows more than this in one of ten thousand seeds.
    most = stats.binom.ppf(1 - 1e-4, trials, LEVEL)
    assert max(equal, worse) <= most


def test_the_chance_of_an_equal_model_is_what_is_foretold_and_so_are_the_images_it_takes():
    generator = np.random.default_rng(0)
    rule = Rule(margin=0.02)
    needed = paired.needed(0.06, rule.margin, 0.8, rule.confidence, paired.CONTINUITY)
    for examples, foretold in ((needed, 0.8), (needed // 3, None)):
        foretold = foretold or paired.power(
            0.06, rule.margin, examples, rule.confidence, paired.CONTINUITY
        )
        wins, losses, _ = generator.multinomial(examples, [0.03, 0.03, 0.94], 4000).T
        passed = [
            paired.score_p(w, lost, examples, rule.margin) <= LEVEL
            for w, lost in zip(wins.tolist(), losses.tolist(), strict=True)
        ]
        assert np.mean(passed) == pytest.approx(foretold, abs=0.05)


def hits(generator, groups, size, share):
    """Returns who is right about images of groups that are alike within."""
    own = np.repeat(generator.random(groups) < share, size)
    noise = generator.random(groups * size) < 0.1
    return own ^ noise


def test_with_groups_the_level_holds_where_single_images_would_deceive():
    """Images of a group are alike: counted singly, equal models would be found better."""
    generator = np.random.default_rng(1)
    rule, groups, size, trials = Rule(rule="better"), 60, 8, 400
    members = np.repeat(np.arange(groups), size)
    singly = passed = 0
    for _ in range(trials):
        ours, theirs = (hits(generator, groups, size, 0.7) for _ in range(2))
        found = comparison.of_shares(ours, theirs, rule, members, generator, resamples=199)
        passed += found.passed
        singly += paired.mcnemar(found.wins, found.losses) <= LEVEL
    assert passed <= stats.binom.ppf(1 - 1e-4, trials, LEVEL)
    assert singly > 2 * LEVEL * trials


def test_groups_of_one_are_single_images_and_equal_groups_count_once():
    generator = np.random.default_rng(2)
    gains = generator.integers(-1, 2, 50).astype(float)
    assert paired.design_effect(gains, np.arange(50)) == 1
    copies = paired.design_effect(np.repeat(gains, 4), np.repeat(np.arange(50), 4))
    assert copies == pytest.approx(4, rel=0.05)
    assert paired.design_effect(np.zeros(200), np.repeat(np.arange(50), 4)) == 4


@pytest.mark.parametrize("skewed", [1, -1, 0])
def test_the_test_of_means_holds_its_level_on_skewed_differences(skewed):
    generator = np.random.default_rng(3 + skewed)
    trials, examples, margin = 600, 80, 0.05
    passed = 0
    for _ in range(trials):
        if skewed:
            gains = skewed * (generator.exponential(1, examples) - 1)
        else:
            gains = generator.standard_t(3, examples)
        found = paired.Studentized(gains - margin, np.arange(examples), 299, generator)
        p_value = found.p_value(margin)
        passed += p_value <= LEVEL
        assert (found.interval(1 - LEVEL)[0] > -margin) == (p_value <= LEVEL)
    assert 0.01 * trials < passed <= stats.binom.ppf(1 - 1e-4, trials, LEVEL)


def test_where_nothing_is_known_nothing_passes():
    generator = np.random.default_rng(0)
    one = paired.Studentized(np.array([5.0, 4.0]), np.array([0, 0]), 99, generator)
    assert one.p_value(1.0) == 1 and one.interval(0.95) == (-np.inf, np.inf)
    assert paired.mcnemar(0, 0) == 1
    # Without a single difference, the number of images alone shows that it is small.
    assert paired.score_p(0, 0, 100, 0.02) > LEVEL > paired.score_p(0, 0, 300, 0.02)
