"""The parity fixtures: how timm's arguments read as a `ResNetConfig`, weights by formula, errors."""

import json
import zlib
from pathlib import Path

import numpy as np

from keras_resnet.config import ResNetConfig

FIXTURES = Path(__file__).parents[1] / "data" / "parity"
# The weights are loaded anyway, and JAX compiles a random initialiser for each shape.
FAST_START = {"kernel_initializer": "zeros"}
CASES = json.loads((FIXTURES / "tiny" / "index.json").read_text())["cases"]


def case_config(case):
    """The configuration of a tiny network from the arguments that timm was given."""
    arguments = dict(CASES[case]["config"])
    fields = {"depths": arguments.pop("layers"), "widths": arguments.pop("channels")}
    fields["output_stride"] = arguments.pop("output_stride", None)
    if CASES[case]["family"].endswith("ResNetV2"):
        fields["order"] = "full_preactivation"
        fields["stem_width"] = arguments.pop("stem_chs")
        fields["block"] = "basic" if arguments.pop("basic", False) else "bottleneck"
        if fields["block"] == "bottleneck":
            fields["widths"] = [width // 4 for width in fields["widths"]]
        if (arguments.pop("norm"), arguments.pop("preact")) != ("bn", True):
            raise NotImplementedError(case)
    else:
        fields["block"] = arguments.pop("block")
        fields["groups"] = arguments.pop("cardinality", 1)
        fields["base_width"] = arguments.pop("base_width", 64)
        if arguments.pop("replace_stem_pool", False):
            fields["stem_pool"] = "conv"
        if "stem_width" in arguments:
            fields["stem_width"] = 2 * arguments.pop("stem_width")
        name, _, ratio = arguments.pop("block_args", {}).get("attn_layer", "").partition(":")
        if name == "se":
            fields["se_ratio"] = float(ratio.removeprefix("rd_ratio=") or 1 / 16)
    fields["stem"] = arguments.pop("stem_type", "imagenet")
    fields["shortcut"] = "D" if arguments.pop("avg_down", False) else "B"
    if arguments:
        raise NotImplementedError(f"{case} has unknown arguments {arguments}")
    return ResNetConfig(**fields, **FAST_START)


def relative_error(actual, expected):
    """max |a - b| / max |b|, and infinity where the shapes differ."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        return np.inf
    return np.abs(actual - expected).max() / np.abs(expected).max()


def uniform(name, shape):
    """Numbers in [0, 1) that follow from a name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).random(shape)


def tensor_by_formula(name, shape):
    """A tensor of a full-size network, in torch's layout, as the README of the fixtures says."""
    u = uniform(name, shape)
    if name.endswith(".running_var"):
        value = 0.5 + u
    elif name.endswith((".running_mean", ".bias")):
        value = (u - 0.5) * 0.2
    elif len(shape) == 1:
        value = 0.4 + 0.4 * u
    else:
        value = (u - 0.5) * np.sqrt(24 / np.prod(shape[1:]))
    return value.astype("float32")


def images_by_formula(height, width):
    u = uniform(f"input {height}x{width}", (2, height, width, 3))
    return ((u - 0.5) * 4).astype("float32")


def torch_shape(variable, name):
    """The shape of a variable's tensor in torch."""
    shape = tuple(variable.shape)
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    if name == "head.fc.weight":
        return (*shape[::-1], 1, 1)
    return shape[::-1]
