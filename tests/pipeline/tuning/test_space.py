"""The search space: what Keras Tuner is given, what comes back, and what Trainer gets."""

import itertools
import json
from typing import Any

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_tuner.oracles import BayesianOptimizationOracle as Bayesian

from pipeline.components.trainer import Parameters
from pipeline.errors import UsageError
from pipeline.tuning import contexts
from pipeline.tuning.dimension import Dimension
from pipeline.tuning.space import Space, apply, wrong_conditions

_OPTIMIZER = Dimension(type="choice", values=["sgd", "adamw"])


def _by_optimizer() -> Space:
    """Of each optimizer its own learning rates; those of SGD may be warmed up."""
    return Space(
        {
            "warmup_epochs": [Dimension(type="float", min=1, max=2, when={"nested": [1, 2]})],
            "nested": [Dimension(type="int", min=0, max=2, step=1, when={"optimizer": "sgd"})],
            "learning_rate": [
                Dimension(type="log", min=0.01, max=1, when={"optimizer": "sgd"}),
                Dimension(type="log", min=1e-4, max=0.009, when={"optimizer": ["adamw"]}),
            ],
            "optimizer": [_OPTIMIZER],
        }
    )


def test_conditions_come_before_what_depends_on_them() -> None:
    order = list(_by_optimizer().dimensions)
    assert order.index("optimizer") < order.index("nested") < order.index("warmup_epochs")
    assert order.index("optimizer") < order.index("learning_rate")


def test_what_keras_tuner_proposes_keeps_the_conditions() -> None:
    space = _by_optimizer()
    oracle = Bayesian(
        objective=keras_tuner.Objective("eval_accuracy", "max"),
        max_trials=1,
        hyperparameters=space.to_keras_tuner(),
        seed=3,
    )
    seen = set()
    for _ in range(60):
        values = space.decode(oracle._random_values())
        sgd = values["optimizer"] == "sgd"
        assert ("nested" in values) == sgd
        assert ("warmup_epochs" in values) == (sgd and values["nested"] > 0)
        assert (values["learning_rate"] > 0.009) == sgd
        seen.add((values["optimizer"], values.get("nested")))
    assert seen == {("adamw", None), ("sgd", 0), ("sgd", 1), ("sgd", 2)}


def test_defaults_are_those_of_the_configuration_where_the_space_holds_them() -> None:
    space = Space(
        {
            "optimizer": [_OPTIMIZER],
            "learning_rate": [Dimension(type="log", min=0.01, max=1)],
            "model_arguments.depths": [Dimension(type="choice", values=[[1, 1, 1], [2, 2, 2]])],
            "mixup": [Dimension(type="float", min=0, max=1, step=0.1)],
            "random_flip": [Dimension(type="choice", values=[False, True])],
        }
    )
    configured = {
        "optimizer": "adamw",
        "learning_rate": 30.0,
        "model_arguments.depths": (2, 2, 2),
        "mixup": 0.3,
        "random_flip": True,
    }
    assert space.decode(space.to_keras_tuner(configured).values) == {
        "optimizer": "adamw",
        "learning_rate": 0.01,  # 30 is none of these
        "model_arguments.depths": [2, 2, 2],
        "mixup": 0.3,
        "random_flip": True,
    }


_NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def _spaces(draw: st.DrawFn) -> dict[str, list[Dimension]]:
    """Choices of up to three values, each perhaps under conditions on those drawn before."""
    found: dict[str, list[Dimension]] = {}
    for name in draw(st.lists(_NAMES, min_size=1, unique=True)):
        values = draw(
            st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=3, unique=True)
        )
        when: dict[str, Any] = {}
        for parent in (
            draw(st.lists(st.sampled_from(sorted(found)), max_size=2, unique=True)) if found else []
        ):
            grid = list(found[parent][0].grid())
            when[parent] = draw(st.lists(st.sampled_from(grid), min_size=1, unique=True))
        found[name] = [Dimension(type="choice", values=values, when=when)]
    return dict(draw(st.permutations(sorted(found.items()))))


def _every(dimensions: dict[str, list[Dimension]]) -> list[dict[str, Any]]:
    """All sets of values, by trying everything and leaving out what no condition allows."""
    found = []
    grids = {key: [*alternatives[0].grid(), ...] for key, alternatives in dimensions.items()}
    for values in itertools.product(*grids.values()):
        chosen = {key: one for key, one in zip(grids, values, strict=True) if one is not ...}
        if all(
            (key in chosen)
            == all(p in chosen and chosen[p] in wanted for p, wanted in one.when.items())
            for key, (one,) in dimensions.items()
        ):
            found.append(chosen)
    return found


