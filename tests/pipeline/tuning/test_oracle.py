"""Oracles: the defects of Keras Tuner's that `pipeline.tuning.oracle` lists are not ours."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tuning.oracle import Oracle
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.search import Proposal
from pipeline.tuning.space import Space

# Keras Tuner asks for the names of threads as Python 3.9 did.
pytestmark = pytest.mark.filterwarnings("ignore:currentThread", "ignore:getName")

EPOCHS = 9
SPACE = {
    "learning_rate": {"type": "log", "min": 1e-3, "max": 1.0},
    "optimizer": {"type": "choice", "values": ["sgd", "lamb"]},
    "momentum": {"type": "float", "min": 0.0, "max": 0.99, "when": {"optimizer": "sgd"}},
}
FEW = {"batch_size": {"type": "choice", "values": [16, 32, 64]}}
DEFAULT = {"learning_rate": 3.0, "optimizer": "adamw"}  # outside of the space
ALGORITHMS = ("hyperband", "bayesian", "random")


def make(algorithm: str, space: Any = SPACE, default: Any = DEFAULT, **parameters: Any) -> Oracle:
    found = Parameters(space=space, algorithm=algorithm, iterations=1, **parameters)
    return Oracle(found, Space(found.space).to_keras_tuner(), default, EPOCHS, "max")


def search(
    oracle: Oracle,
    outcome: Callable[[Proposal], float | None],
    most: int = 60,
    rejected: Callable[[Proposal], bool] = lambda proposal: False,
) -> list[Proposal]:
    """Does one trial after the other."""
    done = []
    while len(done) < most and not isinstance(found := oracle.propose(), str):
        done.append(found)
        out = rejected(found)
        oracle.conclude(found.id, None if out else outcome(found), rejected=out)
    return done


def kept(state: Any) -> Any:
    """Returns a state as it comes out of the file again."""
    return json.loads(json.dumps(state))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_trial_is_the_configuration_at_full_length(algorithm):
    first = make(algorithm).propose()
    assert first.values == DEFAULT
    assert (first.epochs, first.continues, first.first_epoch) == (EPOCHS, None, 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_proposed_twice_and_a_small_space_comes_to_an_end(algorithm):
    done = search(make(algorithm, FEW, {"batch_size": 128}), lambda found: 0.5)
    begun = [found.values["batch_size"] for found in done if not found.continues]
    assert begun[0] == 128
    assert sorted(begun[1:]) == [16, 32, 64]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_restored_oracle_goes_on_as_it_would_have(algorithm):
    scores = random.Random(0)
    oracle, other = make(algorithm), make(algorithm)
    for _ in range(14):
        found = oracle.propose()
        state = kept(oracle.state)
        score = scores.choice([None, scores.random()])
        oracle.conclude(found.id, score)
        other.state = state
        other.conclude(found.id, score)
        assert kept(other.state) == kept(oracle.state)
    assert other.propose() == oracle.propose()


def test_seeds_begin_somewhere_else_and_0_is_one_of_them():
    def values(seed: int) -> list[float]:
        done = search(make("random", seed=seed), lambda found: 0.5, 9)
        return [found.values["learning_rate"] for found in done[1:]]

    assert values(0) == values(0)
    assert not set(values(0)) & set(values(1))


def test_conditions_hold_in_what_is_proposed():
    for algorithm in ALGORITHMS:
        for found in search(make(algorithm), lambda found: 0.5, 12)[1:]:
            assert ("momentum" in found.values) == (found.values["optimizer"] == "sgd")


def test_failures_in_a_row_do_not_end_a_search():
    assert len(search(make("random"), lambda found: None, 20)) == 20


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 4), st.floats(0, 0.6))
def test_hyperband_halves_whatever_fails(draw, workers, failing):
    oracle = make("hyperband")
    known, scores, running = {}, {}, []
    while True:
        found = oracle.propose() if len(running) < workers else "wait"
        if isinstance(found, Proposal):
            known[found.id] = found
            running.append(found)
            continue
        if found == "stop":
            break
        assert running, "it waits for nothing"
        ended = running.pop(draw.randrange(len(running)))
        scores[ended.id] = None if draw.random() < failing else draw.random()
        oracle.conclude(ended.id, scores[ended.id])
        oracle.state = kept(oracle.state)
    assert not running
    selected = [found.continues for found in known.values() if found.continues]
    assert len(set(selected)) == len(selected)
    for found in known.values():
        if found.continues:
            before = known[found.continues]
            assert scores[before.id] is not None
            assert found.values == before.values
            assert (found.first_epoch, found.epochs) > (0, before.epochs)
            assert found.first_epoch == before.epochs
    # Of each round that anybody came out of alive, somebody went on, and the best of all did.
    for epochs in {found.epochs for found in known.values() if found.epochs < EPOCHS}:
        alive = [n for n, one in known.items() if one.epochs == epochs and scores[n] is not None]
        if alive:
            assert max(alive, key=scores.get) in selected


def test_a_rejected_trial_makes_room_for_another_one():
    def large(found: Proposal) -> bool:
        return found.values.get("momentum", 0.0) > 0.5

    done = search(make("hyperband"), lambda found: 0.5, rejected=large)
    begun = [f for f in done[1:] if f.first_epoch == 0 and f.epochs == 1 and not large(f)]
    assert len(begun) == 9  # as many as with no rejections: 3 brackets, of 9, 5 and 3 trials


def test_the_process_learns_of_failures_and_of_what_is_running():
    """Where all above 0.1 fails, it ends up below; and two at once are not the same."""
    oracle = make("bayesian", {"learning_rate": SPACE["learning_rate"]}, {"learning_rate": 0.5})

    def outcome(found: Proposal) -> float | None:
        rate = found.values["learning_rate"]
        return None if rate > 0.1 else 0.5

    done = search(oracle, outcome, 20)
    assert sum(found.values["learning_rate"] > 0.1 for found in done[12:]) <= 2
    first, second = oracle.propose(), oracle.propose()
    assert first.values != second.values


def test_the_process_finds_the_best():
    oracle = make("bayesian", {"momentum": {"type": "float", "min": 0.0, "max": 1.0}}, {})
    done = search(oracle, lambda found: -((found.values.get("momentum", 0.0) - 0.73) ** 2), 16)
    assert min(abs(found.values["momentum"] - 0.73) for found in done[1:]) < 0.02
