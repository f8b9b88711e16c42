"""Learning rates at the corners of the schedules."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_resnet import recipes


def at(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_the_default_is_kerass_warmup_and_cosine():
    schedule = recipes.get("default").make_schedule(10)
    peer = keras.optimizers.schedules.CosineDecay(0.1 / 10, 190, warmup_target=0.1, warmup_steps=10)
    steps = (0, 1, 9, 10, 11, 105, 199, 200, 300)
    np.testing.assert_allclose(at(schedule, *steps), at(peer, *steps), rtol=1e-6, atol=1e-9)


def test_he_divides_by_ten_at_a_half_and_three_quarters():
    schedule = recipes.get("he2015_cifar").make_schedule(352)
    half, three_quarters, end = 91 * 352, 48048, 182 * 352
    rates = at(schedule, 0, half - 1, half, three_quarters - 1, three_quarters, end)
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_wrn_multiplies_with_a_fifth_at_epochs_60_120_and_160():
    schedule = recipes.get("wrn_cifar").make_schedule(390)
    corners = [epoch * 390 for epoch in (60, 120, 160)]
    before = at(schedule, *[corner - 1 for corner in corners])
    assert before == pytest.approx([0.1, 0.02, 0.004])
    assert at(schedule, *corners) == pytest.approx([0.02, 0.004, 0.0008])


def test_rsb_climbs_from_its_warmup_rate_and_ends_at_its_minimum():
    schedule = recipes.get("rsb_a2").make_schedule(625)
    middle = (5 + 300) / 2 * 625
    rates = at(schedule, 0, 5 * 625 // 2, 5 * 625, int(middle), 300 * 625)
    assert rates == pytest.approx([1e-4, 2.55e-3, 5e-3, 2.5005e-3, 1e-6], rel=1e-3)


def test_rs_climbs_from_nothing():
    assert at(recipes.get("resnet_rs").make_schedule(312), 0, 5 * 312) == pytest.approx([0, 1.6])


def test_a_shorter_training_has_the_milestones_at_the_same_shares():
    schedule = recipes.get("he2015_cifar").make_schedule(10, epochs=4)
    assert at(schedule, 19, 20, 29, 30) == pytest.approx([0.1, 0.01, 0.01, 0.001])


def test_a_warmup_that_is_longer_than_the_training_ends_in_time():
    schedule = recipes.get("rsb_a3").make_schedule(2, epochs=1)
    assert schedule.warmup_steps == 1
    assert at(schedule, 0, 1) == pytest.approx([1e-4, 8e-3])


def test_a_constant_stays():
    recipe = recipes.Recipe(schedule="constant", learning_rate=0.3, warmup_epochs=1.0)
    assert at(recipe.make_schedule(4), 0, 2, 4, 300) == pytest.approx([0.075, 0.1875, 0.3, 0.3])


@given(
    st.sampled_from(["cosine", "multistep", "constant"]),
    st.integers(1, 50),
    st.integers(1, 20),
    st.floats(0, 30),
)
@settings(max_examples=20, deadline=None)
def test_rates_stay_between_the_ends_and_fall_after_the_warmup(kind, per_epoch, epochs, warmup):
    recipe = dataclasses.replace(
        recipes.Recipe(learning_rate=0.5, minimum_learning_rate=1e-3),
        schedule=kind,
        milestones=(0.3, 0.6) if kind == "multistep" else (),
        warmup_epochs=warmup,
    )
    schedule = recipe.make_schedule(per_epoch, epochs)
    steps = np.linspace(0, schedule.steps, 9).astype(int)
    rates = np.array(at(schedule, *steps))
    assert rates.min() >= 1e-3 * 0.999 or schedule.warmup_steps > 500 * 0.999
    assert rates.max() <= 0.5 * 1.0001
    later = rates[steps >= schedule.warmup_steps]
    assert (np.diff(later) <= 1e-7).all()


def test_it_comes_back_from_its_configuration():
    for name in recipes.list_recipes():
        schedule = recipes.get(name).make_schedule(100)
        copy = keras.optimizers.schedules.deserialize(
            keras.optimizers.schedules.serialize(schedule)
        )
        assert copy.get_config() == schedule.get_config()
        assert at(copy, 0, 777, 5000) == at(schedule, 0, 777, 5000)


@pytest.mark.parametrize("wrong", [{"kind": "linear"}, {"warmup_steps": 10}, {"warmup_steps": -1}])
def test_errors_name_what_is_wrong(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        recipes.Schedule(0.1, 10, **wrong)
