"""The residual block of two 3×3 convolutions."""

from typing import Any

import keras

from keras_resnet.layers._unit import Conv, ResidualUnit


@keras.saving.register_keras_serializable(package="keras_resnet")
class ResidualBlock(ResidualUnit):
    """Two 3×3 convolutions beside a shortcut: the block of ResNet-18 and 34, CIFAR nets and WRNs.

    `order` says where batch norm and ReLU go (He et al., 2016, figure 4):

    | order | residual branch | after the addition |
    | --- | --- | --- |
    | `"original"` | conv BN ReLU conv BN | ReLU |
    | `"bn_after_addition"` | conv BN ReLU conv | BN ReLU |
    | `"relu_before_addition"` | conv BN ReLU conv BN ReLU | |
    | `"relu_only_preactivation"` | ReLU conv BN ReLU conv BN | |
    | `"full_preactivation"` | BN ReLU conv BN ReLU conv | |

    Args:
        filters: Number of output channels.
        strides: Stride of the first convolution and of the shortcut.
        order: One of the five above.
        shortcut: `"identity"`, `"zero_pad"`, `"projection"` or `"avg_pool"`
            (`keras_resnet.layers.Shortcut`), or None for a plain block without one.
        dilation: Dilation of the 3×3 convolutions.
        first_dilation: Dilation of the first of them, where it is another: the first block of a
            dilated stage keeps the dilation of the stage before. None for `dilation`.
        se_ratio: Width of a squeeze-and-excitation at the end of the branch, as a share of the
            channels; None for none.
        se_divisor: That width is rounded to a multiple of this; 1 rounds down.
        se_after_activation: Whether an activation comes before it (timm's legacy SE-ResNet-18
            and 34).
        dropout_rate: Rate of a dropout before the last convolution, as in wide residual networks.
        drop_path_rate: Probability of dropping the residual branch (stochastic depth).
        drop_path_mode: `"sample"` or `"batch"` (`keras_resnet.layers.StochasticDepth`).
        activation: Activation in place of ReLU.
        conv_bias: Which convolutions have a bias: `"none"`, `"all"`, or `"unnormalized"` for those
            that no batch norm follows.
        zero_init_residual: Whether the gamma of a batch norm that ends the branch starts at zero,
            so that the block starts as its shortcut. Only the orders `"original"` and
            `"relu_only_preactivation"` end so.
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
    x = keras.Input((32, 32, 16))
    x = keras_resnet.layers.ResidualBlock(16)(x)
    x = keras_resnet.layers.ResidualBlock(32, strides=2, shortcut="projection")(x)
    x.shape  # (None, 16, 16, 32)
    ```

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 3.3
        - [He et al., 2016](https://arxiv.org/abs/1603.05027), section 4
        - [Zagoruyko and Komodakis, 2016](https://arxiv.org/abs/1605.07146), section 2

    Raises:
        ValueError: If an argument is out of range, or an identity meets another number of channels.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        *,
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
        self._assemble(
            [
                Conv(filters, 3, strides, dilation=self.first_dilation),
                Conv(filters, 3, dilation=dilation),
            ]
        )
