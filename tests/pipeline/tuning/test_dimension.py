"""One dimension of a space: which values it has, against exact fractions and Keras Tuner."""

import math
from fractions import Fraction

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.tuning.dimension import Dimension, canonical
from pipeline.tuning.space import Space

_DECIMALS = st.integers(-500, 500).map(lambda hundredths: hundredths / 100)
_CHOSEN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-5, 5),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=3),
)


def _exact(value: float) -> Fraction:
    return Fraction(str(value))


@given(
    least=_DECIMALS, step=st.integers(1, 200), number=st.integers(1, 60), more=st.integers(0, 99)
)
def test_steps_are_those_of_exact_arithmetic(
    least: float, step: int, number: int, more: int
) -> None:
    """In floating point 3 times 0.1 is more than 0.3, and 0.3 would never be tried."""
    greatest = _exact(least) + number * Fraction(step, 100) + Fraction(more * step, 10_000)
    found = Dimension(type="float", min=least, max=float(greatest), step=step / 100).grid()
    wanted = [_exact(least) + n * Fraction(step, 100) for n in range(number + 1)]
    assert [_exact(value) for value in found] == wanted


@given(
    least=st.integers(1, 20),
    factor=st.integers(2, 5),
    number=st.integers(1, 8),
    kind=st.sampled_from(["int", "float", "log"]),
)
def test_steps_of_a_logarithmic_scale_are_factors(
    least: int, factor: int, number: int, kind: str
) -> None:
    sampling = None if kind == "log" else "log"
    greatest = least * factor**number
    found = Dimension(type=kind, min=least, max=greatest, step=factor, sampling=sampling).grid()
    assert found == tuple(least * factor**n for n in range(number + 1))
    assert {type(value) for value in found} == {int if kind == "int" else float}


@given(st.lists(_CHOSEN, min_size=1, max_size=5, unique_by=canonical))
def test_every_choice_comes_back_from_keras_tuner(values: list) -> None:
    one = Dimension(type="choice", values=values)
    space = Space({"model_arguments.x": [one]})
    (choice,) = space.to_keras_tuner().space
    assert len(set(choice.values)) == len(values)
    back = [
        space.decode({"model_arguments.x": value})["model_arguments.x"] for value in choice.values
    ]
    assert back == values
    assert [canonical(value) for value in back] == [canonical(value) for value in values]
    # As Keras Tuner writes it into files and sends it to other processes.
    restored = keras_tuner.HyperParameters.from_config(space.to_keras_tuner().get_config())
    assert list(restored.space[0].values) == list(choice.values)


@given(
    ends=st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).filter(
        lambda ends: ends[0] < ends[1]
    ),
    kind=st.sampled_from(["float", "log"]),
    sampling=st.sampled_from([None, "linear", "log", "reverse_log"]),
    share=st.floats(0, 0.999),
)
def test_what_keras_tuner_draws_is_in_the_range(
    ends: tuple[float, float], kind: str, sampling: str | None, share: float
) -> None:
    if kind == "log":
        sampling = None
    one = Dimension(type=kind, min=ends[0], max=ends[1], sampling=sampling)
    (drawn,) = Space({"learning_rate": [one]}).to_keras_tuner().space
    value = drawn.prob_to_value(share)
    assert one.holds(min(max(value, ends[0]), ends[1]))
    assert value == pytest.approx(min(max(value, ends[0]), ends[1]))
    if kind == "log":
        wanted = ends[0] * (ends[1] / ends[0]) ** share
        assert value == pytest.approx(wanted)


@settings(max_examples=50)
@given(least=st.integers(1, 50), length=st.integers(1, 50), share=st.floats(0, 0.999))
def test_whole_numbers_stay_whole(least: int, length: int, share: float) -> None:
    one = Dimension(type="int", min=least, max=least + length)
    (drawn,) = Space({"batch_size": [one]}).to_keras_tuner().space
    value = one.decoded(drawn.prob_to_value(share))
    assert type(value) is int
    assert least <= value <= least + length


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert Dimension(type="choice", values=["1e-3", "2E+1", "sgd"]).values == (1e-3, 20.0, "sgd")
    assert Dimension(type="choice", values=[["1e-3", 1]]).values == ([1e-3, 1],)
    assert Dimension(type="log", min="1e-3", max="1e-1").min == 1e-3


def test_values_that_are_tried_show_the_ends_and_something_between() -> None:
    inside = 1 + 0.382 * 2
    assert list(Dimension(type="float", min=1, max=3).tried()) == [
        ("min", 1.0),
        ("max", 3.0),
        ("type", pytest.approx(inside)),
    ]
    assert list(Dimension(type="int", min=1, max=6, step=2).tried()) == [
        ("min", 1),
        ("max", 6),
        *(("step", value) for value in (1, 3, 5)),
    ]


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("values must hold what is chosen from", {"type": "choice"}),
        ("values must hold", {"type": "choice", "values": []}),
        ("stands twice", {"type": "choice", "values": [1, 1.0]}),
        ("min is of a range, and this is a choice", {"type": "choice", "values": [1], "min": 1}),
        ("values are of a choice", {"type": "int", "values": [1], "min": 1, "max": 2}),
        ("the type log needs min and max; max is missing", {"type": "log", "min": 1}),
        ("max must be greater than min 2, not 2", {"type": "int", "min": 2, "max": 2}),
        ("max must be greater than min 2, not 1", {"type": "float", "min": 2, "max": 1}),
        ("min must be greater than 0", {"type": "log", "min": 0, "max": 1}),
        ("min must be greater", {"type": "int", "min": 0, "max": 1, "sampling": "log"}),
        ("min must be a whole number, not 1.5", {"type": "int", "min": 1.5, "max": 2}),
        ("sampling must be 'log'", {"type": "log", "min": 1, "max": 2, "sampling": "linear"}),
        ("step must be greater than 0", {"type": "int", "min": 1, "max": 2, "step": 0}),
        ("step must be greater than 1", {"type": "log", "min": 1, "max": 2, "step": 1}),
        ("step must be a whole number", {"type": "int", "min": 1, "max": 4, "step": 1.5}),
        ("step 3 leads from min beyond max", {"type": "int", "min": 1, "max": 3, "step": 3}),
        ("step 1e-05 is so small", {"type": "float", "min": 0, "max": 3, "step": 1e-5}),
        (
            "step must be left out with sampling reverse_log",
            {"type": "float", "min": 1, "max": 3, "step": 2, "sampling": "reverse_log"},
        ),
        ("finite", {"type": "float", "min": 1, "max": math.inf}),
    ],
    ids=str,
)
def test_what_is_no_dimension_is_refused(said: str, given: dict) -> None:
    with pytest.raises(ValidationError, match=said):
        Dimension(**given)


def test_what_is_no_value_is_not_taken_for_one() -> None:
    one = Dimension(type="choice", values=["sgd", "adamw"])
    with pytest.raises(ValueError, match='\'lamb\' is none of "sgd", "adamw"'):
        one.decoded("lamb")
    assert not one.holds("lamb")
    assert not Dimension(type="int", min=0, max=3).holds(True)
    assert not Dimension(type="int", min=0, max=3).holds(1.5)
    assert not Dimension(type="float", min=0, max=3).holds("1")
    assert Dimension(type="float", min=0, max=3).holds(3)
