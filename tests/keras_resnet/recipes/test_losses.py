"""Losses against the formulas and Keras' own."""

import keras
import numpy as np
import pytest

from keras_resnet import recipes

_RANDOM = np.random.default_rng(3)
_LOGITS = _RANDOM.normal(size=(6, 5)).astype("float32") * 4
_LABELS = np.array([0, 1, 2, 3, 4, 2])


def numpy(values):
    return keras.ops.convert_to_numpy(values)


def test_smoothed_targets_spread_a_share_over_all_classes():
    targets = numpy(recipes.Recipe(label_smoothing=0.1).targets(_LABELS, 5))
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, np.eye(5)[_LABELS] * 0.9 + 0.02, rtol=1e-6)


def test_softmax_is_the_cross_entropy_of_keras():
    recipe = recipes.Recipe(label_smoothing=0.1)
    found = numpy(recipe.loss_per_example(recipe.targets(_LABELS, 5), _LOGITS))
    peer = keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1, reduction=None)
    np.testing.assert_allclose(found, numpy(peer(np.eye(5)[_LABELS], _LOGITS)), rtol=1e-5)


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_bce_is_one_question_for_each_class(threshold):
    recipe = recipes.Recipe(loss="bce", bce_threshold=threshold)
    targets = _RANDOM.dirichlet([0.5] * 5, 6).astype("float32")
    asked = targets if threshold is None else (targets > threshold).astype("float32")
    share = 1 / (1 + np.exp(-_LOGITS.astype("float64")))
    expected = -(asked * np.log(share) + (1 - asked) * np.log(1 - share)).mean(axis=1)
    np.testing.assert_allclose(
        numpy(recipe.loss_per_example(targets, _LOGITS)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_losses_of_half_precision_logits_are_finite_and_float32(loss):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], "float16")
    found = recipes.Recipe(loss=loss).loss_per_example(np.eye(2, dtype="float32"), logits)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(numpy(found), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["default", "rsb_a3"])
def test_the_loss_for_compile_is_the_mean_and_comes_back(name):
    recipe = recipes.get(name)
    loss = keras.losses.deserialize(keras.losses.serialize(recipe.make_loss()))
    targets = recipe.targets(_LABELS, 5)
    expected = numpy(recipe.loss_per_example(targets, _LOGITS)).mean()
    assert float(loss(targets, _LOGITS)) == pytest.approx(expected, rel=1e-6)
