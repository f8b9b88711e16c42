"""Parameters and MACs of every network against what others measured."""

import csv
import dataclasses
from pathlib import Path

import keras
import pytest

import keras_resnet
from keras_resnet.analysis import Count, count

_DATA = Path(__file__).parents[2] / "data" / "parity"


def _rows(name):
    with (_DATA / f"{name}_reference.csv").open() as file:
        return list(csv.DictReader(file))


TIMM = [row for row in _rows("timm") if row["name"] in keras_resnet.SPECS]
APPLICATIONS = [
    row
    for row in _rows("keras")
    if row["source"].startswith("keras.applications") and row["name"].startswith("ResNet")
]
CIFAR = _rows("cifar")


def _config(name, **fields):
    return dataclasses.replace(keras_resnet.SPECS[name], **fields)


@pytest.mark.parametrize("row", TIMM, ids=lambda row: row["name"])
def test_equals_timm(row):
    config = _config(row["name"])
    channels, height, width = map(int, row["input_size"].split("x"))
    assert config.image_size == height
    assert count(config, (height, width, channels)) == Count(
        int(row["params_trainable"]), int(row["buffers_running_stats"]), int(row["macs_default"])
    )
    assert count(config, (224, 224, 3)).macs == int(row["macs_224"])


def test_timm_has_no_other_network_of_the_family():
    outside = {row["name"] for row in _rows("timm")} - set(keras_resnet.SPECS)
    assert outside == {
        *("ecaresnet50d", "resnetaa50", "resnetblur50", "resnet10t", "resnet14t"),
        *("resnetv2_50x1_bit", "resnetv2_50x3_bit"),
    }


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row["name"])
def test_equals_keras_applications(row):
    name = row["name"].removesuffix("_notop")
    config = _config(f"keras_{name.lower()}")
    assert count(config, (224, 224, 3), include_top=name == row["name"]) == Count(
        int(row["params_trainable"]), int(row["params_non_trainable"]), int(row["conv_dense_macs"])
    )
    assert config.bn_epsilon == float(row["bn_epsilon"])
    assert config.bn_momentum == float(row["bn_momentum"])


def _cifar_config(reference):
    """The configuration for a name such as `resnet20_cifar_A` or `wrn_28_10`."""
    name, _, option = reference.replace("_bottleneck", "").replace("_cifar", "").partition("_")
    if name == "wrn":
        return _config(reference)
    name = f"cifar_{name.replace('preact_', 'pre')}"
    return _config(name, shortcut=option) if option else _config(name)


@pytest.mark.parametrize("row", CIFAR, ids=lambda row: row["name"])
def test_equals_the_cifar_papers(row):
    config = _cifar_config(row["name"].replace("preact_", "pre"))
    assert count(config) == Count(
        int(row["params_exact"]), int(row["keras_non_trainable"]), int(row["macs_32x32"])
    )


# Networks that no file above has: name, fields, trainable, non-trainable, GMACs at 224x224.
FURTHER_IMAGENET = [
    ("resnet50", {"stride_on": "1x1"}, 25_557_032, 53_120, 3.858),
    ("resnet101", {"stride_on": "1x1"}, 44_549_160, 105_344, 7.570),
    ("resnet152", {"stride_on": "1x1"}, 60_192_808, 151_424, 11.282),
    ("resnet200", {"stride_on": "1x1"}, 64_673_832, 176_000, 14.776),
    ("resnext101_32x4d", {}, 44_177_704, 137_856, 7.970),
    ("seresnet18", {"se_divisor": 1}, 11_778_592, 9_600, 1.814),
    ("seresnet34", {"se_divisor": 1}, 21_958_868, 17_024, 3.664),
    ("seresnext101_32x4d", {}, 48_955_416, 137_856, 7.975),
    ("legacy_seresnet18", {}, 11_778_592, 9_600, 1.814),
    ("legacy_seresnet34", {}, 21_958_868, 17_024, 3.664),
    ("legacy_seresnet101", {}, 49_326_872, 105_344, 7.575),
    ("legacy_seresnet152", {}, 66_821_848, 151_424, 11.289),
    ("plain18", {}, 11_515_688, 7_808, 1.795),
    ("plain34", {}, 21_623_848, 15_232, 3.644),
]


@pytest.mark.parametrize(
    ("name", "fields", "trainable", "non_trainable", "gmacs"), FURTHER_IMAGENET
)
def test_further_imagenet_networks(name, fields, trainable, non_trainable, gmacs):
    counted = count(_config(name, **fields), (224, 224, 3))
    assert (counted.trainable, counted.non_trainable) == (trainable, non_trainable)
    assert round(counted.macs / 1e9, 3) == gmacs


# Name, classes, trainable, non-trainable, GMACs at 32x32 and 10 classes.
FURTHER_CIFAR = [
    ("wrn_16_1", 10, 175_066, 928, 0.027),
    ("wrn_16_2", 10, 691_674, 1_824, 0.101),
    ("wrn_28_2", 10, 1_467_610, 3_616, 0.214),
    ("wrn_16_10", 10, 17_116_634, 8_992, 2.412),
    ("wrn_22_10", 10, 26_797_914, 13_472, 3.828),
    ("wrn_40_8", 10, 35_748_314, 21_536, 5.172),
    ("wrn_40_10", 10, 55_841_754, 26_912, 8.074),
    ("wrn_40_4", 100, 8_972_340, 10_784, 1.299),
    ("wrn_16_8", 100, 11_007_540, 7_200, 1.548),
    ("wrn_40_8", 100, 35_794_484, 21_536, 5.172),
    ("wrn_28_10", 100, 36_536_884, 17_952, 5.243),
    ("wrn_40_10", 100, 55_899_444, 26_912, 8.074),
    ("cifar_preresnet164", 100, 1_726_388, 24_224, 0.245),
    ("cifar_preresnet1001", 100, 10_350_836, 149_216, 1.488),
    ("cifar_resnet110_sd", 10, 1_727_962, 8_096, 0.253),
    ("cifar_resnet1202_sd", 10, 19_421_274, 89_632, 2.829),
]


