import dataclasses
import re

import pytest

import keras_resnet
from keras_resnet.variants import SPECS
from keras_resnet.weights import WeightsRecord, default_record, find_record, list_weights
from keras_resnet.weights.pretrained import architecture_of, resolve
from tests.keras_resnet.parity import FAST_START

RECORDS = [find_record(name) for name in list_weights()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_every_row_is_of_a_network_and_complete(record):
    config = SPECS[record.architecture]
    assert architecture_of(config) == record.architecture
    assert record.classes == config.default_classes
    assert config.block == "basic" or record.stride_on == config.stride_on
    images = record.images
    assert config.total_stride <= images.image_size <= images.test_image_size
    assert all(crop is None or 0 < crop <= 1 for crop in (images.crop, images.test_crop))
    assert images.interpolation in ("bilinear", "bicubic")
    assert record.top1 is None or 65 < record.top1 < 90
    assert record.digest is None or re.fullmatch("md5:[0-9a-f]{32}", record.digest)
    # What the hub does not verify has to be verified with the row.
    assert (record.digest is None) == (record.source == "timm")
    assert record.url.endswith((".safetensors", ".h5"))


def test_names_of_patterns():
    assert list_weights("wide*") == [
        "timm/wide_resnet101_2.tv2_in1k",
        "timm/wide_resnet101_2.tv_in1k",
        "timm/wide_resnet50_2.racm_in1k",
        "timm/wide_resnet50_2.tv2_in1k",
        "timm/wide_resnet50_2.tv_in1k",
    ]
    assert set(list_weights("*.tv2_in1k")) <= set(list_weights("timm/*"))
    assert len({record.file for record in RECORDS}) == len(RECORDS) == len(list_weights())
    assert list_weights("wrn*") == []


def test_defaults():
    """The most accurate one whose licence forbids nothing."""
    expected = {
        "resnet18": "timm/resnet18.a1_in1k",
        "wide_resnet50_2": "timm/wide_resnet50_2.racm_in1k",
        "resnext101_32x8d": "timm/resnext101_32x8d.tv2_in1k",  # fb_swsl has more, not for trade
        "keras_resnet50": "keras/keras_resnet50.imagenet",
        "legacy_seresnet18": "timm/legacy_seresnet18.in1k",
        "resnetrs420": "timm/resnetrs420.tf_in1k",
    }
    assert {name: default_record(name).name for name in expected} == expected
    trained = {record.architecture for record in RECORDS}
    for name in trained:
        assert not default_record(name).non_commercial
    assert any(record.non_commercial for record in RECORDS)
    assert default_record("resnet200") is None
    assert {"resnet200", "seresnet18", "resnetv2_152"}.isdisjoint(trained)


def test_every_network_for_imagenet_that_somebody_has_trained_has_a_row():
    untrained = {"resnet200", "resnet50t", "resnetv2_50d", "resnetv2_152", "plain18", "plain34"}
    untrained |= {f"seresnet{depth}" for depth in (18, 34, 101, 152)}
    imagenet = {name for name, config in SPECS.items() if config.default_classes == 1000}
    assert {record.architecture for record in RECORDS} == imagenet - untrained


def test_what_the_argument_weights_names(tmp_path):
    config = SPECS["wide_resnet50_2"]
    named = resolve(config, "timm/wide_resnet50_2.tv2_in1k")
    assert isinstance(named, WeightsRecord)
    assert named.images.test_crop == 0.965
    assert resolve(config, named) is named
    assert resolve(config, "imagenet") is default_record("wide_resnet50_2")
    (tmp_path / "mine.safetensors").write_text("")
    assert resolve(config, tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("timm/resnet50.tv2_in1k", "these are of resnet50, and the network is wide_resnet50_2"),
        ("timm/wide_resnet50_2.tv3_in1k", r"perhaps .*'timm/wide_resnet50_2\.tv2_in1k'"),
        ("missing.safetensors", "the path of a file that exists"),
        (7, "None, 'imagenet', one of"),
    ],
)
def test_what_it_does_not_name(weights, message):
    with pytest.raises(ValueError, match=message):
        resolve(SPECS["wide_resnet50_2"], weights)


def test_weights_trained_at_other_strides_are_refused():
    """They fit tensor by tensor, and would compute something else."""
    with pytest.raises(ValueError, match="configuration that has no name"):
        keras_resnet.create(
            "resnet50", stride_on="1x1", weights="timm/resnet50.tv_in1k", **FAST_START
        )


def test_what_changes_no_weight_changes_no_name():
    changed = dataclasses.replace(
        SPECS["resnet50"], output_stride=16, drop_path_rate=0.1, zero_init_residual=False
    )
    assert architecture_of(changed) == "resnet50"
