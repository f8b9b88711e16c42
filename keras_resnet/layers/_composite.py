"""What the layers of this package that are made of other layers have in common."""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import keras

from keras_resnet._validation import check_choice, check_flag, check_positive, check_rate
from keras_resnet.layers._convolution import Convolution
from keras_resnet.layers._normalization import BatchNormalization

Shape = tuple[int | None, ...]

# Which convolutions carry a bias. Before a batch normalisation a bias is useless, so "none" is the
# rule; the other two are what the weights of keras.applications (V1, V2) were trained with.
CONV_BIAS = ("none", "all", "unnormalized")


@cache
def _argument_names(cls: type) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(cls.__init__).parameters.values()
    return tuple(p.name for p in parameters if p.kind in kinds and p.name != "self")


def he_fan_out() -> keras.initializers.Initializer:
    """N(0, 2 / fan_out), untruncated: the initialisation of torch's `kaiming_normal_`, fan out."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


class CompositeLayer(keras.Layer):
    """A layer made of sublayers whose input shapes are known before anything is built.

    A subclass keeps every argument of its constructor in an attribute of the same name, creates
    its sublayers in the constructor and lists them in `sublayer_shapes`. Building, counting
    (`keras_resnet.analysis`) and `get_config` follow from these.

    Args:
        kernel_initializer: Initializer of the convolution kernels; None for He normal, fan out.
        bn_momentum: Share of a moving statistic that a batch-norm update keeps.
        bn_epsilon: Batch norm's addition to the variance.
        bn_synchronized: Whether batch norm takes its statistics over all replicas.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras' setting.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.
    """

    def __init__(
        self,
        *,
        kernel_initializer: Any = None,
        bn_momentum: float = 0.9,
        bn_epsilon: float = 1e-5,
        bn_synchronized: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        data_format = data_format or keras.config.image_data_format()
        check_choice("data_format", data_format, ("channels_last", "channels_first"))
        check_rate("bn_momentum", bn_momentum)
        check_positive("bn_epsilon", bn_epsilon)
        check_flag("bn_synchronized", bn_synchronized)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.kernel_initializer = (
            he_fan_out()
            if kernel_initializer is None
            else keras.initializers.get(kernel_initializer)
        )
        self.bn_momentum = bn_momentum
        self.bn_epsilon = bn_epsilon
        self.bn_synchronized = bn_synchronized
        self.data_format = data_format

    @property
    def channel_axis(self) -> int:
        """Axis of the channels in a batch of images."""
        return 1 if self.data_format == "channels_first" else 3

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Axes of height and width in a batch of images."""
        return (2, 3) if self.data_format == "channels_first" else (1, 2)

    def sublayer_shapes(self, input_shape: Shape) -> Iterator[tuple[keras.Layer, Shape]]:
        """Each sublayer with the shape of its input, in the order of the computation."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
        for layer, shape in self.sublayer_shapes(input_shape):
            layer.build(shape)
            if not self.trainable:
                # The configuration of a saved layer says so before there are sublayers to tell.
                layer.trainable = False
        self.built = True

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in _argument_names(type(self)):
            value = getattr(self, name)
            if isinstance(value, keras.initializers.Initializer):
                value = keras.initializers.serialize(value)
            elif callable(value):
                value = keras.activations.serialize(value)
            config[name] = value
        return config

    def _convolution(
        self,
        name: str,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        use_bias: bool = False,
    ) -> Convolution:
        return Convolution(
            filters,
            kernel_size,
            strides=strides,
            groups=groups,
            dilation_rate=dilation,
            use_bias=use_bias,
            # A clone draws numbers of its own; the same object would repeat them in every layer.
            kernel_initializer=self.kernel_initializer.clone(),
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name=name,
        )

    def _batch_norm(self, name: str, *, zero_gamma: bool = False) -> BatchNormalization:
        return BatchNormalization(
            axis=self.channel_axis,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            gamma_initializer="zeros" if zero_gamma else "ones",
            synchronized=synchronizes(self.bn_synchronized),
            dtype=self.dtype_policy,
            name=name,
        )


def synchronizes(bn_synchronized: bool) -> bool:
    """The argument `synchronized` of Keras' batch norm.

    JAX compiles one program for the batch of all devices, so that its statistics are synchronised
    in any case; Keras refuses the argument there.
    """
    return bn_synchronized and keras.config.backend() != "jax"


def with_channels(shape: Shape, channels: int, data_format: str) -> Shape:
    """`shape` with another number of channels."""
    if data_format == "channels_first":
        return (shape[0], channels, *shape[2:])
    return (*shape[:-1], channels)


def with_strides(shape: Shape, strides: int, data_format: str) -> Shape:
    """`shape` after a symmetrically padded convolution of odd kernel: sizes divide, rounding up."""
    first = 2 if data_format == "channels_first" else 1
    sizes = [None if size is None else -(-size // strides) for size in shape[first : first + 2]]
    return (*shape[:first], *sizes, *shape[first + 2 :])
