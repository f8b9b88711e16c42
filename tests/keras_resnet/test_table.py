"""Every network of the table, at its real depth and a reduced width: a new row is tested for free."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import _backend
from keras_resnet.factory import network_parts

CLASSES = 5
# Blocks beyond which a row is slow: 3,527 of the table's 4,051 blocks repeat what ResNet-50 has. JAX
# compiles each operation for each shape when it runs uncompiled models.
DEEP = 16 if keras.config.backend() == "tensorflow" else 9
# What has no like among the networks whose gradients test_parity compares with torch's, on every
# backend: these are differentiated on JAX, which compiles each of them for seconds.
UNLIKE_TORCH = {"cifar_resnet20", "legacy_seresnet18", "plain18", "resnet26t", "wrn_16_8"}


def reduced(name, **fields):
    """The configuration of a row with an eighth of its channels."""
    config = keras_resnet.SPECS[name]
    if config.groups > 1:
        fields = {"groups": 4, "base_width": 4 * config.base_width, **fields}
    widths = tuple(width // 8 for width in config.widths)
    if config.se_ratio is not None:
        fields = {"se_ratio": 1.0, **fields}  # a sixteenth would leave one ReLU, perhaps a dead one
    if config.stem == "cifar":
        widths = (4, 6, 8)
    return dataclasses.replace(
        config,
        widths=widths,
        stem_width=4 if config.stem == "cifar" else 8,
        default_classes=CLASSES,
        **fields,
    )


def images(config):
    sizes = (41, 49) if config.total_stride == 32 else (7, 9)
    return np.random.default_rng(0).normal(size=(2, *sizes, 3)).astype("float32")


def build(config):
    shape = (3, None, None) if config.data_format == "channels_first" else (None, None, 3)
    return keras_resnet.ResNet(config, input_shape=shape, classifier_activation=None)


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def damp(model):
    """Makes the branches small against their shortcuts, as they are after training.

    A hundred fresh blocks would double the features a hundred times, and rounding with them.
    """
    for block in model.layers:
        if getattr(block, "shortcut", None) is not None:
            last = len(block._plan)
            preactivation = block.order == "full_preactivation"
            conv, bn = getattr(block, f"conv{last}"), getattr(block, f"bn{last}")
            scale = conv.kernel if preactivation else bn.gamma
            scale.assign(0.1 * scale)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.exhaustive) if sum(config.depths) > DEEP else name
        for name, config in keras_resnet.SPECS.items()
    ],
)
def network(request):
    keras.utils.set_random_seed(0)
    config = reduced(request.param, zero_init_residual=False)
    model = build(config)
    damp(model)
    return config, model, outputs(model, images(config))


def test_builds_and_runs(network):
    config, model, logits = network
    assert model.count_params() == keras_resnet.analysis.count(config, (64, 64, 3)).parameters
    assert logits.shape == (2, CLASSES) and np.all(np.isfinite(logits)) and np.std(logits) > 0


def test_survives_a_file(network, tmp_path):
    config, model, logits = network
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(loaded, images(config)), logits)
    assert loaded.config == config


def test_every_trainable_variable_receives_a_gradient(network, request, monkeypatch):
    config, model, _ = network
    name = request.node.callspec.params["network"]
    if keras.config.backend() == "jax" and name not in UNLIKE_TORCH:
        pytest.skip("its like is differentiated in test_parity, and JAX compiles long")
    for layer in model.layers:
        if getattr(layer, "drop_path", None) is not None:
            monkeypatch.setattr(layer.drop_path, "rate", 0.0)  # a dropped branch would have none
    variables = model.trainable_variables
    _, gradients, _ = _backend.gradients(
        lambda x: keras.ops.mean(keras.ops.square(model(x, training=True) - 1)),
        variables,
        [keras.ops.convert_to_tensor(images(config))],
    )
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = keras.ops.convert_to_numpy(gradient)
        # In training, batch norm takes away what a bias before it has added.
        absorbed = config.conv_bias != "none" and "/conv" in variable.path
        absorbed = absorbed and variable.name == "bias"
        assert np.all(np.isfinite(gradient)), variable.path
        assert absorbed or np.any(gradient), variable.path


def test_channels_first_equals_channels_last(network):
    config, expected_model, expected = network
    model = build(dataclasses.replace(config, data_format="channels_first"))
    model.set_weights(expected_model.get_weights())
    try:
        received = outputs(model, images(config).transpose(0, 3, 1, 2))
    except Exception as error:
        if "NHWC" in str(error):
            pytest.skip("this build of the backend has no channels_first convolution on the CPU")
        raise
    np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", list(keras_resnet.SPECS))
def test_head_is_float32_under_mixed_precision(name, policy):
    parts = list(network_parts(reduced(name), dtype=policy))
    classifier = parts.pop()
    assert classifier.name == "classifier"
    assert classifier.layer().compute_dtype == "float32"
    body = {part.arguments["dtype"].compute_dtype for part in parts if part.name != "dropout"}
    assert body == {policy.removeprefix("mixed_")}


def test_every_row_has_a_constructor():
    built = {}
    for constructor in keras_resnet.constructors.__all__:
        function = getattr(keras_resnet, constructor)
        assert function.__name__ == constructor and function.__doc__
        built[constructor] = function.__kwdefaults__ or function.__defaults__[-1]
    others = {name for name in keras_resnet.SPECS if not name.startswith("wrn_")}
    assert set(built.values()) == others and len(built) == len(others)
