"""The networks of the family by name."""

import dataclasses
import difflib
import fnmatch
import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet._validation import check_integer
from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet, resnet_arguments

_BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK_DEPTHS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_ALL_DEPTHS = _BASIC_DEPTHS | _BOTTLENECK_DEPTHS

_C = {"stem": "deep"}
_D = {"stem": "deep", "shortcut": "D"}
_T = {"stem": "deep_tiered", "shortcut": "D"}
_V2 = {"order": "full_preactivation"}
_SE = {"se_ratio": 1 / 16}
_LEGACY_SE = {
    "se_ratio": 1 / 16,
    "se_divisor": 1,
    "stride_on": "1x1",
    "stem_pool": "max_ceil",
    "dropout_rate": 0.2,
}
_RS = {
    "stem": "deep",
    "stem_pool": "conv",
    "shortcut": "D",
    "se_ratio": 0.25,
    "drop_path_schedule": "stage",
}
# keras.applications: what its weights were trained with.
_KERAS = {"bn_epsilon": 1.001e-5, "bn_momentum": 0.99, "zero_init_residual": False}
_KERAS_V1 = {**_KERAS, "stride_on": "1x1", "conv_bias": "all"}
_KERAS_V2 = {
    **_KERAS,
    "order": "full_preactivation",
    "stride_in": "last",
    "stem_pool": "max_zero",
    "conv_bias": "unnormalized",
}
# Huang et al., 2016, section 4: p_L = 0.5, one draw per mini-batch.
_STOCHASTIC_DEPTH = {
    "drop_path_rate": 0.5,
    "drop_path_schedule": "linear",
    "drop_path_mode": "batch",
}


def _imagenet(depth: int, **fields: Any) -> ResNetConfig:
    """He et al., 2015, table 1."""
    block = "basic" if depth in _BASIC_DEPTHS else "bottleneck"
    return ResNetConfig(depths=_ALL_DEPTHS[depth], block=block, **fields)


def _resnet_rs(
    depths: tuple[int, ...], image_size: int, dropout_rate: float, drop_path_rate: float
) -> ResNetConfig:
    """Bello et al., 2021, tables 7 and 8."""
    return ResNetConfig(
        depths=depths,
        image_size=image_size,
        dropout_rate=dropout_rate,
        drop_path_rate=drop_path_rate,
        **_RS,
    )


