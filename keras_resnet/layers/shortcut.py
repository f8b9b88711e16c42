"""The shortcut connections of the family."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_resnet._validation import check_choice, check_integer
from keras_resnet.layers._composite import (
    CONV_BIAS,
    CompositeLayer,
    Shape,
    with_channels,
    with_strides,
)
from keras_resnet.layers._convolution import pad_spatially

SHORTCUTS = ("identity", "zero_pad", "projection", "avg_pool")


@keras.saving.register_keras_serializable(package="keras_resnet")
class Shortcut(CompositeLayer):
    """Carries the input of a residual block past its residual branch.

    - `"identity"`: the input itself; at a stride, every `strides`-th pixel of it.
    - `"zero_pad"` (option A): every `strides`-th pixel, new channels filled with zeros at the end.
    - `"projection"` (options B and C): a 1×1 convolution at the stride, then batch norm.
    - `"avg_pool"` (the shortcut of ResNet-D): a 2×2 mean at the stride, then a 1×1 convolution
      at stride 1 and batch norm. An odd last row or column is the mean of what there is of it.

    Args:
        filters: Number of output channels.
        strides: Factor by which height and width shrink, rounded up.
        kind: One of the four above.
        normalize: Whether batch norm follows the convolution. Full pre-activation has none there.
        dilation: Dilation of the stage. Where a dilation above 1 has taken the place of a stride,
            `"avg_pool"` averages at stride 1 over an image with a margin of zeros at the end, and
            counts the margin, as the weights of dilated ResNet-D expect.
        conv_bias: `"all"` for a bias in the convolution, `"unnormalized"` for one where no batch
            norm follows, `"none"`.
        kernel_initializer: Initializer of the kernel; None for He normal, fan out.
        bn_momentum: Share of a moving statistic that a batch-norm update keeps.
        bn_epsilon: Batch norm's addition to the variance.
        bn_synchronized: Whether batch norm takes its statistics over all replicas.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.

    Call arguments:
        inputs: Images or features, (N, H, W, C) in the default data format.
        training: Whether batch norm normalises by the batch.

    Example:

    ```python
    shortcut = keras_resnet.layers.Shortcut(128, strides=2, kind="projection")
    shortcut(keras.ops.zeros((1, 32, 32, 64))).shape  # (1, 16, 16, 128)
    ```

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 3.3, options A to C
        - [He et al., 2018](https://arxiv.org/abs/1812.01187), section 4.1, ResNet-D

    Raises:
        ValueError: If an argument is out of range, or `kind="identity"` meets an input whose
            channels are not `filters`.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        *,
        kind: str = "identity",
        normalize: bool = True,
        dilation: int = 1,
        conv_bias: str = "none",
        kernel_initializer: Any = None,
        bn_momentum: float = 0.9,
        bn_epsilon: float = 1e-5,
        bn_synchronized: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_initializer=kernel_initializer,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
            bn_synchronized=bn_synchronized,
            data_format=data_format,
            **kwargs,
        )
        check_integer("filters", filters)
        check_integer("strides", strides)
        check_choice("kind", kind, SHORTCUTS)
        check_integer("dilation", dilation)
        check_choice("conv_bias", conv_bias, CONV_BIAS)
        self.filters = filters
        self.strides = strides
        self.kind = kind
        self.normalize = normalize
        self.dilation = dilation
        self.conv_bias = conv_bias

        self.conv = self.bn = None
        if self.projects:
            self.conv = self._convolution(
                "conv",
                filters,
                1,
                strides if kind == "projection" else 1,
                use_bias=conv_bias == "all" or (conv_bias == "unnormalized" and not normalize),
            )
            self.bn = self._batch_norm("bn") if normalize else None

    @property
    def projects(self) -> bool:
        """Whether the shortcut has a convolution."""
        return self.kind in ("projection", "avg_pool")

    def sublayer_shapes(self, input_shape: Shape) -> Iterator[tuple[keras.Layer, Shape]]:
        shape = input_shape
        if self.kind == "avg_pool":
            shape = with_strides(shape, self.strides, self.data_format)
        if self.conv is not None:
            yield self.conv, shape
        if self.bn is not None:
            yield self.bn, self.conv.compute_output_shape(shape)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[self.channel_axis]
        if self.kind == "identity" and channels != self.filters:
            raise ValueError(
                "`kind` must change the number of channels ('zero_pad', 'projection' or "
                f"'avg_pool') where {channels} channels come in and filters={self.filters} go out. "
                f"Received: kind={self.kind!r}"
            )
        if self.kind == "zero_pad" and channels > self.filters:
            raise ValueError(
                f"`filters` must be at least the {channels} channels of the input for "
                f"kind='zero_pad'. Received: filters={self.filters}"
            )
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs
        if self.kind == "avg_pool":
            x = self._average(x)
        elif not self.projects:
            x = self._subsample(x)
        if self.kind == "zero_pad":
            x = self._pad_channels(x)
        if self.conv is not None:
            x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x, training=training)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = with_strides(input_shape, self.strides, self.data_format)
        return with_channels(shape, self.filters, self.data_format)

    def _subsample(self, x: Any) -> Any:
        if self.strides == 1:
            return x
        step = slice(None, None, self.strides)
        if self.data_format == "channels_first":
            return x[:, :, step, step]
        return x[:, step, step, :]

    def _pad_channels(self, x: Any) -> Any:
        widths = [(0, 0)] * 4
        widths[self.channel_axis] = (0, self.filters - x.shape[self.channel_axis])
        return ops.pad(x, widths)

    def _average(self, x: Any) -> Any:
        if self.strides > 1:
            return ops.average_pool(
                x, self.strides, self.strides, padding="same", data_format=self.data_format
            )
        if self.dilation > 1:
            x = pad_spatially(x, (0, 1), 0, self.data_format)
            return ops.average_pool(x, 2, 1, padding="valid", data_format=self.data_format)
        return x
