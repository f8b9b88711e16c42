import dataclasses

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_resnet
from keras_resnet import ResNetConfig
from keras_resnet.layers._unit import ORDERS

SMALL = ResNetConfig(depths=(1, 2), widths=(8, 16), stem="cifar", stem_width=8, stem_pool=None)


def test_every_row_survives_a_dictionary():
    for config in keras_resnet.SPECS.values():
        assert ResNetConfig(**config.to_dict()) == config


def test_is_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.depths = (1,)
    assert hash(SMALL) == hash(dataclasses.replace(SMALL))


BAD_FIELDS = [
    ({"depths": (3, 0)}, r"`depths` must be an integer of at least 1.*depths=0"),
    ({"depths": 50}, r"`depths` must be a tuple.*depths=50"),
    ({"depths": (1, 2, 3)}, r"`widths` must have one entry for each stage.*widths=\(8, 16\)"),
    ({"block": "wide"}, r"`block` must be one of 'basic', 'bottleneck'.*block='wide'"),
    ({"block": "basic", "groups": 2}, r"`groups` and `base_width`.*groups=2"),
    ({"base_width": 4}, r"`base_width` must be at least 64 / min\(widths\).*base_width=4"),
    ({"order": "v3"}, r"`order` must be one of 'original'.*order='v3'"),
    ({"shortcut": "E"}, r"`shortcut` must be one of 'A', 'B', 'C', 'D', None.*shortcut='E'"),
    ({"stride_on": "5x5"}, r"`stride_on` must be one of '3x3', '1x1'.*'5x5'"),
    ({"stride_in": "middle"}, r"`stride_in` must be one of 'first', 'last'.*'middle'"),
    ({"stem": "vit"}, r"`stem` must be one of 'imagenet'.*stem='vit'"),
    ({"stem_pool": "avg"}, r"`stem_pool` must be one of 'max'.*stem_pool='avg'"),
    ({"drop_path_rate": 1}, r"`drop_path_rate` must be a number in \[0, 1\).*drop_path_rate=1"),
    ({"dropout_rate": -0.1}, r"`dropout_rate` must be a number in \[0, 1\).*dropout_rate=-0.1"),
    ({"drop_path_schedule": "cosine"}, r"`drop_path_schedule` must be one of 'linear'.*'cosine'"),
    ({"se_ratio": 0}, r"`se_ratio` must be a number in \(0, 1\].*se_ratio=0"),
    ({"bn_epsilon": 0}, r"`bn_epsilon` must be a number above 0.*bn_epsilon=0"),
    ({"bn_momentum": 1.0}, r"`bn_momentum` must be a number in \[0, 1\).*bn_momentum=1.0"),
    ({"activation": "rleu"}, r"`activation` must be a name.*activation='rleu'"),
    ({"kernel_initializer": "hee"}, r"`kernel_initializer` must be a name.*'hee'"),
    ({"conv_bias": True}, r"`conv_bias` must be one of 'none'.*conv_bias=True"),
    ({"output_stride": 8}, r"`output_stride` must be one of 1, 2.*output_stride=8"),
    ({"data_format": "NHWC"}, r"`data_format` must be one of 'channels_last'.*'NHWC'"),
    ({"shortcut": None, "drop_path_rate": 0.1}, r"`drop_path_rate` must be 0 where shortcut=None"),
    ({"shortcut": "A", "widths": (16, 8)}, r"`widths` must not decrease.*widths=\(16, 8\)"),
    ({"shortcut": "A", "stem_width": 64}, r"`stem_width` must be at most.*stem_width=64"),
    ({"stride_in": "last", "output_stride": 1}, r"`output_stride` must be None with stride_in"),
    (
        {"bn_synchronized": True, "drop_path_rate": 0.5, "drop_path_mode": "batch"},
        r"`bn_synchronized` must be False with drop_path_mode='batch'",
    ),
]


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS, ids=lambda value: str(value)[:40])
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **fields)


def test_a_wide_network_of_an_impossible_depth():
    for make in (lambda: keras_resnet.WideResNet(29, 10), lambda: keras_resnet.create("wrn_29_10")):
        with pytest.raises(ValueError, match=r"`depth` must be 6 n \+ 4.*depth=29"):
            make()
    with pytest.raises(ValueError, match=r"`widen_factor` must be.*widen_factor=0"):
        keras_resnet.WideResNet(28, 0)


@st.composite
def configs(draw):
    stages = draw(st.integers(1, 3))
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    stem = draw(st.sampled_from(["imagenet", "cifar", "deep", "deep_tiered"]))
    shortcut = draw(st.sampled_from(["A", "B", "C", "D", None]))
    widths = sorted(draw(st.lists(st.sampled_from([8, 12, 16]), min_size=stages, max_size=stages)))
    return ResNetConfig(
        depths=tuple(draw(st.integers(1, 3)) for _ in range(stages)),
        widths=tuple(widths),
        block=block,
        groups=draw(st.sampled_from([1, 2])) if block == "bottleneck" else 1,
        stride_on=draw(st.sampled_from(["1x1", "3x3"])),
        stride_in=draw(st.sampled_from(["first", "last"])),
        order=draw(st.sampled_from(ORDERS)),
        shortcut=shortcut,
        stem=stem,
        stem_width=8,
        stem_pool=draw(st.sampled_from(["max", "max_ceil", "max_zero", "conv", None])),
        se_ratio=draw(st.sampled_from([None, 0.25])),
        se_divisor=draw(st.sampled_from([1, 8])),
        conv_bias=draw(st.sampled_from(["none", "all", "unnormalized"])),
        drop_path_rate=draw(st.sampled_from([0.0, 0.5])) if shortcut else 0.0,
        block_dropout_rate=draw(st.sampled_from([0.0, 0.3])),
        kernel_initializer="ones",
        default_classes=3,
    )


@settings(max_examples=12, deadline=None, derandomize=True)
@given(configs())
def test_any_valid_configuration_builds_what_is_counted(config):
    """Building, counting, shapes and serialisation agree for whatever the fields allow."""
    side = 2 * config.total_stride + 1
    model = keras_resnet.ResNet(config, input_shape=(side, side + 2, 3), include_top=False)
    counted = keras_resnet.analysis.count(config, (side, side + 2, 3), include_top=False)
    assert model.count_params() == counted.parameters
    images = keras.ops.ones((1, side, side + 2, 3))
    assert tuple(model(images).shape[1:]) == model.output_shape[1:]
    assert type(model).from_config(model.get_config()).config == config
