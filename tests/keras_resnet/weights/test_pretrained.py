"""From `weights=` to a trained network, over a hub on this machine."""

import gzip
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save

import keras_resnet
from keras_resnet.weights import DownloadError
from tests.keras_resnet.parity import FIXTURES, relative_error, tensor_by_formula
from tests.keras_resnet.parity import images_by_formula as images
from tests.keras_resnet.weights.server import running_hub

SHAPES = json.loads(gzip.decompress((FIXTURES / "torch_keys.json.gz").read_bytes()))
FULL_SIZE = np.load(FIXTURES / "full_size_logits_64x64.npz")


@pytest.fixture(scope="module")
def hub():
    """Has the weights of one ResNet-18, as timm writes them."""
    state = {key: tensor_by_formula(key, tuple(s)) for key, s in SHAPES["resnet18"].items()}
    counters = {
        key.replace("running_var", "num_batches_tracked"): np.zeros((), "int64")
        for key in state
        if key.endswith("running_var")
    }
    with running_hub() as hub:
        content = save({**state, **counters}, {"format": "pt"})
        hub.files["/timm/resnet18.a1_in1k/resolve/main/model.safetensors"] = content
        hub.files["/timm/resnet18.tv_in1k/resolve/main/model.safetensors"] = content[:-1000]
        yield hub


@pytest.fixture(scope="module")
def keras_home(tmp_path_factory):
    return tmp_path_factory.mktemp("keras")


@pytest.fixture(autouse=True)
def environment(hub, keras_home, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_trained_network_in_a_line(hub, capsys):
    arguments = {"input_shape": (64, 64, 3), "classifier_activation": None}
    model = keras_resnet.ResNet18(weights="imagenet", **arguments)
    assert "Downloading resnet18.a1_in1k.safetensors" in capsys.readouterr().err
    # What timm computes with these weights.
    assert relative_error(model.predict_on_batch(images(64, 64)), FULL_SIZE["resnet18"]) < 2e-5
    # From the cache, under its own name.
    asked = len(hub.requests)
    again = keras_resnet.ResNet18(weights="timm/resnet18.a1_in1k", **arguments)
    assert len(hub.requests) == asked
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_for_other_classes_and_grey_images(capsys):
    model = keras_resnet.create(
        "resnet18", weights="timm/resnet18.a1_in1k", input_shape=(64, 64, 1), classes=6
    )
    assert model.output_shape == (None, 6)
    assert "1000 classes and the model 6" in capsys.readouterr().err
    expected = tensor_by_formula("conv1.weight", (64, 3, 7, 7)).sum(axis=1)
    kernel = keras.ops.convert_to_numpy(model.get_layer("stem").conv1.kernel)[:, :, 0]
    np.testing.assert_allclose(kernel, expected.transpose(1, 2, 0), rtol=1e-5)


def test_a_damaged_file_of_the_hub_is_an_error_of_the_weights():
    """Its digest is right: it is the file itself that is damaged."""
    with pytest.raises(ValueError, match=r"resnet18\.tv_in1k\.safetensors cannot be read"):
        keras_resnet.ResNet18(weights="timm/resnet18.tv_in1k")


def test_what_the_hub_does_not_have():
    with pytest.raises(DownloadError, match=r"answered 404.*put it there as .*resnet18\.a2_in1k"):
        keras_resnet.ResNet18(weights="timm/resnet18.a2_in1k")
