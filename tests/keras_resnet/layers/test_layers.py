"""What holds for every layer that the package exports."""

import inspect

import keras
import numpy as np
import pytest

from keras_resnet import layers

# Arguments that differ from their defaults, so that a forgotten one is noticed.
BLOCK = {
    "strides": 2,
    "order": "relu_only_preactivation",
    "shortcut": "projection",
    "dilation": 1,
    "first_dilation": 1,
    "se_ratio": 0.5,
    "se_divisor": 2,
    "se_after_activation": True,
    "dropout_rate": 0.1,
    "drop_path_rate": 0.2,
    "drop_path_mode": "batch",
    "activation": "elu",
    "conv_bias": "all",
    "zero_init_residual": False,
    "kernel_initializer": "he_uniform",
    "bn_momentum": 0.8,
    "bn_epsilon": 1e-4,
    "bn_synchronized": False,
    "seed": 3,
    "data_format": "channels_last",
    "name": "layer",
}
NORM = {key: BLOCK[key] for key in BLOCK if key.startswith(("bn_", "kernel", "conv", "data"))}
EXAMPLES = {
    "ResidualBlock": {"filters": 8, **BLOCK},
    "BottleneckBlock": {
        "filters": 8,
        "groups": 2,
        "base_width": 32,
        "stride_on": "1x1",
        **BLOCK,
    },
    "Shortcut": {
        "filters": 12,
        "strides": 2,
        "kind": "avg_pool",
        "normalize": True,
        "dilation": 1,
        **NORM,
    },
    "SqueezeExcite": {"ratio": 0.5, "divisor": 2, "kernel_initializer": "he_uniform"},
    "Stem": {"filters": 8, "kind": "deep", "pool": "conv", "order": "original", **NORM},
    "Dropout": {"rate": 0.25, "seed": 1},
    "StochasticDepth": {"rate": 0.25, "mode": "batch", "seed": 1},
}
LAYERS = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name))]
each_layer = pytest.mark.parametrize("name", LAYERS)


def make(name, **arguments):
    return getattr(layers, name)(**{**EXAMPLES[name], **arguments})


def images(dtype="float32"):
    return np.random.default_rng(0).normal(size=(2, 6, 8, 8)).astype(dtype)


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def test_every_exported_layer_has_an_example():
    assert set(EXAMPLES) == set(LAYERS)


@each_layer
def test_config_has_every_argument(name):
    cls = getattr(layers, name)
    parameters = inspect.signature(cls).parameters.values()
    arguments = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    config = make(name).get_config()
    assert arguments <= set(config)
    given = {key: config[key] for key in EXAMPLES[name] if key != "kernel_initializer"}
    assert given == {key: value for key, value in EXAMPLES[name].items() if key in given}
    assert cls.from_config(config).get_config() == config


@each_layer
def test_is_documented_in_the_order_of_keras(name):
    doc = getattr(layers, name).__doc__
    sections = [doc.index(section) for section in ("Args:", "Call arguments:", "Example", "Refer")]
    assert doc.index("Args:") < doc.index("Call arguments:") and all(sections)


@each_layer
def test_works_in_other_peoples_models_and_survives_their_files(name, tmp_path):
    inputs = keras.Input((None, None, 8))
    outputs = keras.layers.GlobalAveragePooling2D()(make(name)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(outputs))
    expected = numpy(model(images()))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(images())), expected)


@each_layer
def test_output_shape_is_the_one_that_is_promised(name):
    layer = make(name)
    for shape in ((2, 6, 8, 8), (2, 7, 5, 8)):
        output = layer(np.ones(shape, "float32"))
        assert tuple(output.shape) == tuple(layer.compute_output_shape(shape))


@each_layer
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_policies(name, policy):
    layer = make(name, dtype=policy)
    output = layer(images())
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    assert all(variable.dtype == "float32" for variable in layer.trainable_variables)
    exact = make(name, dtype="float32")
    exact(images())
    exact.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(output), numpy(exact(images())), atol=0.1)


@each_layer
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fits(name, jit_compile):
    if keras.config.backend() == "torch" and jit_compile:
        pytest.skip("torch compiles with a toolchain that need not be there")
    model = keras.Sequential(
        [
            keras.Input((6, 8, 8)),
            make(name),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile)
    history = model.fit(images(), np.ones((2, 1)), batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_squeeze_excite_does_not_overflow_in_half_precision():
    layer = layers.SqueezeExcite(ratio=1.0, dtype="float16", kernel_initializer="zeros")
    x = np.full((1, 112, 112, 2), 1000.0, "float16")  # the sum is 190 times the largest float16
    np.testing.assert_array_equal(numpy(layer(x)), x / 2)


@pytest.mark.parametrize("ends", [(64, 1 / 16, 1, 4), (64, 1 / 16, 8, 8), (48, 0.25, 8, 16)])
def test_squeezed_width_by_both_rules(ends):
    channels, ratio, divisor, width = ends
    layer = layers.SqueezeExcite(ratio, divisor)
    layer.build((None, 7, 7, channels))
    assert layer.reduce.filters == width
