"""The stems of the family."""

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
from keras_resnet.layers._unit import ORDERS, Conv

STEMS = ("imagenet", "cifar", "deep", "deep_tiered")
# kind of max-pool -> (margin before, margin after), value of the margin
_MAX_POOLS = {
    "max": ((1, 1), float("-inf")),
    "max_ceil": ((0, 1), float("-inf")),
    "max_zero": ((1, 1), 0.0),
}
STEM_POOLS = (*_MAX_POOLS, "conv", None)


@keras.saving.register_keras_serializable(package="keras_resnet")
class Stem(CompositeLayer):
    """Turns images into the features that the first stage works on.

    Convolutions by `kind`, each followed by batch norm and ReLU:

    - `"imagenet"`: one 7×7 at stride 2.
    - `"cifar"`: one 3×3 at stride 1.
    - `"deep"` (ResNet-C and D): three 3×3 of `filters / 2`, `filters / 2` and `filters` channels,
      the first at stride 2.
    - `"deep_tiered"` (ResNet-T): the same with `3 * filters / 8`, `filters / 2` and `filters`.

    Then `pool` halves the image again:

    - `"max"`: 3×3 maximum at stride 2, one pixel of -inf around the image.
    - `"max_ceil"`: the same over the bare image, the last window cut at its edge (legacy SE nets).
    - `"max_zero"`: one pixel of zeros around the image. It differs from `"max"` only where
      features can be negative: in the V2 nets of keras.applications, whose weights expect it.
    - `"conv"`: a 3×3 convolution at stride 2 with batch norm and ReLU (ResNet-RS).
    - None: nothing.

    With `order="full_preactivation"` the last convolution stands bare, as the first block begins
    with batch norm and ReLU, and with `"relu_only_preactivation"` its ReLU is left to that block.

    Args:
        filters: Number of output channels.
        kind: One of the four kinds above.
        pool: One of the pools above.
        order: Order of the blocks that follow (`keras_resnet.layers.ResidualBlock`).
        activation: Activation in place of ReLU.
        conv_bias: Which convolutions have a bias: `"none"`, `"all"`, or `"unnormalized"` for those
            that no batch norm follows.
        kernel_initializer: Initializer of the kernels; None for He normal, fan out.
        bn_momentum: Share of a moving statistic that a batch-norm update keeps.
        bn_epsilon: Batch norm's addition to the variance.
        bn_synchronized: Whether batch norm takes its statistics over all replicas.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.

    Call arguments:
        inputs: Images, (N, H, W, C) in the default data format.
        training: Whether batch norm normalises by the batch.

    Example:

    ```python
    stem = keras_resnet.layers.Stem(64, kind="deep")
    stem(keras.ops.zeros((1, 224, 224, 3))).shape  # (1, 56, 56, 64)
    ```

    Reference:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), table 1 and section 4.2
        - [He et al., 2018](https://arxiv.org/abs/1812.01187), section 4.1, ResNet-C
        - [Bello et al., 2021](https://arxiv.org/abs/2103.07579), appendix, ResNet-RS

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        filters: int = 64,
        *,
        kind: str = "imagenet",
        pool: str | None = "max",
        order: str = "original",
        activation: Any = "relu",
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
        check_choice("kind", kind, STEMS)
        # An eighth of them is the unit of the tiered widths, a half that of the deep ones.
        check_integer("filters", filters, minimum={"deep": 2, "deep_tiered": 8}.get(kind, 1))
        check_choice("pool", pool, STEM_POOLS)
        check_choice("order", order, ORDERS)
        check_choice("conv_bias", conv_bias, CONV_BIAS)
        self.filters = filters
        self.kind = kind
        self.pool = pool
        self.order = order
        self.activation = keras.activations.get(activation)
        self.conv_bias = conv_bias

        self._plan = stem_convolutions(filters, kind, pool)
        for number, conv in enumerate(self._plan, start=1):
            normalized = self._normalizes(number)
            convolution = self._convolution(
                f"conv{number}",
                conv.filters,
                conv.kernel_size,
                conv.strides,
                use_bias=conv_bias == "all" or (conv_bias == "unnormalized" and not normalized),
            )
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"bn{number}", self._batch_norm(f"bn{number}") if normalized else None)

    @property
    def strides(self) -> int:
        """Factor by which height and width shrink."""
        return stem_strides(self.kind, self.pool)

    def _normalizes(self, number: int) -> bool:
        return not (self.order == "full_preactivation" and number == len(self._plan))

    def _activates(self, number: int) -> bool:
        preactivation = self.order in ("full_preactivation", "relu_only_preactivation")
        return not (preactivation and number == len(self._plan))

    def sublayer_shapes(self, input_shape: Shape) -> Iterator[tuple[keras.Layer, Shape]]:
        shape = input_shape
        for number in range(1, len(self._plan) + 1):
            conv, bn = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            yield conv, shape
            shape = conv.compute_output_shape(shape)
            if bn is not None:
                yield bn, shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for conv in self._plan:
            shape = with_strides(shape, conv.strides, self.data_format)
        if self.pool in _MAX_POOLS:
            # All three pools halve and, at an odd size, "max_ceil" alone rounds down.
            if self.pool == "max_ceil":
                shape = tuple(
                    size // 2 if size is not None and axis in self.spatial_axes else size
                    for axis, size in enumerate(shape)
                )
            else:
                shape = with_strides(shape, 2, self.data_format)
        return with_channels(shape, self.filters, self.data_format)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs
        for number in range(1, len(self._plan) + 1):
            x = getattr(self, f"conv{number}")(x)
            if self._normalizes(number):
                x = getattr(self, f"bn{number}")(x, training=training)
            if self._activates(number):
                x = self.activation(x)
        if self.pool in _MAX_POOLS:
            margins, value = _MAX_POOLS[self.pool]
            x = pad_spatially(x, margins, value, self.data_format)
            x = ops.max_pool(x, 3, 2, padding="valid", data_format=self.data_format)
        return x


def stem_convolutions(filters: int, kind: str, pool: str | None) -> list[Conv]:
    """The convolutions of a stem."""
    half = filters // 2
    convolutions = {
        "imagenet": [Conv(filters, 7, 2)],
        "cifar": [Conv(filters, 3)],
        "deep": [Conv(half, 3, 2), Conv(half, 3), Conv(filters, 3)],
        "deep_tiered": [Conv(3 * (half // 4), 3, 2), Conv(half, 3), Conv(filters, 3)],
    }[kind]
    return [*convolutions, Conv(filters, 3, 2)] if pool == "conv" else convolutions


def stem_strides(kind: str, pool: str | None) -> int:
    """Factor by which a stem shrinks height and width."""
    strides = 2 if pool in _MAX_POOLS else 1
    for conv in stem_convolutions(8, kind, pool):
        strides *= conv.strides
    return strides
