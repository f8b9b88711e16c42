import gzip
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet
from keras_resnet.variants import create
from keras_resnet.weights import load, load_torch_state
from keras_resnet.weights.loading import torch_variables
from tests.keras_resnet.parity import FAST_START, FIXTURES, case_config, torch_shape

TINY = FIXTURES / "tiny" / "se_basic.safetensors"
# The state dicts of timm 1.0.31 for every network of the table that it has: name -> shape.
TORCH_KEYS = json.loads(gzip.decompress((FIXTURES / "torch_keys.json.gz").read_bytes()))
NETWORKS = [
    pytest.param(name, marks=[pytest.mark.exhaustive] if len(shapes) > 350 else [])
    for name, shapes in TORCH_KEYS.items()
]


def tiny_network(**arguments):
    arguments = {"classes": 10, "classifier_activation": None, **arguments}
    return ResNet(case_config("se_basic"), input_shape=(32, 32, 3), **arguments)


@pytest.fixture
def state():
    return load_file(TINY)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_every_network_has_its_place(name):
    expected = {key: tuple(shape) for key, shape in TORCH_KEYS[name].items()}
    with keras.StatelessScope(initialize_variables=False):
        model = create(name, **FAST_START)
        actual = list(torch_variables(model, expected))
    assert {key: torch_shape(variable, key) for key, variable in actual} == expected
    assert len({id(variable) for _, variable in actual}) == len(actual) == len(model.weights)


def test_each_value_arrives_once(state):
    assert any(key.endswith("num_batches_tracked") for key in state)
    model = tiny_network()
    load_torch_state(model, state)
    by_path = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}
    kernel = state["layer2.0.conv1.weight"]
    np.testing.assert_array_equal(
        by_path["stage2_block1/conv1/kernel"], kernel.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(by_path["classifier/kernel"], state["fc.weight"].T)
    np.testing.assert_array_equal(
        by_path["stage2_block1/shortcut/bn/moving_variance"],
        state["layer2.0.downsample.1.running_var"],
    )
    total = sum(float(np.abs(value).sum(dtype="float64")) for value in by_path.values())
    expected = sum(
        float(np.abs(value).sum(dtype="float64"))
        for key, value in state.items()
        if "num_batches" not in key
    )
    assert total == pytest.approx(expected, rel=1e-9)


def test_every_misfit_is_named_and_nothing_is_copied(state):
    model = tiny_network()
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.weights]
    del state["layer1.0.se.fc1.bias"]
    state["layer1.9.conv1.weight"] = np.zeros((8, 8, 3, 3), "float32")
    state["fc.weight"] = np.zeros((1000, 32), "float32")
    with pytest.raises(ValueError) as error:
        load_torch_state(model, state)
    message = str(error.value)
    assert "`state`" in message
    assert "Missing (1): layer1.0.se.fc1.bias" in message
    assert "Unexpected (1): layer1.9.conv1.weight" in message
    assert "fc.weight (1000, 32) does not fit classifier/kernel (32, 10)" in message
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_a_long_list_of_names_is_cut(state):
    with pytest.raises(ValueError, match=r"and \d+ more"):
        load_torch_state(tiny_network(), {"fc.bias": state["fc.bias"]})


def test_without_classifier_that_of_the_state_is_left_out(state):
    load_torch_state(tiny_network(include_top=False), state)


def test_half_precision_is_widened(state):
    model = tiny_network()
    half = {k: v.astype("float16") if v.dtype == np.float32 else v for k, v in state.items()}
    load_torch_state(model, half)
    assert {str(keras.ops.convert_to_numpy(variable).dtype) for variable in model.weights} == {
        "float32"
    }
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.get_layer("stem").conv1.kernel),
        half["conv1.weight"].transpose(2, 3, 1, 0).astype("float32"),
    )


def test_only_models_of_this_package(state):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="other")])
    with pytest.raises(ValueError, match="'other'"):
        load_torch_state(model, state)


def test_kernels_of_one_input_channel():
    config = ResNetConfig(depths=(1,), widths=(8,), block="basic", stem_width=8)
    model = ResNet(config, input_shape=(8, 8, 1), classes=2)
    state = {
        name: np.full(torch_shape(variable, name), 0.5, "float32")
        for name, variable in torch_variables(model, {})
    }
    load_torch_state(model, state)
    assert model.get_layer("stem").conv1.kernel.shape == (7, 7, 1, 8)


def test_files(state, tmp_path):
    model, again = tiny_network(), tiny_network()
    load(model, TINY)
    model.save_weights(tmp_path / "of_keras.weights.h5")
    load(again, tmp_path / "of_keras.weights.h5")
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        load(model, tmp_path / "no_such_file.safetensors")
    with pytest.raises(ValueError, match="can run code"):
        load(model, tmp_path / "pytorch_model.bin")
    save_file({"fc.bias": state["fc.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="Missing"):
        load(model, tmp_path / "part.safetensors")


def test_the_factory_reads_a_file_of_torch_tensors(state):
    model = tiny_network(weights=TINY)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.get_layer("classifier").bias), state["fc.bias"]
    )


def test_safetensors_is_imported_where_it_is_needed():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_resnet.weights; "
        "assert not {'safetensors', 'torch'} & (set(sys.modules) - before), 'imported early'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