@settings(max_examples=60, deadline=None)
@given(_spaces())
def test_sets_of_values_are_those_that_the_conditions_allow(
    dimensions: dict[str, list[Dimension]],
) -> None:
    space = Space({f"model_arguments.{key}": _renamed(found) for key, found in dimensions.items()})
    allowed = [
        {f"model_arguments.{key}": value for key, value in values.items()}
        for values in _every(dimensions)
    ]
    parents = {parent for (one,) in space.dimensions.values() for parent in one.when}
    wanted = {_text({k: v for k, v in values.items() if k in parents}) for values in allowed}
    assert {_text(values) for values in space.switchings()} == wanted
    tuner = space.to_keras_tuner()
    for values in allowed:
        encoded = space.encode(values)
        assert space.decode(encoded) == values
        tuner.values = encoded
        assert {one.name for one in tuner.space if tuner.is_active(one)} == set(values)
    for key, (one,) in space.dimensions.items():
        reached = contexts.reachable(space, key, 0)
        assert reached == any(key in values for values in allowed)
        for value in one.grid():
            tried = list(contexts.of(space, key, 0, value, {}))
            assert bool(tried) == reached
            assert all(values in allowed and values[key] == value for values in tried)


def _renamed(alternatives: list[Dimension]) -> list[Dimension]:
    (one,) = alternatives
    when = {f"model_arguments.{parent}": wanted for parent, wanted in one.when.items()}
    return [Dimension(type="choice", values=one.values, when=when)]


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def test_values_go_where_their_keys_say() -> None:
    before = Parameters(model_arguments={"se_ratio": 0.25}, learning_rate=0.1, mixup=0.2)
    found = apply(
        before,
        {
            "learning_rate": 0.5,
            "model_arguments.depths": [2, 2, 2],
            "model_arguments.se_ratio": None,
            "recipe_arguments.beta_2": 0.95,
        },
    )
    assert (found.learning_rate, found.mixup) == (0.5, 0.2)
    assert found.model_arguments == {"se_ratio": None, "depths": [2, 2, 2]}
    assert found.recipe_arguments == {"beta_2": 0.95}
    assert before.model_arguments == {"se_ratio": 0.25}
    assert apply(before, {}) == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": -1}, "learning_rate: input should be greater than 0; found -1"),
        ({"mixup": 0.1, "optimizer": "x"}, "optimizer: input should be 'sgd', .*; found \"x\""),
        ({"random_shift": 40, "mixup": 1}, "random_shift: random_shift must be at most"),
        ({"learning_rat": 1}, "learning_rat: Trainer has no such field"),
        ({"learning_rate.x": 1}, "learning_rate.x: Trainer has no such field"),
        ({"model_arguments.classes": 3}, "model_arguments.classes: .* must not hold classes"),
    ],
    ids=str,
)
def test_what_trainer_does_not_take_is_refused_with_its_key(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        apply(Parameters(), values)


def test_values_that_the_space_does_not_have_are_refused_with_their_key() -> None:
    space = _by_optimizer()
    with pytest.raises(UsageError, match=r"tuner.space.optimizer: 'lamb' is none of"):
        space.decode({"optimizer": "lamb"})
    with pytest.raises(UsageError, match=r"tuner.space.learning_rate: has no value among"):
        space.decode({"optimizer": "adamw"})


@pytest.mark.parametrize(
    ("whens", "said"),
    [
        ({"momentum": {"optimiser": "sgd"}}, "has no 'optimiser'; did you mean 'optimizer'"),
        ({"momentum": {"optimizer": "lamb"}}, 'optimizer is never "lamb"; expected of "sgd"'),
        ({"momentum": {"optimizer": []}}, "no value of optimizer is named"),
        ({"momentum": {"momentum": 0.5}}, "a field cannot be its own condition"),
        ({"optimizer": {"momentum": 0.5}}, "momentum is a range; expected a choice"),
    ],
    ids=str,
)
def test_conditions_that_can_never_hold_are_refused(whens: dict, said: str) -> None:
    dimensions = {
        "optimizer": [
            Dimension(type="choice", values=["sgd", "adamw"], when=whens.get("optimizer", {}))
        ],
        "momentum": [Dimension(type="float", min=0.5, max=0.9, when=whens.get("momentum", {}))],
    }
    (wrong,) = wrong_conditions(dimensions)
    assert said in wrong.message
    with pytest.raises(UsageError, match=r"^tuner\.space"):
        Space(dimensions)


def test_conditions_that_wait_for_each_other_are_refused() -> None:
    dimensions = {
        "mixup": [Dimension(type="choice", values=[0, 1], when={"cutmix": 0})],
        "cutmix": [Dimension(type="choice", values=[0.0, 1.0], when={"mixup": 0})],
    }
    (wrong,) = wrong_conditions(dimensions)
    assert "conditions wait for each other: " in wrong.message


def test_alternatives_have_to_exclude_each_other() -> None:
    dimensions = {
        "optimizer": [_OPTIMIZER],
        "momentum": [
            Dimension(type="float", min=0.5, max=0.9, when={"optimizer": "sgd"}),
            Dimension(type="float", min=0.1, max=0.4, when={"optimizer": ["sgd", "adamw"]}),
        ],
    }
    (wrong,) = wrong_conditions(dimensions)
    assert wrong.path == ("momentum", 1)
    assert "may hold at once" in wrong.message
