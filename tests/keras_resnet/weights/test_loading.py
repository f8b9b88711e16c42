import dataclasses
import gzip
import json
import pickle
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet
from keras_resnet.variants import create
from keras_resnet.weights import load, load_torch_state, save, to_timm
from keras_resnet.weights.schemes import torch_variables
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
def test_every_network_goes_both_ways(name):
    """What timm has written goes into the model, and comes out with the same names and shapes."""
    state = {
        key: np.broadcast_to(np.float16(zlib.crc32(key.encode()) % 2048), shape)
        for key, shape in TORCH_KEYS[name].items()
    }
    model = create(name, input_shape=(64, 64, 3), **FAST_START)
    assert len({id(variable) for _, variable in torch_variables(model)}) == len(model.weights)
    load_torch_state(model, state)
    back = to_timm(model)
    counters = {key for key in back if key.endswith("num_batches_tracked")}
    norms = {key for key in state if key.endswith("running_var")}
    assert {key.replace("num_batches_tracked", "running_var") for key in counters} == norms
    assert back.keys() - counters == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value.astype("float32"), err_msg=key)


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
    state["fc.weight"] = np.zeros((10, 16), "float32")
    with pytest.raises(ValueError) as error:
        load_torch_state(model, state)
    message = str(error.value)
    kernel = tuple(model.get_layer("classifier").kernel.shape)
    assert "`state`" in message
    assert "Missing (1): layer1.0.se.fc1.bias" in message
    assert "Unexpected (1): layer1.9.conv1.weight" in message
    assert f"fc.weight (10, 16) does not fit classifier/kernel {kernel}" in message
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_a_long_list_of_names_is_cut(state):
    with pytest.raises(ValueError, match=r"and \d+ more"):
        load_torch_state(tiny_network(), {"fc.bias": state["fc.bias"]})


def test_without_classifier_that_of_the_state_is_left_out(state):
    load_torch_state(tiny_network(include_top=False), state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype, state, tmp_path):
    model = tiny_network()
    half = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    load(model, tmp_path / "half.safetensors")
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
        for name, variable in torch_variables(model)
    }
    load_torch_state(model, state)
    assert model.get_layer("stem").conv1.kernel.shape == (7, 7, 1, 8)


def arrays(model):
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights}


def same(one, other):
    one, other = arrays(one), arrays(other)
    return one.keys() == other.keys() and all((one[path] == other[path]).all() for path in one)


@pytest.mark.parametrize("file", ["own.safetensors", "keras.weights.h5", "whole.keras"])
def test_what_a_model_is_saved_as_is_read_back(file, state, tmp_path):
    model, again = tiny_network(), tiny_network()
    load_torch_state(model, state)
    if file.endswith(".safetensors"):
        save(model, tmp_path / file)
    elif file.endswith(".weights.h5"):
        model.save_weights(tmp_path / file)
    else:
        model.save(tmp_path / file)
    assert not same(model, again)
    load(again, tmp_path / file)
    assert same(model, again)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    # Another head, no head.
    other = tiny_network(classes=7, weights=tmp_path / file)
    bare = tiny_network(include_top=False, weights=str(tmp_path / file))
    body = {path: value for path, value in arrays(model).items() if "classifier" not in path}
    for network in (other, bare):
        values = arrays(network)
        assert all((values[path] == body[path]).all() for path in body)


