import sys

import keras
import numpy as np
import pytest

from pipeline.components import trainer
from pipeline.components.trainer import Parameters
from pipeline.errors import UsageError
from pipeline.training import network

_MODULE = """
import keras

def logits(input_shape, classes, width=4):
    images = keras.Input(input_shape)
    hidden = keras.layers.Conv2D(width, 3, strides=2, name="convolution")(images)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(images, keras.layers.Dense(classes)(hidden))

def softmax(input_shape, classes):
    images = keras.Input(input_shape)
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax")(flat))

def softmax_layer(input_shape, classes):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes),
         keras.layers.Softmax()]
    )

def sequential(input_shape, classes):
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(classes)])

class Own(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.dense = keras.layers.Dense(classes)

    def call(self, images):
        return self.dense(keras.ops.mean(images, axis=(1, 2)))

def subclassed(input_shape, classes):
    return Own(classes)

def wrong_shape(input_shape, classes):
    return logits(input_shape, classes + 1)

def no_model(input_shape, classes):
    return "a model"

value = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "own_networks.py"
    sys.modules.pop("own_networks", None)


def parameters(function, **arguments):
    return Parameters(
        model=f"own_networks:{function}", image_size=(8, 8), model_arguments=arguments
    )


@pytest.mark.parametrize("function", ["logits", "sequential", "subclassed"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_any_keras_model_can_be_trained_and_is_served_with_a_softmax(function, precision):
    before = keras.config.dtype_policy().name
    chosen = parameters(function)
    trained = network.build(chosen, 5, precision)
    assert keras.config.dtype_policy().name == before
    assert trained.output_shape == (None, 5)
    assert trained.layers[-1].dtype_policy.name == precision

    served = network.served(chosen, trained)
    assert served.output.dtype == "float32"
    assert {layer.compute_dtype for layer in served.layers} == {"float32"}
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    probabilities = served.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    expected = keras.ops.softmax(keras.ops.cast(trained(images), "float32"))
    tolerance = 1e-6 if precision == "float32" else 0.02
    np.testing.assert_allclose(probabilities, expected, atol=tolerance)


def test_arguments_reach_the_function():
    model = network.build(parameters("logits", width=7), 2, "float32")
    assert model.get_layer("convolution").filters == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_networks:softmax", "its last layer .* is a softmax, expected logits"),
        ("own_networks:softmax_layer", "its last layer .* is a softmax, expected logits"),
        ("own_networks:wrong_shape", r"expected logits of shape \(None, 2\)"),
        ("own_networks:no_model", "returned 'a model', expected a Keras model"),
        ("own_networks:value", "3 is no function"),
        ("own_networks:missing", "own_networks has no 'missing'"),
        ("no_such_module:logits", "No module named 'no_such_module'.*PYTHONPATH"),
        ("no_such_network", "no_such_network"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(name, message):
    with pytest.raises(UsageError, match=f"trainer.model '{name}': .*{message}"):
        trainer.check(Parameters(model=name, image_size=(8, 8)))


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="unexpected keyword argument 'depth'"):
        trainer.check(parameters("logits", depth=3))


def test_the_source_of_the_module_is_part_of_what_the_result_depends_on(module):
    before = trainer.external(parameters("logits"))
    assert before == trainer.external(parameters("softmax"))
    module.write_text(_MODULE + "# changed\n")
    assert trainer.external(parameters("logits")) != before
    assert trainer.external(Parameters()) is None
    assert trainer.external(Parameters(model="no_such_module:f")) is None


def test_the_networks_of_this_project_are_served_with_the_weights_that_were_trained():
    chosen = Parameters(
        image_size=(8, 8),
        model_arguments={"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4},
    )
    trained = network.build(chosen, 3, "mixed_bfloat16")
    for weight in trained.weights:
        weight.assign(weight + 0.1)
    served = network.served(chosen, trained)
    assert served.layers[-1].activation is keras.activations.softmax
    for one, two in zip(trained.get_weights(), served.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
