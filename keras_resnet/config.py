"""The one description of any member of the family."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras

from keras_resnet._validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_positive,
    check_rate,
)
from keras_resnet.layers._composite import CONV_BIAS
from keras_resnet.layers._unit import DROP_PATH_MODES, ORDERS
from keras_resnet.layers.bottleneck_block import EXPANSION, STRIDE_ON, inner_width
from keras_resnet.layers.stem import STEM_POOLS, STEMS, stem_strides
from keras_resnet.layers.stochastic_depth import SCHEDULES

BLOCKS = ("basic", "bottleneck")
SHORTCUT_OPTIONS = ("A", "B", "C", "D", None)


@dataclass(frozen=True)
class ResNetConfig:
    """Describes a residual network; `keras_resnet.ResNet` builds it.

    The defaults are those of the networks that are trained today: v1.5 stride, symmetric padding,
    batch norm with epsilon 1e-5 and momentum 0.9, zero gamma at the end of each residual branch.
    A changed copy comes from `dataclasses.replace`.

    Args:
        depths: Number of blocks of each stage.
        widths: Width of each stage: the channels of a basic block, a quarter of those of a
            bottleneck.
        block: `"basic"` (`keras_resnet.layers.ResidualBlock`) or `"bottleneck"`
            (`keras_resnet.layers.BottleneckBlock`).
        groups: Number of groups of a bottleneck's 3×3 convolution (ResNeXt).
        base_width: Channels of each group in a bottleneck of width 64; 128 makes it wide.
        stride_on: Convolution of a bottleneck that has the stride: `"3x3"` (v1.5) or `"1x1"` (v1).
        stride_in: Block that has the stride: the `"first"` of each stage but the first stage, or,
            as in the V2 nets of keras.applications, the `"last"` of each stage but the last.
        order: Where batch norm and ReLU go in a block: `"original"`, `"bn_after_addition"`,
            `"relu_before_addition"`, `"relu_only_preactivation"` or `"full_preactivation"`
            (`keras_resnet.layers.ResidualBlock`).
        shortcut: What goes around a block that changes the number of channels or has a stride:
            `"A"` subsampling and zero channels, `"B"` a 1×1 projection, `"D"` a mean over 2×2 and
            a projection. `"C"` is a projection around every block, and None no shortcut at all (a
            plain net). Other blocks have the identity.
        stem: `"imagenet"`, `"cifar"`, `"deep"` or `"deep_tiered"` (`keras_resnet.layers.Stem`).
        stem_width: Number of channels that the stem puts out.
        stem_pool: `"max"`, `"max_ceil"`, `"max_zero"`, `"conv"` or None
            (`keras_resnet.layers.Stem`).
        output_stride: Stride of the last stage relative to the image; where it is less than the
            network would have, dilation takes the place of the later strides. None for no limit.
        se_ratio: Width of a squeeze-and-excitation in each block, as a share of the channels; None
            for none.
        se_divisor: That width is rounded to a multiple of this (timm's 8); 1 rounds down.
        se_after_activation: Whether an activation comes before it (timm's legacy SE-ResNet-18 and
            34).
        activation: Name of the activation in place of ReLU.
        conv_bias: Which convolutions have a bias: `"none"`, `"all"`, or `"unnormalized"` for those
            that no batch norm follows.
        kernel_initializer: Name of the initializer of the convolutions; None for He normal over
            the fan out, untruncated.
        zero_init_residual: Whether the gamma of a batch norm that ends a residual branch starts at
            zero.
        bn_momentum: Share of a moving statistic that a batch-norm update keeps.
        bn_epsilon: Batch norm's addition to the variance.
        bn_synchronized: Whether batch norm takes its statistics over all replicas.
        block_dropout_rate: Rate of a dropout before the last convolution of each block.
        drop_path_rate: Probability of dropping the residual branch of the last block.
        drop_path_schedule: How the rate of a block follows from it: `"linear"` (the paper),
            `"timm"` or `"stage"` (`keras_resnet.layers.stochastic_depth`).
        drop_path_mode: One draw per `"sample"` or per `"batch"`.
        dropout_rate: Rate of a dropout before the classifier.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        image_size: Side of the images that the network is meant for; the default of the input.
        default_classes: Number of classes where `ResNet` is not told another.

    Example:

    ```python
    config = keras_resnet.ResNetConfig(depths=(2, 2, 2), widths=(16, 32, 64), block="basic",
                                       stem="cifar", stem_width=16, stem_pool=None)
    model = keras_resnet.ResNet(config, input_shape=(32, 32, 3), classes=10)
    ```

    Raises:
        ValueError: If a field is out of range or does not go with another. The message names the
            field, what was received and what is allowed.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "bottleneck"
    groups: int = 1
    base_width: int = 64
    stride_on: str = "3x3"
    stride_in: str = "first"
    order: str = "original"
    shortcut: str | None = "B"
    stem: str = "imagenet"
    stem_width: int = 64
    stem_pool: str | None = "max"
    output_stride: int | None = None
    se_ratio: float | None = None
    se_divisor: int = 8
    se_after_activation: bool = False
    activation: str = "relu"
    conv_bias: str = "none"
    kernel_initializer: str | None = None
    zero_init_residual: bool = True
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    bn_synchronized: bool = False
    block_dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    drop_path_schedule: str = "timm"
    drop_path_mode: str = "sample"
    dropout_rate: float = 0.0
    data_format: str | None = None
    image_size: int = 224
    default_classes: int = 1000

    def __post_init__(self) -> None:
        for name in ("depths", "widths"):
            object.__setattr__(self, name, _integers(name, getattr(self, name)))
        if len(self.widths) != len(self.depths):
            raise ValueError(
                "`widths` must have one entry for each stage, as `depths` has "
                f"{len(self.depths)}. Received: widths={self.widths}"
            )
        check_choice("block", self.block, BLOCKS)
        check_integer("groups", self.groups)
        check_integer("base_width", self.base_width)
        check_choice("stride_on", self.stride_on, STRIDE_ON)
        check_choice("stride_in", self.stride_in, ("first", "last"))
        check_choice("order", self.order, ORDERS)
        check_choice("shortcut", self.shortcut, SHORTCUT_OPTIONS)
        check_choice("stem", self.stem, STEMS)
        check_integer("stem_width", self.stem_width, minimum=1 if self.stem == "cifar" else 8)
        check_choice("stem_pool", self.stem_pool, STEM_POOLS)
        if self.se_ratio is not None:
            check_fraction("se_ratio", self.se_ratio)
        check_integer("se_divisor", self.se_divisor)
        check_flag("se_after_activation", self.se_after_activation)
        _check_known("activation", self.activation, keras.activations.get)
        check_choice("conv_bias", self.conv_bias, CONV_BIAS)
        if self.kernel_initializer is not None:
            _check_known("kernel_initializer", self.kernel_initializer, keras.initializers.get)
        check_flag("zero_init_residual", self.zero_init_residual)
        check_rate("bn_momentum", self.bn_momentum)
        check_positive("bn_epsilon", self.bn_epsilon)
        check_flag("bn_synchronized", self.bn_synchronized)
        for name in ("block_dropout_rate", "drop_path_rate", "dropout_rate"):
            check_rate(name, getattr(self, name))
        check_choice("drop_path_schedule", self.drop_path_schedule, tuple(SCHEDULES))
        check_choice("drop_path_mode", self.drop_path_mode, DROP_PATH_MODES)
        check_choice("data_format", self.data_format, ("channels_last", "channels_first", None))
        check_integer("image_size", self.image_size)
        check_integer("default_classes", self.default_classes)
        self._check_together()

    def _check_together(self) -> None:
        if self.block == "basic" and (self.groups, self.base_width) != (1, 64):
            raise ValueError(
                "`groups` and `base_width` belong to block='bottleneck'; with block='basic' they "
                f"must be 1 and 64. Received: groups={self.groups}, base_width={self.base_width}"
            )
        if self.block == "bottleneck" and not inner_width(min(self.widths), self.base_width, 1):
            raise ValueError(
                "`base_width` must be at least 64 / min(widths), so that each 3×3 convolution has "
                f"a channel. Received: base_width={self.base_width}, widths={self.widths}"
            )
        if self.shortcut is None and self.drop_path_rate:
            raise ValueError(
                "`drop_path_rate` must be 0 where shortcut=None: without a shortcut nothing is "
                f"left of a dropped branch. Received: drop_path_rate={self.drop_path_rate}"
            )
        if self.drop_path_rate and self.drop_path_mode == "batch" and self.bn_synchronized:
            raise ValueError(
                "`bn_synchronized` must be False with drop_path_mode='batch': replicas that skip a "
                "branch would leave the others waiting for their statistics. "
                "Received: bn_synchronized=True"
            )
        if self.shortcut == "A" and list(self.widths) != sorted(self.widths):
            raise ValueError(
                "`widths` must not decrease with shortcut='A', which can only add channels. "
                f"Received: widths={self.widths}"
            )
        if self.shortcut == "A" and self.stem_width > self.out_channels[0]:
            raise ValueError(
                f"`stem_width` must be at most the {self.out_channels[0]} channels of the first "
                "stage with shortcut='A', which can only add channels. "
                f"Received: stem_width={self.stem_width}"
            )
        if self.output_stride is not None:
            if self.stride_in == "last":
                raise ValueError(
                    "`output_stride` must be None with stride_in='last'. "
                    f"Received: output_stride={self.output_stride}"
                )
            first = stem_strides(self.stem, self.stem_pool)
            allowed = [first * 2**stage for stage in range(len(self.depths))]
            check_choice("output_stride", self.output_stride, allowed)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Number of channels that each stage puts out."""
        expansion = EXPANSION if self.block == "bottleneck" else 1
        return tuple(expansion * width for width in self.widths)

    @property
    def total_stride(self) -> int:
        """Factor by which the network shrinks height and width."""
        full = stem_strides(self.stem, self.stem_pool) * 2 ** (len(self.depths) - 1)
        return full if self.output_stride is None else self.output_stride

    def to_dict(self) -> dict[str, Any]:
        """The fields as what JSON can hold; `ResNetConfig(**fields)` is the way back."""
        fields = dataclasses.asdict(self)
        return {**fields, "depths": list(self.depths), "widths": list(self.widths)}


def _integers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not values:
        raise ValueError(
            f"`{name}` must be a tuple of one positive integer for each stage. "
            f"Received: {name}={values!r}"
        )
    for value in values:
        check_integer(name, value)
    return tuple(int(value) for value in values)


def _check_known(name: str, value: Any, get: Any) -> None:
    try:
        known = isinstance(value, str) and get(value) is not None
    except (ValueError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"`{name}` must be a name that {get.__module__.split('.')[-1]} of Keras knows, such as "
            f"'relu' or 'he_normal'. Received: {name}={value!r}"
        )
