import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from pipeline.serving import network
from tests.pipeline import builders

_IMAGES = np.stack([builders.noise(n, 16, 16) for n in range(4)]).astype(np.float32) / 60 - 2


def _lively(model: keras.Model) -> keras.Model:
    """Gives a network the statistics of a trained one: nothing is 0 or 1 any more."""
    generator = np.random.default_rng(0)
    for variable in model.variables:
        low, high = {
            "gamma": (0.5, 1.5),
            "beta": (-0.5, 0.5),
            "moving_mean": (-0.5, 0.5),
            "moving_variance": (0.5, 2.0),
        }.get(variable.name, (None, None))
        if low is not None:
            variable.assign(generator.uniform(low, high, variable.shape))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer in dense:
        # Else a softmax of random logits is 0 or 1, whatever comes in.
        layer.kernel.assign(generator.normal(0, 0.05, layer.kernel.shape))
    return model


def _served(model: keras.Model) -> network.Network:
    found = network.of(model)
    expected = model(_IMAGES, training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3  # the answers depend on the images
    answers = found.call(tf.constant(_IMAGES))
    np.testing.assert_allclose(answers["probabilities"].numpy(), expected, atol=1e-5)
    if found.has_features:
        embedding = keras.Model(model.inputs, network.penultimate(model))(_IMAGES, training=False)
        assert np.ptp(embedding.numpy(), axis=0).max() > 0.01
        np.testing.assert_allclose(
            answers["features"].numpy(), embedding.numpy(), rtol=1e-4, atol=1e-5
        )
    return found


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, 0),
        ({"order": "full_preactivation"}, 4),  # the first of each block, and that of the head
        ({"order": "bn_after_addition"}, 3),
        ({"order": "relu_only_preactivation"}, 0),
        ({"se_ratio": 0.25}, 0),
        ({"shortcut": "B"}, 0),
        ({"conv_bias": "all"}, 0),
        ({"block": "bottleneck", "groups": 2, "base_width": 32}, 0),
    ],
)
def test_batch_norms_behind_convolutions_are_folded_and_the_others_are_left(changes, left):
    model = keras_resnet.create(
        "cifar_resnet20",
        **{"depths": (1, 1, 1), "input_shape": (16, 16, 3), "classes": 3, **changes},
    )
    found = _served(_lively(model))
    assert found.variables == []
    if left:
        (notice,) = found.notices
        assert f"; {left} do not follow one" in notice
    else:
        assert found.notices == ()


def test_the_network_that_is_folded_stays_as_it_is():
    model = _lively(keras_resnet.create("cifar_resnet20", input_shape=(16, 16, 3), classes=3))
    before = [value.copy() for value in model.get_weights()]
    network.of(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_follows_a_convolution_that_is_read_twice_is_not_folded():
    images = keras.Input((16, 16, 3))
    shared = keras.layers.Conv2D(4, 3)(images)
    normed = keras.layers.BatchNormalization()(shared)
    pooled = keras.layers.GlobalAveragePooling2D()(normed + shared)
    model = _lively(keras.Model(images, keras.layers.Dense(3, activation="softmax")(pooled)))
    assert "0 batch norms are folded" in _served(model).notices[0]


def test_depthwise_and_dilated_convolutions_are_folded():
    images = x = keras.Input((16, 16, 3))
    for layer in (
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=True),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Conv2D(8, 3, dilation_rate=2, use_bias=False),
        keras.layers.BatchNormalization(scale=False, center=False),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
        keras.layers.Softmax(),
    ):
        x = layer(x)
    found = _served(_lively(keras.Model(images, x)))
    assert (found.notices, found.has_features) == ((), True)


class _Opaque(keras.Model):
    """A network that is no functional model."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(4, 3)
        self.norm = keras.layers.BatchNormalization()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.classifier = keras.layers.Dense(3, activation="softmax")

    def call(self, images, training=False):
        x = self.norm(self.convolution(images), training=training)
        return self.classifier(self.pool(x))


def test_a_network_of_unknown_structure_is_folded_but_has_no_features():
    images = keras.Input((16, 16, 3))
    found = _served(_lively(keras.Model(images, _Opaque()(images))))
    (notice,) = found.notices
    assert "the signature 'features' is left out" in notice
    assert not found.has_features


def test_the_features_are_what_the_classifier_sees():
    model = _lively(keras_resnet.create("cifar_resnet20", input_shape=(16, 16, 3), classes=3))
    features = network.of(model).call(tf.constant(_IMAGES))["features"].numpy()
    kernel, bias = model.layers[-1].get_weights()
    logits = features @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, model(_IMAGES).numpy(), atol=1e-5)


def test_weights_that_do_not_fit_into_a_message_stay_variables(monkeypatch):
    monkeypatch.setattr(network, "_MOST_BYTES", 1_000_000)
    model = _lively(keras_resnet.create("cifar_resnet20", input_shape=(16, 16, 3), classes=3))
    found = _served(model)
    assert len(found.variables) == len(model.variables)
    assert "bytes do not fit into one message" in found.notices[0]
