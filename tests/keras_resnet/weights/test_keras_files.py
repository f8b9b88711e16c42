"""Files of keras.applications and of tf.keras' ResNet-RS, written as Keras 2 wrote them."""

import dataclasses
import hashlib

import h5py
import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import DownloadError, find_record, load
from tests.keras_resnet.parity import FAST_START
from tests.keras_resnet.weights.server import running_hub

SIZE = 64
ARGUMENTS = {"input_shape": (SIZE, SIZE, 3), "classifier_activation": None}


# JAX compiles both networks at length, and names do not depend on the backend.
COMPILES_LONG = [pytest.mark.exhaustive] if keras.config.backend() == "jax" else []


def write_keras_2(path, layers, classifier="predictions", half=False):
    """Writes layers as `save_weights` of Keras 2 did.

    Args:
        path: The file.
        layers: Arrays by name of the weight, by name of the layer.
        classifier: Name of the layer `predictions` in the file.
        half: Whether to write half precision.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs["keras_version"] = b"2.2.4"
        for layer, weights in layers.items():
            layer = classifier if layer == "predictions" else layer
            group = file.create_group(layer)
            # Layers are named anew in every network of a process, the groups within are not.
            names = [f"{layer}_1/{name}:0" for name in weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, weights.values(), strict=True):
                group[name] = value.astype("float16") if half else value


def random_weights(name, shape, rng):
    values = rng.uniform(-1, 1, shape)
    if name == "kernel":
        return (values * np.sqrt(6 / np.prod(shape[:-1]))).astype("float32")
    if name in ("gamma", "moving_variance"):
        return (0.9 + 0.4 * values).astype("float32")
    return (0.2 * values).astype("float32")


def layers_of(model):
    """The weights of a model of keras.applications; layers without weights are there, empty."""
    return {
        layer.name: {v.name: keras.ops.convert_to_numpy(v) for v in layer.weights}
        for layer in model.layers
    }


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param("keras_resnet50", "", marks=COMPILES_LONG),
        pytest.param("keras_resnet50v2", "V2", marks=COMPILES_LONG),
        *(
            pytest.param(f"keras_resnet{depth}{v.lower()}", v, marks=pytest.mark.exhaustive)
            for depth in (101, 152)
            for v in ("", "V2")
        ),
    ],
)
def test_files_of_keras_applications(name, version, tmp_path):
    depth = name.removeprefix("keras_resnet").removesuffix("v2")
    theirs = getattr(keras.applications, f"ResNet{depth}{version}")(
        weights=None, classes=10, **ARGUMENTS
    )
    rng = np.random.default_rng(0)
    for variable in theirs.weights:
        variable.assign(random_weights(variable.name, variable.shape, rng))
    path = tmp_path / "weights.h5"
    # The published files of V1 call the classifier so.
    write_keras_2(path, layers_of(theirs), "predictions" if version else "probs")
    ours = keras_resnet.create(name, classes=10, weights=path, **FAST_START, **ARGUMENTS)
    images = rng.normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    expected = theirs.predict_on_batch(images)
    received = ours.predict_on_batch(images)
    assert np.abs(received - expected).max() / np.abs(expected).max() < 1e-5


def resnet_rs_layers(depths):
    """The layers of tf.keras' ResNet-RS with their shapes, by the names in its source."""
    shapes = {}

    def conv(name, *shape):
        shapes[name] = {"kernel": shape}

    def norm(name, channels):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        shapes[name] = dict.fromkeys(names, (channels,))

    for number, (before, after) in enumerate([(3, 32), (32, 32), (32, 64), (64, 64)], start=1):
        conv(f"stem_3_stem_conv_{number}", 3, 3, before, after)
        norm(f"stem_3_stem_batch_norm_{number}", after)
    channels = 64
    for group, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=2):
        for number in range(depth):
            block = f"BlockGroup{group}__block_{number}_"
            if number == 0:
                conv(f"{block}_projection_conv", 1, 1, channels, 4 * width)
                norm(f"{block}_projection_batch_norm", 4 * width)
            conv(f"{block}_conv_1", 1, 1, channels, width)
            norm(f"{block}batch_norm_1", width)
            conv(f"{block}_conv_2", 3, 3, width, width)
            norm(f"{block}_batch_norm_2", width)
            conv(f"{block}_conv_3", 1, 1, width, 4 * width)
            norm(f"{block}_batch_norm_3", 4 * width)
            shapes[f"{block}_se_se_reduce"] = {"kernel": (1, 1, 4 * width, width), "bias": (width,)}
            shapes[f"{block}_se_se_expand"] = {
                "kernel": (1, 1, width, 4 * width),
                "bias": (4 * width,),
            }
            channels = 4 * width
    shapes["predictions"] = {"kernel": (2048, 1000), "bias": (1000,)}
    return shapes


