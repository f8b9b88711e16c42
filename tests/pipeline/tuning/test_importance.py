"""What a score depends on is found where it is known."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.tuning import importance
from tests.pipeline.tuning import records


def _scored(values: list[dict], score, **changes) -> list:
    return [
        dataclasses.replace(records.trial(n, one), score=score(one), **changes)
        for n, one in enumerate(values)
    ]


def _record(trials: list):
    return dataclasses.replace(records.searched(1), trials=tuple(trials))


def test_what_the_score_depends_on_comes_first_and_what_it_does_not_last() -> None:
    found = importance.measure(records.searched(40))
    assert [share.key for share in found.shares] == [
        "learning_rate",
        "model_arguments.depths",
        "random_shift",
    ]
    assert found.trials == 41  # those with other seeds are no other values
    assert found.explained > 0.8
    rate, depths, shift = found.shares
    assert rate.drop > 5 * depths.drop > 0
    assert abs(shift.drop) < 0.02
    assert importance.measure(records.searched(40)) == found


def test_the_drop_is_about_twice_the_share_of_the_variance() -> None:
    """Shuffled, a value is another one from the same distribution: for a score a + b of unit
    variances, the error grows by 2 where R² was 1, that is by twice each share."""
    random = np.random.default_rng(0)
    values = [
        {"mixup": float(a), "cutmix": float(b), "model_arguments.depths": [1, 1, 1]}
        | {"learning_rate": 0.1, "random_shift": 0}
        for a, b in random.uniform(0, 1, (300, 2))
    ]
    weights = {"mixup": math.sqrt(0.8), "cutmix": math.sqrt(0.2)}
    trials = _scored(values, lambda one: sum(w * one[key] for key, w in weights.items()))
    found = importance.measure(_record(trials))
    drops = {share.key: share.drop for share in found.shares}
    assert drops == {"mixup": pytest.approx(1.6, abs=0.2), "cutmix": pytest.approx(0.4, abs=0.1)}


def test_a_score_that_depends_on_nothing_is_not_explained() -> None:
    random = np.random.default_rng(1)
    trials = _scored(records.proposed(40), lambda one: random.normal())
    found = importance.measure(_record(trials))
    assert found.explained < 0.1
    assert all(share.drop < 0.5 for share in found.shares)


def test_what_is_not_set_counts_too() -> None:
    """The momentum alone tells nothing, but that there is one does."""
    random = np.random.default_rng(2)
    values = [
        {**one, "momentum": float(random.uniform(0.8, 0.9))} if number % 2 else one
        for number, one in enumerate(records.proposed(30))
    ]
    trials = _scored(values, lambda one: float("momentum" in one))
    found = importance.measure(_record(trials))
    assert found.shares[0].key == "momentum"
    assert found.explained > 0.9


def test_epochs_are_told_from_what_was_searched() -> None:
    trials = _scored(records.proposed(20), lambda one: 0.5)
    longer = [
        dataclasses.replace(trial, id=f"9{trial.id}", epochs=9, score=0.8) for trial in trials[:8]
    ]
    found = importance.measure(_record([*trials, *longer]))
    assert found.shares[0].key == importance.EPOCHS
    assert found.shares[0].drop > 10 * found.shares[1].drop


@pytest.mark.parametrize("number", [0, 5])
def test_too_few_trials_say_nothing(number: int) -> None:
    assert importance.measure(records.searched(number)) is None


def test_scores_that_are_all_the_same_say_nothing() -> None:
    assert importance.measure(_record(_scored(records.proposed(20), lambda one: 0.5))) is None
