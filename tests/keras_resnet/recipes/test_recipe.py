"""Recipes as descriptions: what they say, what they refuse, and that each trains."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest

from keras_resnet import recipes

_RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_survives_json_and_names_its_source(name):
    recipe = recipes.get(name)
    assert recipe.name == name and recipe.reference
    assert recipes.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    if name != "default":
        assert re.search(r", 20\d\d, (section|table).*https://arxiv\.org/abs/", recipe.reference)


def test_the_papers_recipes_are_listed_by_pattern():
    names = recipes.list_recipes()
    assert names == sorted(names)
    assert recipes.list_recipes("*_cifar") == [
        "he2015_cifar",
        "stochastic_depth_cifar",
        "wrn_cifar",
    ]
    assert recipes.list_recipes("nothing*") == []


def test_an_unknown_name_is_met_with_those_like_it():
    with pytest.raises(ValueError, match=r"perhaps 'rsb_a\d'.*Received: name='rsb_a1'"):
        recipes.get("rsb_a1")
    with pytest.raises(ValueError, match="default, he2015_cifar"):
        recipes.get("nothing like it")


_WRONG = {
    "name": "",
    "epochs": 0,
    "batch_size": 1.5,
    "optimizer": "adam",
    "learning_rate": 0,
    "learning_rate_scaling": "square",
    "schedule": "step",
    "milestones": (0.7, 0.5),
    "decay_factor": -0.1,
    "warmup_epochs": -1,
    "warmup_learning_rate": -0.1,
    "minimum_learning_rate": 1.0,
    "momentum": 1.0,
    "nesterov": 1.5,
    "beta_1": 1,
    "beta_2": -0.1,
    "epsilon": 0,
    "weight_decay": "1e-4",
    "weight_decay_form": "L2",
    "decay_norm_and_bias": None,
    "loss": "hinge",
    "label_smoothing": 1.0,
    "bce_threshold": -1,
    "ema_decay": 1.0,
    "clip_norm": 0,
    "accumulate_steps": 0,
    "random_crop": (0.5, 1.5),
    "crop_ratio": (2, 1),
    "random_shift": -1,
    "padding": "zeros",
    "random_flip": "yes",
    "random_rotation": 0.6,
    "random_zoom": 1.0,
    "brightness": 1.5,
    "contrast": -0.1,
    "saturation": "a",
    "lighting": -1,
    "rand_augment": -1,
    "rand_augment_magnitude": -1,
    "rand_augment_std": -1,
    "rand_augment_probability": 2,
    "rand_augment_increasing": 3,
    "random_erasing": 1.1,
    "mixup": -0.1,
    "cutmix": -0.1,
    "mix_probability": 1.1,
    "switch_probability": -0.1,
    "repeated_augmentation": 0,
    "drop_path_rate": 1.0,
    "drop_path_mode": "block",
    "drop_path_schedule": "cosine",
    "dropout_rate": 1.0,
    "train_size": 0,
    "test_size": 2.5,
    "test_crop": 1.1,
}


def test_every_field_has_a_wrong_value_below():
    fields = {field.name for field in dataclasses.fields(recipes.Recipe)}
    assert fields - set(_WRONG) == {"reference"}


@pytest.mark.parametrize("field", _WRONG)
def test_errors_name_the_field_and_what_was_received(field):
    with pytest.raises(ValueError, match=f"`{field}` must"):
        recipes.Recipe(**{field: _WRONG[field]})


def test_fields_that_belong_together_are_checked_together():
    with pytest.raises(ValueError, match="`milestones` must be shares"):
        recipes.Recipe(schedule="multistep")
    with pytest.raises(ValueError, match=r"no field 'learning_rte', perhaps learning_rate"):
        recipes.Recipe.from_dict({"learning_rte": 0.1})


@pytest.mark.parametrize("name", ["he2015_cifar", "rsb_a2"])
def test_any_field_can_be_replaced(name):
    recipe = dataclasses.replace(
        recipes.get(name), schedule="constant", loss="softmax", optimizer="adamw", mixup=0.0
    )
    assert isinstance(recipe.make_optimizer(10), recipes.AdamW)


def network(side, classes=10):
    """A small network with everything that weight decay tells apart."""
    inputs = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.GlobalMaxPooling2D()(x)))


def digits():
    """Pictures of 12 by 12 with a bright bar where their class says, and their classes."""
    labels = np.arange(64) % 10
    images = _RANDOM.integers(0, 60, (64, 12, 12, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label + 1, 2:10] = 250
    return images, labels


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_trains_with_fit(name):
    images, labels = digits()
    recipe = dataclasses.replace(recipes.get(name), batch_size=16)
    training = recipe.batches(images, labels, seed=1)
    keras.utils.set_random_seed(0)
    model = network(12)
    recipe.compile(model, len(training), epochs=1)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    history = model.fit(training, epochs=1, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all() and (old != new).any()
    assert int(model.optimizer.iterations) == 4


def test_clipping_average_and_accumulation_are_given_to_keras():
    recipe = dataclasses.replace(
        recipes.get("default"), clip_norm=0.5, ema_decay=0.99, accumulate_steps=4
    )
    model = network(12)
    recipe.compile(model, 10)
    optimizer = model.optimizer
    assert (optimizer.global_clipnorm, optimizer.ema_momentum) == (0.5, 0.99**0.25)
    assert optimizer.use_ema and optimizer.gradient_accumulation_steps == 4


def test_a_model_that_ends_in_a_softmax_is_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    with pytest.raises(ValueError, match=r"must put out logits.*softmax"):
        recipes.get("default").compile(model, 10)


def test_the_network_is_told_what_the_recipe_asks_of_it():
    assert recipes.get("default").model_arguments == {}
    assert recipes.get("resnet_rs").model_arguments == {"dropout_rate": 0.25}
    assert recipes.get("stochastic_depth_cifar").model_arguments == {
        "drop_path_rate": 0.5,
        "drop_path_mode": "batch",
        "drop_path_schedule": "linear",
    }


def test_the_average_of_fit_is_the_exponential_one():
    """Beginning with the weights after the first step."""
    recipe = recipes.Recipe(schedule="constant", learning_rate=0.5, ema_decay=0.75)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    recipe.compile(model, 4, metrics=[])
    average = None
    for _ in range(4):
        model.train_on_batch(_RANDOM.random((6, 3)), np.eye(2)[_RANDOM.integers(0, 2, 6)])
        weights = keras.ops.convert_to_numpy(model.trainable_weights[0])
        average = weights if average is None else 0.75 * average + 0.25 * weights
    model.optimizer.finalize_variable_values(model.trainable_variables)
    found = keras.ops.convert_to_numpy(model.trainable_weights[0])
    np.testing.assert_allclose(found, average, rtol=1e-5)


def test_the_average_of_fit_keeps_as_much_of_a_step_in_parts():
    """Keras averages after each of them, though only the last one moves the weights."""
    recipe = recipes.Recipe(
        schedule="constant", learning_rate=0.5, ema_decay=0.75, accumulate_steps=2
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    recipe.compile(model, 4, metrics=[])
    average = None
    for part in range(9):
        model.train_on_batch(_RANDOM.random((6, 3)), np.eye(2)[_RANDOM.integers(0, 2, 6)])
        weights = keras.ops.convert_to_numpy(model.trainable_weights[0])
        if part % 2:
            average = weights if average is None else 0.75 * average + 0.25 * weights
    model.optimizer.finalize_variable_values(model.trainable_variables)
    found = keras.ops.convert_to_numpy(model.trainable_weights[0])
    np.testing.assert_allclose(found, average, rtol=1e-5)