RESNET_RS = ["resnetrs50"] + [
    pytest.param(name, marks=pytest.mark.exhaustive)
    for name in keras_resnet.list_models("resnetrs*")
    if name != "resnetrs50"
]


@pytest.mark.parametrize("name", RESNET_RS)
def test_files_of_resnet_rs(name, tmp_path):
    rng = np.random.default_rng(0)
    layers = {
        layer: {name: random_weights(name, shape, rng) for name, shape in shapes.items()}
        for layer, shapes in resnet_rs_layers(keras_resnet.SPECS[name].depths).items()
    }
    path = tmp_path / "resnet-rs.h5"
    write_keras_2(path, layers, half=True)
    model = keras_resnet.create(name, **FAST_START, **ARGUMENTS)
    load(model, path)
    ours = {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}
    assert len(ours) == sum(map(len, layers.values()))
    total = sum(value.astype("float64").sum() for value in ours.values())
    expected = sum(
        value.astype("float16").astype("float64").sum()
        for weights in layers.values()
        for value in weights.values()
    )
    assert total == pytest.approx(expected, rel=1e-6)
    for path, layer, weight in [
        ("stem/conv4/kernel", "stem_3_stem_conv_4", "kernel"),
        ("stage1_block1/bn1/gamma", "BlockGroup2__block_0_batch_norm_1", "gamma"),
        ("stage4_block3/bn2/beta", "BlockGroup5__block_2__batch_norm_2", "beta"),
        ("stage2_block2/se/expand/bias", "BlockGroup3__block_1__se_se_expand", "bias"),
        (
            "stage3_block1/shortcut/bn/moving_mean",
            "BlockGroup4__block_0__projection_batch_norm",
            "moving_mean",
        ),
    ]:
        expected = layers[layer][weight].astype("float16").astype("float32")
        np.testing.assert_array_equal(ours[path], expected, err_msg=path)


def test_a_file_of_keras_is_downloaded_verified_and_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shapes = resnet_rs_layers((3, 4, 6, 3))
    layers = {
        layer: {name: np.full(shape, number, "float16") for name, shape in weights.items()}
        for number, (layer, weights) in enumerate(shapes.items())
    }
    write_keras_2(tmp_path / "served.h5", layers)
    content = (tmp_path / "served.h5").read_bytes()
    record = find_record("keras/resnetrs50.i160")
    with running_hub() as hub:
        hub.files[f"/{record.file}"] = content
        hub.states_digest = False
        here = dataclasses.replace(record, url=f"{hub.url}/{record.file}")
        with pytest.raises(DownloadError, match=f"its digest is not {record.digest}"):
            keras_resnet.create("resnetrs50", weights=here, **FAST_START, **ARGUMENTS)
        here = dataclasses.replace(here, digest=f"md5:{hashlib.md5(content).hexdigest()}")
        model = keras_resnet.create("resnetrs50", weights=here, **FAST_START, **ARGUMENTS)
    # The fourth convolution of the stem is the seventh layer.
    assert (keras.ops.convert_to_numpy(model.get_layer("stem").conv4.kernel) == 6).all()
    assert (keras.ops.convert_to_numpy(model.get_layer("classifier").bias) == len(shapes) - 1).all()


def test_what_is_left_over_is_named(tmp_path):
    layers = resnet_rs_layers((3, 4, 6, 3))
    layers = {
        layer: {name: np.zeros(shape, "float16") for name, shape in shapes.items()}
        for layer, shapes in layers.items()
    }
    del layers["BlockGroup2__block_0__conv_2"]
    layers["BlockGroup9__block_0__conv_2"] = {"kernel": np.zeros((1,))}
    write_keras_2(tmp_path / "resnet-rs.h5", layers)
    model = keras_resnet.create("resnetrs50", **FAST_START, **ARGUMENTS)
    with pytest.raises(ValueError) as error:
        load(model, tmp_path / "resnet-rs.h5")
    assert "Missing (1): BlockGroup2__block_0__conv_2/kernel" in str(error.value)
    assert "Unexpected (1): BlockGroup9__block_0__conv_2/kernel" in str(error.value)