def _cifar(depth: int, **fields: Any) -> ResNetConfig:
    """He et al., 2015, section 4.2: three stages, 6n + 2 layers, or 9n + 2 in bottlenecks."""
    layers = 3 if fields.get("block") == "bottleneck" else 2
    defaults = {"block": "basic", "shortcut": "A", "widths": (16, 32, 64)}
    return ResNetConfig(
        depths=((depth - 2) // (3 * layers),) * 3,
        stem="cifar",
        stem_width=16,
        stem_pool=None,
        image_size=32,
        default_classes=10,
        **{**defaults, **fields},
    )


def _preactivation_bottleneck(depth: int) -> ResNetConfig:
    """He et al., 2016, as the authors published it: the stride is on the first 1×1."""
    return _cifar(depth, block="bottleneck", shortcut="B", stride_on="1x1", **_V2)


def wide_resnet_config(depth: int, widen_factor: int) -> ResNetConfig:
    """The wide residual network WRN-d-k for images of 32×32.

    Args:
        depth: Number of convolutions, `6 n + 4`.
        widen_factor: Width of the stages in multiples of 16, 32 and 64.

    Raises:
        ValueError: If `depth` is not of that form, or `widen_factor` not a positive integer.

    Reference:
        - [Zagoruyko and Komodakis, 2016](https://arxiv.org/abs/1605.07146), table 1
    """
    check_integer("depth", depth)
    check_integer("widen_factor", widen_factor)
    if depth < 10 or depth % 6 != 4:
        raise ValueError(
            "`depth` must be 6 n + 4 with n of at least 1 (10, 16, 22, 28, 34, 40, ...). "
            f"Received: depth={depth}"
        )
    widths = tuple(widen_factor * width for width in (16, 32, 64))
    # Six layers a block triple, and two more convolutions than 6n + 2.
    return _cifar(depth - 2, widths=widths, shortcut="B", **_V2)


_FIELDS = tuple(field.name for field in dataclasses.fields(ResNetConfig))

SPECS: dict[str, ResNetConfig] = {
    **{f"resnet{depth}": _imagenet(depth) for depth in _ALL_DEPTHS},
    **{f"resnet{depth}c": _imagenet(depth, **_C) for depth in (50, 101, 152)},
    **{f"resnet{depth}d": _imagenet(depth, **_D) for depth in (18, 26, 34, 50)},
    **{f"resnet{depth}d": _imagenet(depth, image_size=256, **_D) for depth in (101, 152, 200)},
    **{f"resnet{depth}t": _imagenet(depth, **_T) for depth in (26, 50)},
    **{f"resnetv2_{depth}": _imagenet(depth, **_V2) for depth in (18, 34, 50, 101, 152)},
    "resnetv2_50d": _imagenet(50, **_V2, **_D),
    **{f"keras_resnet{depth}": _imagenet(depth, **_KERAS_V1) for depth in (50, 101, 152)},
    **{f"keras_resnet{depth}v2": _imagenet(depth, **_KERAS_V2) for depth in (50, 101, 152)},
    "wide_resnet50_2": _imagenet(50, base_width=128),
    "wide_resnet101_2": _imagenet(101, base_width=128),
    "resnext50_32x4d": _imagenet(50, groups=32, base_width=4),
    "resnext101_32x4d": _imagenet(101, groups=32, base_width=4),
    "resnext101_32x8d": _imagenet(101, groups=32, base_width=8),
    "resnext101_64x4d": _imagenet(101, groups=64, base_width=4),
    **{f"seresnet{depth}": _imagenet(depth, **_SE) for depth in (18, 34, 50, 101, 152)},
    "seresnet152d": _imagenet(152, image_size=256, **_SE, **_D),
    "seresnext50_32x4d": _imagenet(50, groups=32, base_width=4, **_SE),
    "seresnext101_32x4d": _imagenet(101, groups=32, base_width=4, **_SE),
    "seresnext101_32x8d": _imagenet(101, groups=32, base_width=8, **_SE),
    **{
        f"legacy_seresnet{depth}": _imagenet(
            depth, se_after_activation=depth in _BASIC_DEPTHS, **_LEGACY_SE
        )
        for depth in (18, 34, 50, 101, 152)
    },
    "resnetrs50": _resnet_rs((3, 4, 6, 3), 160, 0.25, 0.0),
    "resnetrs101": _resnet_rs((3, 4, 23, 3), 192, 0.25, 0.0),
    "resnetrs152": _resnet_rs((3, 8, 36, 3), 256, 0.25, 0.0),
    "resnetrs200": _resnet_rs((3, 24, 36, 3), 256, 0.25, 0.1),
    "resnetrs270": _resnet_rs((4, 29, 53, 4), 256, 0.25, 0.1),
    # timm's size; the paper has 256 with dropout 0.25 and 320 with 0.4.
    "resnetrs350": _resnet_rs((4, 36, 72, 4), 288, 0.4, 0.1),
    "resnetrs420": _resnet_rs((4, 44, 87, 4), 320, 0.4, 0.1),
    "plain18": _imagenet(18, shortcut=None),
    "plain34": _imagenet(34, shortcut=None),
    **{f"cifar_resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"cifar_plain{depth}": _cifar(depth, shortcut=None) for depth in (20, 32, 44, 56, 110)},
    **{f"cifar_resnet{depth}_sd": _cifar(depth, **_STOCHASTIC_DEPTH) for depth in (110, 1202)},
    "cifar_preresnet110": _cifar(110, **_V2),
    "cifar_preresnet164": _preactivation_bottleneck(164),
    "cifar_preresnet1001": _preactivation_bottleneck(1001),
    **{
        f"wrn_{depth}_{factor}": wide_resnet_config(depth, factor)
        for depth, factors in {
            16: (1, 2, 4, 8, 10),
            22: (8, 10),
            28: (2, 10, 12),
            40: (1, 2, 4, 8, 10),
        }.items()
        for factor in factors
    },
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks that match a shell pattern, sorted.

    Any other wide residual network for images of 32×32 can be had as `wrn_{depth}_{factor}`.

    Example:

    ```python
    keras_resnet.list_models("wide*")  # ["wide_resnet101_2", "wide_resnet50_2"]
    ```
    """
    return sorted(fnmatch.filter(SPECS, pattern))


def find_config(name: str) -> ResNetConfig:
    """The configuration of a network of this name.

    Raises:
        ValueError: If there is no network of this name.
    """
    if name in SPECS:
        return SPECS[name]
    if wide := re.fullmatch(r"wrn_(\d+)_(\d+)", str(name)):
        return wide_resnet_config(int(wide[1]), int(wide[2]))
    raise ValueError(
        "`name` must be one of `keras_resnet.list_models()`"
        f"{_suggestion(str(name), SPECS)}. Received: name={name!r}"
    )


def create(name: str, **arguments: Any) -> keras.Model:
    """Builds a network of the family by its name.

    Args:
        name: One of `keras_resnet.list_models()`, or `wrn_{depth}_{factor}`.
        **arguments: Fields of `keras_resnet.ResNetConfig`, which change the network, and arguments
            of `keras_resnet.ResNet`; the model is named after the network.

    Raises:
        ValueError: If there is no network of this name, or an argument is out of range.
        TypeError: If neither the configuration nor `ResNet` has an argument of this name.

    Example:

    ```python
    keras_resnet.create("cifar_resnet20", shortcut="B", classes=100)
    ```
    """
    known = (*_FIELDS, *resnet_arguments())
    for argument in arguments:
        if argument not in known:
            close = _suggestion(argument, known)
            raise TypeError(f"create() got an unexpected argument {argument!r}{close}")
    others = {key: value for key, value in arguments.items() if key not in _FIELDS}
    return ResNet(config_of(name, arguments), name=name, **others)


def config_of(name: str, arguments: Mapping[str, Any]) -> ResNetConfig:
    """The configuration of the network that `create` would build; other arguments do not matter.

    Raises:
        ValueError: If there is no network of this name, or a field is out of range.
    """
    changes = {key: value for key, value in arguments.items() if key in _FIELDS}
    return dataclasses.replace(find_config(name), **changes)


def _suggestion(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, names)
    return f", perhaps {' or '.join(map(repr, close))}" if close else ""


def WideResNet(
    depth: int,
    widen_factor: int,
    *,
    dropout_rate: float = 0.0,
    include_top: bool = True,
    weights: Any = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> keras.Model:
    """Builds the wide residual network WRN-d-k for images of 32×32.

    For the wide networks of ImageNet, see `WideResNet50` and `WideResNet101`.

    Args:
        depth: Number of convolutions, `6 n + 4`.
        widen_factor: Width of the stages in multiples of 16, 32 and 64.
        dropout_rate: Rate of the dropout between the two convolutions of each block. The paper
            uses 0.3 on CIFAR and 0.4 on SVHN.
        include_top: This and the others are the arguments of `keras_resnet.ResNet`; there are 10
            classes by default.
        weights: As in `keras_resnet.ResNet`.
        input_tensor: As in `keras_resnet.ResNet`.
        input_shape: As in `keras_resnet.ResNet`; `(32, 32, 3)` by default.
        pooling: As in `keras_resnet.ResNet`.
        classes: As in `keras_resnet.ResNet`.
        classifier_activation: As in `keras_resnet.ResNet`.
        name: As in `keras_resnet.ResNet`.

    Raises:
        ValueError: If `depth` is not `6 n + 4`, or another argument is out of range.

    Reference:
        - [Zagoruyko and Komodakis, 2016](https://arxiv.org/abs/1605.07146), table 1
    """
    config = wide_resnet_config(depth, widen_factor)
    return ResNet(
        dataclasses.replace(config, block_dropout_rate=dropout_rate),
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name or f"wrn_{depth}_{widen_factor}",
    )
