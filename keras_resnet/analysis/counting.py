"""Parameters and multiply-accumulate operations, without running or allocating anything."""

import math
from dataclasses import dataclass
from typing import Any

import keras

from keras_resnet._validation import check_integer
from keras_resnet.config import ResNetConfig
from keras_resnet.factory import Part, image_shape, network_parts
from keras_resnet.layers._composite import CompositeLayer, Shape

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclass(frozen=True)
class Count:
    """Size and cost of a layer or a network.

    Attributes:
        trainable: Number of scalars in trainable variables.
        non_trainable: Number of scalars in the moving statistics of batch norm.
        macs: Multiply-accumulate operations of one image in convolutions and dense layers. Biases,
            batch norm, activations and pooling count nothing. Papers before ResNet-RS call this
            FLOPs.
    """

    trainable: int = 0
    non_trainable: int = 0
    macs: int = 0

    @property
    def parameters(self) -> int:
        """All scalars: what `count_params()` of a Keras model says."""
        return self.trainable + self.non_trainable

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.trainable + other.trainable,
            self.non_trainable + other.non_trainable,
            self.macs + other.macs,
        )


def count(
    model: keras.Model | ResNetConfig,
    input_shape: tuple[int, int, int] | None = None,
    *,
    classes: int | None = None,
    include_top: bool = True,
) -> Count:
    """Counts the parameters and the multiply-accumulate operations of a network.

    Args:
        model: A functional Keras model of convolutions, batch norm, dense layers, the layers of
            this package and layers without matrices; or a `ResNetConfig`, for which no model is
            built, so that a thousand layers take no time either.
        input_shape: Shape of one image. By default that of the model's input, or for a
            configuration an RGB image of `image_size`.
        classes: For a configuration: number of classes.
        include_top: For a configuration: whether the classifier counts.

    Returns:
        A `Count`.

    Raises:
        ValueError: If a size of the image is not known, or the model has a layer with a matrix
            whose multiplications this function does not know.

    Example:

    ```python
    count(keras_resnet.SPECS["resnet50"])
    # Count(trainable=25557032, non_trainable=53120, macs=4089184256)
    ```
    """
    if isinstance(model, ResNetConfig):
        return _count_config(model, input_shape, classes, include_top)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model or a ResNetConfig. Received: model={model!r}"
        )
    shape = tuple(model.input_shape[1:] if input_shape is None else input_shape)
    _check_sizes(shape)
    return _count_layer(model, (1, *shape))


def _count_config(
    config: ResNetConfig, input_shape: Any, classes: int | None, include_top: bool
) -> Count:
    shape = image_shape(config, input_shape, config.image_size)
    _check_sizes(shape)
    classes = config.default_classes if classes is None else classes
    shape, total = (1, *shape), Count()
    # Most blocks of a stage are alike: each kind is made and counted once.
    known: dict[Any, tuple[Count, Shape]] = {}
    for part in network_parts(config, include_top=include_top, classes=classes):
        key = (_costs(part), shape)
        if key not in known:
            layer = part.layer()
            known[key] = _count_layer(layer, shape), layer.compute_output_shape(shape)
        added, shape = known[key]
        total += added
    return total


def _costs(part: Part) -> Any:
    """What the cost of a part depends on."""
    costless = ("dtype", "seed", "drop_path_rate", "drop_path_mode")
    arguments = tuple((key, value) for key, value in part.arguments.items() if key not in costless)
    return part.kind, arguments


def _check_sizes(shape: Shape) -> None:
    for size in shape:
        if size is None:
            raise ValueError(
                "`input_shape` must be given where the input of the model is of any size. "
                f"Received: input_shape={shape}"
            )
        check_integer("input_shape", size)


def _count_layer(layer: keras.Layer, input_shape: Shape) -> Count:
    if isinstance(layer, CompositeLayer):
        counts = (_count_layer(part, shape) for part, shape in layer.sublayer_shapes(input_shape))
        return sum(counts, Count())
    if isinstance(layer, keras.Model):
        return _count_graph(layer, input_shape)
    if isinstance(layer, _CONVOLUTIONS):
        return _count_convolution(layer, input_shape)
    if isinstance(layer, keras.layers.Dense):
        matrix = input_shape[-1] * layer.units
        rows = math.prod(input_shape[1:-1])
        return Count(matrix + layer.use_bias * layer.units, 0, rows * matrix)
    if isinstance(layer, keras.layers.BatchNormalization):
        channels = input_shape[layer.axis]
        return Count((layer.scale + layer.center) * channels, 2 * channels)
    return _count_other(layer)


def _count_convolution(layer: keras.Layer, input_shape: Shape) -> Count:
    channels_last = layer.data_format == "channels_last"
    channels = input_shape[-1 if channels_last else 1]
    kernel = math.prod(layer.kernel_size) * (channels // layer.groups) * layer.filters
    output_shape = layer.compute_output_shape(input_shape)
    positions = math.prod(output_shape[1:-1] if channels_last else output_shape[2:])
    return Count(kernel + layer.use_bias * layer.filters, 0, positions * kernel)


def _count_other(layer: keras.Layer) -> Count:
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            "`model` must be made of convolutions, batch norm, dense layers, the layers of "
            "keras_resnet and layers without matrices. "
            f"Received: a {type(layer).__name__} named {layer.name!r}"
        )
    trainable = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
    everything = sum(math.prod(weight.shape) for weight in layer.weights)
    return Count(trainable, everything - trainable)


def _count_graph(model: keras.Model, input_shape: Shape) -> Count:
    if isinstance(model, keras.Sequential):
        total = Count()
        for layer in model.layers:
            total += _count_layer(layer, input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        return total
    counts: dict[int, Count] = {}

    def counted(operation: Any) -> Any:
        def output_spec(*args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.Layer):
                shape = getattr(args[0], "shape", None)
                added = _count_layer(operation, shape)
                # A layer that is called again computes again but has its parameters once.
                seen = counts.get(id(operation))
                counts[id(operation)] = added if seen is None else Count(macs=added.macs) + seen
            return operation.compute_output_spec(*args, **kwargs)

        return output_spec

    if not hasattr(model, "_run_through_graph"):
        raise ValueError(
            "`model` must be a functional or sequential model, whose graph is known. "
            f"Received: a {type(model).__name__} named {model.name!r}"
        )
    # Keras has no public walk over the graph of a model with shapes other than its own.
    model._run_through_graph(keras.KerasTensor(input_shape), operation_fn=counted)
    return sum(counts.values(), Count())
