"""The optimizers against the equations, written out in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_resnet import recipes

_RATES = [0.1, 0.1, 0.05, 0.2, 0.1]
_RANDOM = np.random.default_rng(0)
_START = {
    "kernel": _RANDOM.normal(size=(3, 4)),
    "convolution": _RANDOM.normal(size=(2, 3, 1, 4)),
    "gamma": _RANDOM.normal(size=4),
    "zero": np.zeros((2, 2)),
}
_GRADIENTS = [
    {name: _RANDOM.normal(size=value.shape) for name, value in _START.items()} for _ in _RATES
]


@keras.saving.register_keras_serializable(package="tests")
class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Another learning rate in every step."""

    def __call__(self, step):
        return keras.ops.take(keras.ops.convert_to_tensor(np.float32(_RATES)), step)

    def get_config(self):
        return {}


def trained(optimizer):
    """What the optimizer makes of the variables in five steps."""
    variables = {name: keras.Variable(value, name=name) for name, value in _START.items()}
    optimizer.build(list(variables.values()))
    for gradients in _GRADIENTS:
        optimizer.apply(
            [keras.ops.convert_to_tensor(np.float32(g)) for g in gradients.values()],
            list(variables.values()),
        )
    return {name: keras.ops.convert_to_numpy(value) for name, value in variables.items()}


def expected(update, decays):
    """The same by a function of weight, gradient, state, learning rate, step and λ's presence."""
    found = {}
    for name, weight in _START.items():
        state = {}
        for step, (rate, gradients) in enumerate(zip(_RATES, _GRADIENTS, strict=True), 1):
            weight = update(weight, gradients[name], state, rate, step, decays(weight))
        found[name] = weight
    return found


def check(optimizer, update, everywhere=False):
    found = trained(optimizer)
    for name, value in expected(update, lambda w: everywhere or w.ndim > 1).items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_l2_goes_through_the_momentum_as_in_torch(nesterov, everywhere):
    """The velocity of torch has no learning rate in it, so the rate is the same in all steps."""

    def update(weight, gradient, state, _, step, decays):
        if decays:
            gradient = gradient + 0.05 * weight
        buffer = gradient if step == 1 else 0.9 * state["buffer"] + gradient
        state["buffer"] = buffer
        return weight - 0.1 * (gradient + 0.9 * buffer if nesterov else buffer)

    optimizer = recipes.SGD(
        0.1, momentum=0.9, nesterov=nesterov, decay=0.05, decay_norm_and_bias=everywhere
    )
    check(optimizer, update, everywhere)


def test_when_the_rate_changes_the_velocity_keeps_the_old_one():
    def update(weight, gradient, state, rate, step, decays):
        gradient = gradient + 0.05 * weight * decays
        velocity = 0.9 * state.get("velocity", 0.0) - rate * gradient
        state["velocity"] = velocity
        return weight + velocity

    check(recipes.SGD(Rates(), momentum=0.9, decay=0.05), update)


def test_decoupled_decay_of_sgd_does_not_go_through_the_momentum():
    def update(weight, gradient, state, rate, step, decays):
        weight = weight * (1 - rate * 0.05 * decays)
        velocity = 0.9 * state.get("velocity", 0.0) - rate * gradient
        state["velocity"] = velocity
        return weight + velocity

    check(recipes.SGD(Rates(), momentum=0.9, decay=0.05, form="decoupled"), update)


def adam(gradient, state, step, beta_1=0.9, beta_2=0.99, epsilon=1e-3):
    state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * gradient
    state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * gradient**2
    return (state["m"] / (1 - beta_1**step)) / (np.sqrt(state["v"] / (1 - beta_2**step)) + epsilon)


_MEANS = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3}


def test_adamw_is_algorithm_2_of_its_paper():
    def update(weight, gradient, state, rate, step, decays):
        return weight - rate * (adam(gradient, state, step) + 0.05 * weight * decays)

    check(recipes.AdamW(Rates(), decay=0.05, **_MEANS), update)


def test_adam_with_l2_adapts_the_penalty_too():
    def update(weight, gradient, state, rate, step, decays):
        return weight - rate * adam(gradient + 0.05 * weight * decays, state, step)

    check(recipes.AdamW(Rates(), decay=0.05, form="l2", **_MEANS), update)


@pytest.mark.parametrize("everywhere", [False, True])
def test_lamb_is_algorithm_2_of_its_paper(everywhere):
    """Its trust ratio takes in the decay; what is not decayed has none."""

    def update(weight, gradient, state, rate, step, decays):
        change = adam(gradient, state, step)
        if decays:
            change = change + 0.05 * weight
            norms = np.linalg.norm(weight), np.linalg.norm(change)
            change = change * (norms[0] / norms[1] if all(norms) else 1.0)
        return weight - rate * change

    optimizer = recipes.LAMB(Rates(), decay=0.05, decay_norm_and_bias=everywhere, **_MEANS)
    check(optimizer, update, everywhere)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_the_optimizer_of_a_recipe_comes_back_from_its_configuration(name):
    optimizer = recipes.get(name).make_optimizer(100, global_clipnorm=1.0)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
    assert (copy.decay, copy.form) == (optimizer.decay, optimizer.form)


@pytest.mark.parametrize("kind", [recipes.SGD, recipes.AdamW, recipes.LAMB])
@pytest.mark.parametrize(
    "wrong", [{"decay": -1.0}, {"form": "L2"}, {"weight_decay": 1e-4}], ids=lambda wrong: str(wrong)
)
def test_errors_name_what_is_wrong(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


def test_with_another_batch_the_learning_rate_follows():
    recipe = recipes.get("wrn_cifar")
    for scaling, factor in (("linear", 4.0), ("sqrt", 2.0), ("none", 1.0)):
        changed = dataclasses.replace(recipe, learning_rate_scaling=scaling)
        assert changed.learning_rate_at(512) == pytest.approx(0.1 * factor)
        optimizer = changed.make_optimizer(10, batch_size=512)
        assert float(optimizer.learning_rate) == pytest.approx(0.1 * factor)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
@pytest.mark.parametrize("kind", [recipes.SGD, recipes.AdamW, recipes.LAMB])
def test_replicas_take_the_step_of_the_whole_batch(kind, two_replicas):
    """Each of two replicas has half of the gradient; the decay is not halved nor doubled."""
    import tensorflow as tf

    with two_replicas.scope():
        variables = [keras.Variable(value, name=name) for name, value in _START.items()]
        optimizer = kind(0.1, decay=0.05)
        optimizer.build(variables)

    def on_replica(gradients):
        optimizer.apply([gradient / 2 for gradient in gradients], variables)

    @tf.function
    def step(gradients):
        two_replicas.run(on_replica, (gradients,))

    for gradients in _GRADIENTS:
        step([tf.constant(gradient, tf.float32) for gradient in gradients.values()])
    alone = trained(kind(0.1, decay=0.05))
    for variable, name in zip(variables, _START, strict=True):
        for value in two_replicas.experimental_local_results(variable.value):
            np.testing.assert_allclose(value, alone[name], rtol=1e-4, atol=1e-5)
