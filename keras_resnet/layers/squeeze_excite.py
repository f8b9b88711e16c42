"""Squeeze-and-excitation."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_resnet._validation import check_fraction, check_integer
from keras_resnet.layers._composite import CompositeLayer, Shape, with_channels


def squeezed_width(channels: int, ratio: float, divisor: int) -> int:
    """Channels inside a squeeze-and-excitation of `channels` channels.

    At `divisor=1` they are `channels * ratio`, rounded down (the paper); else the nearest multiple
    of `divisor`, halves rounded up (timm). At least `divisor` in both cases.
    """
    width = channels * ratio
    if divisor > 1:
        width += divisor / 2
    return max(divisor, int(width) // divisor * divisor)


@keras.saving.register_keras_serializable(package="keras_resnet")
class SqueezeExcite(CompositeLayer):
    """Scales each channel by a gate in (0, 1) that is computed from the means of all channels.

    The gate is mean over the image, 1×1 convolution to fewer channels, ReLU, 1×1 convolution back
    to all of them, sigmoid; both convolutions have biases.

    Args:
        ratio: Width of the layer between the two convolutions, as a share of the channels.
        divisor: That width is rounded to a multiple of this, and is this at least; 1 rounds down.
        kernel_initializer: Initializer of the kernels; None for He normal, fan out.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.

    Call arguments:
        inputs: Features, (N, H, W, C) in the default data format.

    Example:

    ```python
    gate = keras_resnet.layers.SqueezeExcite(ratio=1 / 16, divisor=8)
    gate(keras.ops.ones((2, 7, 7, 64))).shape  # (2, 7, 7, 64); 8 channels inside
    ```

    Reference:
        - [Hu et al., 2017](https://arxiv.org/abs/1709.01507), section 3

    Raises:
        ValueError: If `ratio` is not in (0, 1] or `divisor` not a positive integer.
    """

    def __init__(
        self,
        ratio: float = 1 / 16,
        divisor: int = 1,
        *,
        kernel_initializer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_initializer=kernel_initializer, data_format=data_format, **kwargs)
        check_fraction("ratio", ratio)
        check_integer("divisor", divisor)
        self.ratio = ratio
        self.divisor = divisor
        self.reduce = self.expand = None

    def sublayer_shapes(self, input_shape: Shape) -> Iterator[tuple[keras.Layer, Shape]]:
        channels = input_shape[self.channel_axis]
        if self.reduce is None:
            width = squeezed_width(channels, self.ratio, self.divisor)
            self.reduce = self._convolution("reduce", width, 1, use_bias=True)
            self.expand = self._convolution("expand", channels, 1, use_bias=True)
        ones = [1, 1, 1, 1]
        ones[0] = input_shape[0]
        squeezed = tuple(ones)
        yield self.reduce, with_channels(squeezed, channels, self.data_format)
        yield self.expand, with_channels(squeezed, self.reduce.filters, self.data_format)

    def call(self, inputs: Any) -> Any:
        gate = ops.mean(inputs, axis=self.spatial_axes, keepdims=True)
        gate = ops.relu(self.reduce(gate))
        gate = ops.sigmoid(self.expand(gate))
        return inputs * gate

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
