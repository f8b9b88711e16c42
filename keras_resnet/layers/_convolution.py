"""The convolution of the family."""

from typing import Any

import keras
from keras import ops

from keras_resnet import _backend


class Convolution(keras.layers.Conv2D):
    """A 2D convolution of an odd kernel that pads both sides alike, as torch does.

    Keras' `padding="same"` puts the odd pixel of a strided convolution at the end, so that weights
    trained with symmetric padding see an image shifted by a pixel. At stride 1 the two agree, and
    the padding is left to the backend.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the kernel, odd.
        strides: Stride of both axes.
        **kwargs: Other arguments of `keras.layers.Conv2D`, `padding` excepted.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, **kwargs: Any) -> None:
        pads_itself = strides > 1 and kernel_size > 1
        padding = "valid" if pads_itself else "same"
        super().__init__(filters, kernel_size, strides=strides, padding=padding, **kwargs)
        self.margin = kernel_size // 2 if pads_itself else 0

    def call(self, inputs: Any) -> Any:
        return super().call(pad_spatially(inputs, (self.margin, self.margin), 0, self.data_format))

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        outputs = _backend.conditional_convolution(self, inputs, kernel)
        return super().convolution_op(inputs, kernel) if outputs is None else outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        first = 2 if self.data_format == "channels_first" else 1
        padded = [
            size if size is None or axis not in (first, first + 1) else size + 2 * self.margin
            for axis, size in enumerate(input_shape)
        ]
        return super().compute_output_shape(tuple(padded))


def pad_spatially(x: Any, margins: tuple[int, int], value: float, data_format: str) -> Any:
    """Pads height and width of `x` by `margins` (before, after) with a constant."""
    if not any(margins):
        return x
    widths = [(0, 0), margins, margins]
    widths.insert(1 if data_format == "channels_first" else 3, (0, 0))
    return ops.pad(x, widths, constant_values=value)
