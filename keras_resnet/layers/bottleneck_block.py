"""The residual block of 1×1, 3×3 and 1×1 convolutions."""

from typing import Any

import keras

from keras_resnet._validation import check_choice, check_integer
from keras_resnet.layers._unit import Conv, ResidualUnit

EXPANSION = 4
STRIDE_ON = ("3x3", "1x1")


def inner_width(filters: int, base_width: int, groups: int) -> int:
    """Channels of the 3×3 convolution of a bottleneck block."""
    return filters * base_width // 64 * groups


@keras.saving.register_keras_serializable(package="keras_resnet")
class BottleneckBlock(ResidualUnit):
    """A 1×1, a 3×3 and a 1×1 convolution beside a shortcut: the block of ResNet-50 and deeper.

    The first convolution leads to `filters * base_width / 64 * groups` channels, on which the 3×3
    works, and the last to `4 * filters`. So `base_width=128` is the block of WideResNet-50-2, and
    `groups=32, base_width=4` that of ResNeXt-50 32×4d. For `order` see
    `keras_resnet.layers.ResidualBlock`; a bottleneck has one more convolution with its batch norm
    and ReLU.

    Args:
        filters: A quarter of the number of output channels.
        strides: Stride of the block.
        groups: Number of groups of the 3×3 convolution (the cardinality of ResNeXt).
        base_width: Channels of each group at `filters=64`.
        stride_on: The convolution that has the stride: `"3x3"` (v1.5) or the first `"1x1"` (v1).
        order: Where batch norm and ReLU go, one of five.
        shortcut: `"identity"`, `"zero_pad"`, `"projection"` or `"avg_pool"`
            (`keras_resnet.layers.Shortcut`), or None for a plain block without one.
        dilation: Dilation of the stage; with `first_dilation=None` also that of the 3×3.
        first_dilation: Dilation of the 3×3, where it is another: the first block of a dilated
            stage keeps the dilation of the stage before.
        se_ratio: Width of a squeeze-and-excitation at the end of the branch, as a share of the
            output channels; None for none.
        se_divisor: That width is rounded to a multiple of this; 1 rounds down.
        se_after_activation: Whether an activation comes before it (timm's legacy SE-ResNet-18
            and 34).
        dropout_rate: Rate of a dropout before the last convolution.
        drop_path_rate: Probability of dropping the residual branch (stochastic depth).
        drop_path_mode: `"sample"` or `"batch"` (`keras_resnet.layers.StochasticDepth`).
        activation: Activation in place of ReLU.
        conv_bias: Which convolutions have a bias: `"none"`, `"all"`, or `"unnormalized"` for those
            that no batch norm follows.
        zero_init_residual: Whether the gamma of a batch norm that ends the branch starts at zero,
            so that the block starts as its shortcut.
        kernel_initializer: Initializer of the kernels; None for He normal, fan out.
        bn_momentum: Share of a moving statistic that a batch-norm update keeps.
        bn_epsilon: Batch norm's addition to the variance.
        bn_synchronized: Whether batch norm takes its statistics over all replicas.
        seed: Integer to start the draws of dropout and stochastic depth from; random by default.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.

    Call arguments:
        inputs: Features, (N, H, W, C) in the default data format.
        training: Whether batch norm normalises by the batch and branches are dropped.

    Example:

    ```python
    x = keras.Input((56, 56, 256))
    x = keras_resnet.layers.BottleneckBlock(64)(x)
    x = keras_resnet.layers.BottleneckBlock(128, strides=2, shortcut="projection")(x)
    x.shape  # (None, 28, 28, 512)
    ```

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.1, figure 5
        - [Xie et al., 2016](https://arxiv.org/abs/1611.05431), section 3
        - [Zagoruyko and Komodakis, 2016](https://arxiv.org/abs/1605.07146), section 3

    Raises:
        ValueError: If an argument is out of range, or an identity meets another number of channels.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        *,
        groups: int = 1,
        base_width: int = 64,
        stride_on: str = "3x3",
        order: str = "original",
        shortcut: str | None = "identity",
        dilation: int = 1,
        first_dilation: int | None = None,
        se_ratio: float | None = None,
        se_divisor: int = 1,
        se_after_activation: bool = False,
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        drop_path_mode: str = "sample",
        activation: Any = "relu",
        conv_bias: str = "none",
        zero_init_residual: bool = True,
        kernel_initializer: Any = None,
        bn_momentum: float = 0.9,
        bn_epsilon: float = 1e-5,
        bn_synchronized: bool = False,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            strides,
            order=order,
            shortcut=shortcut,
            dilation=dilation,
            first_dilation=first_dilation,
            se_ratio=se_ratio,
            se_divisor=se_divisor,
            se_after_activation=se_after_activation,
            dropout_rate=dropout_rate,
            drop_path_rate=drop_path_rate,
            drop_path_mode=drop_path_mode,
            activation=activation,
            conv_bias=conv_bias,
            zero_init_residual=zero_init_residual,
            kernel_initializer=kernel_initializer,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
            bn_synchronized=bn_synchronized,
            seed=seed,
            data_format=data_format,
            **kwargs,
        )
        check_integer("groups", groups)
        check_integer("base_width", base_width)
        check_choice("stride_on", stride_on, STRIDE_ON)
        self.groups = groups
        self.base_width = base_width
        self.stride_on = stride_on

        width = inner_width(filters, base_width, groups)
        if not width:
            raise ValueError(
                "`base_width` must be at least 64 / filters, so that the 3×3 convolution has a "
                f"channel. Received: base_width={base_width}, filters={filters}"
            )
        on_1x1 = stride_on == "1x1"
        self._assemble(
            [
                Conv(width, 1, strides if on_1x1 else 1),
                Conv(width, 3, 1 if on_1x1 else strides, groups, self.first_dilation),
                Conv(EXPANSION * filters, 1),
            ]
        )