def test_own_files_hold_the_configuration(tmp_path):
    model = tiny_network()
    save(model, tmp_path / "own.safetensors")
    with safe_open(tmp_path / "own.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert ResNetConfig(**json.loads(metadata["config"])) == model.config
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save(model, tmp_path / "own.npz")
    with pytest.raises(FileNotFoundError, match=r"in a directory that exists.*nowhere"):
        save(model, tmp_path / "nowhere/own.safetensors")


def test_files_that_are_not_taken(state, tmp_path):
    model = tiny_network()
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        load(model, tmp_path / "no_such_file.safetensors")
    for name in ("pytorch_model.bin", "resnet18.pth", "model.pt", "model.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Explosive()))
        with pytest.raises(ValueError, match="can run code"):
            load(model, tmp_path / name)
    for name in ("renamed.safetensors", "renamed.h5", "renamed.keras"):
        (tmp_path / name).write_bytes(pickle.dumps(Explosive()))
        with pytest.raises(ValueError, match="cannot be read"):
            load(model, tmp_path / name)
    save_file({"fc.bias": state["fc.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="Missing"):
        load(model, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"`weights` must come from the same network"):
        tiny_network(weights=tmp_path / "part.safetensors")


class Explosive:
    """What a pickle could do."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("file", ["own.safetensors", "keras.weights.h5", "whole.keras"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_damaged_files_are_named(file, damage, tmp_path):
    model = tiny_network()
    path = tmp_path / file
    if file.endswith(".safetensors"):
        save(model, path)
    elif file.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    content = {"truncated": path.read_bytes()[:-5000], "empty": b"", "text": b"<html>404</html>"}
    path.write_bytes(content[damage])
    before = arrays(model)
    with pytest.raises(ValueError, match=f"whole; {file} cannot be read"):
        load(model, path)
    assert all((before[path] == value).all() for path, value in arrays(model).items())


def test_wherever_the_damage_is_the_file_is_named(tmp_path):
    """h5py raises one of many errors, or goes on with None in the place of a group."""
    model = tiny_network()
    model.save_weights(tmp_path / "whole.weights.h5")
    whole = np.frombuffer((tmp_path / "whole.weights.h5").read_bytes(), "uint8")
    before, refused = arrays(model), 0
    for seed in range(20):
        random, damaged = np.random.default_rng(seed), whole.copy()
        damaged[random.integers(damaged.size, size=60)] = random.integers(256, size=60)
        (tmp_path / "damaged.weights.h5").write_bytes(damaged.tobytes())
        try:
            load(model, tmp_path / "damaged.weights.h5")
        except ValueError as error:
            assert "damaged.weights.h5" in str(error)
            assert all((before[path] == value).all() for path, value in arrays(model).items())
            refused += 1
        else:
            before = arrays(model)  # The damage was in the numbers, which nothing verifies.
    assert refused > 5


def test_a_head_of_another_size_keeps_its_start_and_says_so(state, capsys):
    model = tiny_network(classes=7)
    before = arrays(model)
    load_torch_state(model, state)
    after = arrays(model)
    for path in ("classifier/kernel", "classifier/bias"):
        np.testing.assert_array_equal(after[path], before[path])
    assert (after["stem/conv1/kernel"] != before["stem/conv1/kernel"]).any()
    assert "`state` has 10 classes and the model 7" in capsys.readouterr().err
    load_torch_state(tiny_network(), state)
    assert capsys.readouterr().err == ""


def test_a_head_on_other_features_is_no_other_head(state):
    state["fc.weight"] = np.zeros((7, 31), "float32")
    with pytest.raises(ValueError, match=r"fc\.weight"):
        load_torch_state(tiny_network(), state)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_channels_adapt_the_first_convolution(channels, state):
    """Grey images give what they gave as RGB."""
    config = dataclasses.replace(case_config("se_basic"), **FAST_START)
    arguments = {"classes": 10, "classifier_activation": None}
    rgb = ResNet(config, input_shape=(32, 32, 3), **arguments)
    other = ResNet(config, input_shape=(32, 32, channels), **arguments)
    load_torch_state(rgb, state)
    load_torch_state(other, state)
    kernel = keras.ops.convert_to_numpy(other.get_layer("stem").conv1.kernel)
    source = state["conv1.weight"].transpose(2, 3, 1, 0)
    if channels == 1:
        np.testing.assert_allclose(kernel[:, :, 0], source.sum(axis=2), rtol=1e-6)
    for channel in range(channels if channels > 1 else 0):
        expected = source[:, :, channel % 3] * 3 / channels
        np.testing.assert_allclose(kernel[:, :, channel], expected, rtol=1e-6)
    if channels % 3 in (0, 1) and channels != 4:
        grey = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
        expected = rgb.predict_on_batch(np.repeat(grey, 3, axis=3))
        received = other.predict_on_batch(np.repeat(grey, channels, axis=3))
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_safetensors_is_imported_where_it_is_needed():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_resnet.weights; "
        "assert not {'safetensors', 'torch'} & (set(sys.modules) - before), 'imported early'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