@pytest.mark.parametrize(("name", "classes", "trainable", "non_trainable", "gmacs"), FURTHER_CIFAR)
def test_further_cifar_networks(name, classes, trainable, non_trainable, gmacs):
    counted = count(_config(name), classes=classes)
    assert (counted.trainable, counted.non_trainable) == (trainable, non_trainable)
    assert round(count(_config(name)).macs / 1e9, 3) == gmacs


# ResNet-RS at the sizes of its paper (table 7): name, size, GMACs; the paper counts twice as many.
RS = [
    *(("resnetrs50", 160, 2.279), ("resnetrs101", 160, 4.182), ("resnetrs101", 192, 6.012)),
    *(("resnetrs152", 192, 8.747), ("resnetrs152", 224, 11.895), ("resnetrs152", 256, 15.528)),
    *(("resnetrs200", 256, 20.093), ("resnetrs270", 256, 26.950), ("resnetrs350", 256, 34.377)),
    *(("resnetrs350", 320, 53.684), ("resnetrs420", 320, 63.942)),
]


@pytest.mark.parametrize(("name", "size", "gmacs"), RS)
def test_resnet_rs_at_the_sizes_of_its_paper(name, size, gmacs):
    assert round(count(_config(name), (size, size, 3)).macs / 1e9, 3) == gmacs


def test_plain_nets_cost_what_residual_nets_cost():
    for depth in (20, 56):
        plain, residual = (count(_config(f"cifar_{kind}{depth}")) for kind in ("plain", "resnet"))
        assert plain == residual


def _vgg19():
    layers = [keras.Input((224, 224, 3))]
    for repeats, filters in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        layers += [keras.layers.Conv2D(filters, 3, padding="same") for _ in range(repeats)]
        layers += [keras.layers.MaxPooling2D()]
    dense = [keras.layers.Dense(units) for units in (4096, 4096, 1000)]
    return layers, [keras.layers.Flatten(), *dense]


def test_resnet152_costs_less_than_vgg19():
    """He et al., 2015, section 4.1: 11.3 against 15.3 (VGG-16) and 19.6 thousand million."""
    shape, macs = (1, 224, 224, 3), 0
    convolutions, head = _vgg19()
    for layer in (*convolutions[1:], *head):  # unbuilt: 144 million parameters are not needed
        if not isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.Flatten)):
            macs += _macs_of(layer, shape)
        shape = layer.compute_output_shape(shape)
    assert round(macs / 1e9, 1) == 19.6
    paper = count(_config("resnet152", stride_on="1x1")).macs
    assert round(paper / 1e9, 1) == 11.3 and paper < macs


def _macs_of(layer, shape):
    if isinstance(layer, keras.layers.Dense):
        return shape[-1] * layer.units
    positions = shape[1] * shape[2]
    return positions * 9 * shape[3] * layer.filters


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("resnet18", {"widths": (8, 8, 8, 8)}),
        ("resnetrs50", {"depths": (1, 2, 1, 1), "widths": (8, 8, 8, 8)}),
        ("resnetv2_50", {"depths": (2, 1, 1, 1), "widths": (8, 8, 8, 8)}),
        ("keras_resnet50v2", {"depths": (2, 1, 2, 1), "widths": (8, 8, 8, 8)}),
        ("legacy_seresnet18", {"widths": (16, 16, 16, 16)}),
        ("cifar_preresnet110", {"depths": (1, 1, 1)}),
    ],
)
def test_model_and_configuration_count_alike(name, fields):
    config = _config(name, kernel_initializer="zeros", **fields)
    model = keras_resnet.ResNet(config, input_shape=(None, None, 3), classes=7)
    counted = count(model, (45, 70, 3))
    assert counted == count(config, (45, 70, 3), classes=7)
    assert counted.parameters == model.count_params()
    first = dataclasses.replace(config, data_format="channels_first")
    assert count(first, (3, 45, 70), classes=7) == counted


def test_other_peoples_models_count():
    inputs = keras.Input((8, 8, 6))
    x = keras.layers.Conv2D(4, 3, groups=2)(inputs)
    x = keras.layers.Dense(5, use_bias=False)(keras.layers.Flatten()(x))
    branch = keras.layers.Dense(5, use_bias=False)
    x = branch(branch(x)) + x
    model = keras.Model(inputs, x)
    macs = 6 * 6 * (9 * 3 * 4) + 144 * 5 + 2 * 25
    assert count(model) == Count(9 * 3 * 4 + 4 + 144 * 5 + 25, 0, macs)


def test_what_cannot_be_counted_is_refused():
    embedding = keras.Sequential([keras.Input((3,)), keras.layers.Embedding(4, 2)])
    with pytest.raises(ValueError, match=r"`model` must be made of.*Received: a Embedding"):
        count(embedding)
    with pytest.raises(ValueError, match=r"`input_shape` must be given"):
        count(keras_resnet.create("cifar_plain20", input_shape=(None, None, 3)))
