"""The compatible networks compute what keras.applications computes, variable for variable."""

import keras
import numpy as np
import pytest

import keras_resnet

SIZE = 64


def _their_layer(path, preactivation):
    """Name of the layer of keras.applications that belongs to a layer path of ours."""
    if not path.startswith("stage"):
        names = {"stem/conv1": "conv1_conv", "stem/bn1": "conv1_bn", "head_bn": "post_bn"}
        return names.get(path, "predictions")
    block, _, layer = path.partition("/")
    stage, number = block.removeprefix("stage").split("_block")
    prefix = f"conv{int(stage) + 1}_block{number}"
    kind, place = layer.split("/")[-1].rstrip("123"), layer[-1]
    if layer.startswith("shortcut"):
        place = "0"
    elif preactivation and kind == "bn":
        if place == "1":
            return f"{prefix}_preact_bn"
        place = str(int(place) - 1)
    return f"{prefix}_{place}_{kind}"


def _randomise(model):
    rng = np.random.default_rng(0)
    for variable in model.variables:
        values = rng.uniform(-1, 1, variable.shape)
        if "kernel" in variable.name:
            values *= np.sqrt(6 / np.prod(variable.shape[:-1]))
        elif "variance" in variable.name or "gamma" in variable.name:
            values = 0.9 + 0.4 * values  # positive, and far from the start
        else:
            values *= 0.2
        variable.assign(values.astype("float32"))


@pytest.mark.parametrize("version", ["", "V2"])
@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(depth, marks=pytest.mark.exhaustive) for depth in (101, 152))]
)
def test_same_logits_as_keras_applications(depth, version):
    arguments = {"input_shape": (SIZE, SIZE, 3), "classes": 10, "classifier_activation": None}
    theirs = getattr(keras.applications, f"ResNet{depth}{version}")(weights=None, **arguments)
    _randomise(theirs)
    ours = keras_resnet.create(
        f"keras_resnet{depth}{version.lower()}", kernel_initializer="zeros", **arguments
    )
    sources = {variable.path: variable for variable in theirs.variables}
    for variable in ours.variables:
        layer, _, name = variable.path.rpartition("/")
        source = sources.pop(f"{_their_layer(layer, version == 'V2')}/{name}")
        # By value: predicting on JAX gives away the arrays of the model, shared ones too.
        variable.assign(keras.ops.convert_to_numpy(source))
    assert not sources

    images = np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    expected = theirs.predict(images, verbose=0)
    received = ours.predict(images, verbose=0)
    error = np.abs(received - expected).max() / np.abs(expected).max()
    assert error <= 1e-5
    assert np.std(expected) > 1e-3  # the logits say something
