"""From a configuration to a Keras model."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_resnet._validation import check_choice, check_flag, check_integer
from keras_resnet.config import ResNetConfig
from keras_resnet.layers._composite import synchronizes
from keras_resnet.layers._normalization import BatchNormalization
from keras_resnet.layers.bottleneck_block import BottleneckBlock
from keras_resnet.layers.dropout import Dropout
from keras_resnet.layers.residual_block import ResidualBlock
from keras_resnet.layers.stem import Stem, stem_strides
from keras_resnet.layers.stochastic_depth import SCHEDULES
from keras_resnet.model import ResNetModel, head_dtype
from keras_resnet.weights.pretrained import load_pretrained


def ResNet(
    config: ResNetConfig,
    *,
    include_top: bool = True,
    weights: Any = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    dtype: Any = None,
    seed: int | None = None,
) -> ResNetModel:
    """Builds a residual network as a functional Keras model.

    The arguments have the names and the meaning that they have in `keras.applications`.

    The layers are named from 1: `stem`, `stage{s}_block{b}`, then `head_bn` and `head_activation`
    in pre-activation networks, `pool`, `dropout` and `classifier`. Within the stem and the blocks
    there are `conv1`, `bn1`, `conv2`, ...; within a block also `se/reduce`, `se/expand`,
    `shortcut/conv` and `shortcut/bn`. So the path of a variable reads
    `stage3_block2/conv1/kernel`. The weights format of this package is keyed by these paths.

    Args:
        config: Description of the network.
        include_top: Whether the classifier is part of the model.
        weights: None for a random start; `"imagenet"` for the best trained weights of the network
            whose licence allows any use; one of `keras_resnet.list_weights()`, such as
            `"timm/resnet50.a1_in1k"`; or the path of a file (`keras_resnet.weights.load`). They are
            downloaded once. With another number of `classes` the classifier starts at random.
        input_tensor: Keras tensor to build the model on, in place of a new input.
        input_shape: Shape of an image, such as `(224, 224, 3)` in the default data format. Height
            and width may be None. By default an RGB image of `config.image_size`, or with
            `include_top=False` of any size.
        pooling: With `include_top=False`, `"avg"` or `"max"` for a vector of features, None for
            the features of the last stage as they are.
        classes: Number of classes; by default `config.default_classes`.
        classifier_activation: Activation of the classifier; None for logits.
        name: Name of the model.
        dtype: Dtype or policy of the layers; by default Keras' setting. Under mixed precision the
            classifier works in float32 in any case.
        seed: Integer to start dropout and stochastic depth from; random by default.

    Returns:
        A functional `keras.Model`, whose attribute `config` is the configuration, also after it
        was saved and loaded. Its inputs are images as the weights want them: the network does no
        preprocessing.

    Raises:
        ValueError: If an argument is out of range, the images are smaller than the strides of the
            network, or the weights are of another network.
        DownloadError: If the weights are neither in the cache nor to be had.

    Example:

    ```python
    config = keras_resnet.SPECS["resnet50"]
    model = keras_resnet.ResNet(config, input_shape=(160, 160, 3), classes=10)
    ```
    """
    if not isinstance(config, ResNetConfig):
        raise TypeError(f"`config` must be a ResNetConfig. Received: config={config!r}")
    check_flag("include_top", include_top)
    check_choice("pooling", pooling, ("avg", "max", None))
    classes = config.default_classes if classes is None else classes
    check_integer("classes", classes)

    inputs = images = _input(config, include_top, input_tensor, input_shape)
    if input_tensor is not None:
        inputs = keras.utils.get_source_inputs(input_tensor)
    x = images
    for part in network_parts(
        config,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        dtype=dtype,
        seed=seed,
    ):
        x = part.layer()(x)
    model = ResNetModel(inputs, x, name=name or "resnet", config=config)
    if weights is not None:
        load_pretrained(model, weights)
    return model


@dataclass(frozen=True)
class Part:
    """A layer of the network before it is made."""

    kind: type[keras.Layer]
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def layer(self) -> keras.Layer:
        return self.kind(**self.arguments, name=self.name)


def network_parts(
    config: ResNetConfig,
    *,
    include_top: bool = True,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    dtype: Any = None,
    seed: int | None = None,
) -> Iterator[Part]:
    """The layers of the network in the order of the computation, each fed by the one before."""
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    data_format = _data_format(config)
    batch_norm = {
        "axis": 1 if data_format == "channels_first" else 3,
        "momentum": config.bn_momentum,
        "epsilon": config.bn_epsilon,
        "synchronized": synchronizes(config.bn_synchronized),
    }
    common = {
        "order": config.order,
        "activation": config.activation,
        "conv_bias": config.conv_bias,
        "kernel_initializer": config.kernel_initializer,
        "bn_momentum": config.bn_momentum,
        "bn_epsilon": config.bn_epsilon,
        "bn_synchronized": config.bn_synchronized,
        "data_format": data_format,
        "dtype": policy,
    }
    stem = {"filters": config.stem_width, "kind": config.stem, "pool": config.stem_pool}
    yield Part(Stem, "stem", {**stem, **common})
    yield from _blocks(config, common, seed)

    if config.order == "full_preactivation":
        yield Part(BatchNormalization, "head_bn", {**batch_norm, "dtype": policy})
    if config.order in ("full_preactivation", "relu_only_preactivation"):
        activation = {"activation": config.activation, "dtype": policy}
        yield Part(keras.layers.Activation, "head_activation", activation)

    if include_top or pooling:
        pools = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
        pool = pools["avg" if include_top else pooling]
        yield Part(pool, "pool", {"data_format": data_format, "dtype": policy})
    if include_top:
        dtype = head_dtype(policy)
        if config.dropout_rate:
            dropout = {"rate": config.dropout_rate, "seed": seed, "dtype": dtype}
            yield Part(Dropout, "dropout", dropout)
        classifier = {"units": classes, "activation": classifier_activation, "dtype": dtype}
        yield Part(keras.layers.Dense, "classifier", classifier)


def _blocks(config: ResNetConfig, common: dict[str, Any], seed: int | None) -> Iterator[Part]:
    arguments = {
        **common,
        "se_ratio": config.se_ratio,
        "se_divisor": config.se_divisor,
        "se_after_activation": config.se_after_activation,
        "dropout_rate": config.block_dropout_rate,
        "drop_path_mode": config.drop_path_mode,
        "zero_init_residual": config.zero_init_residual,
    }
    if config.block == "bottleneck":
        arguments |= {
            "groups": config.groups,
            "base_width": config.base_width,
            "stride_on": config.stride_on,
        }
    kind = BottleneckBlock if config.block == "bottleneck" else ResidualBlock
    drop_rates = SCHEDULES[config.drop_path_schedule](config.drop_path_rate, config.depths)

    channels = config.stem_width
    total_stride = stem_strides(config.stem, config.stem_pool)
    dilation = 1
    for stage, depth in enumerate(config.depths):
        first_dilation = dilation
        strided_block = _strided_block(config, stage)
        dilated = strided_block is not None and total_stride == config.output_stride
        if dilated:
            # What the stride would have skipped, the dilation of the later convolutions skips.
            dilation *= 2
        for block in range(depth):
            strides = 2 if block == strided_block and not dilated else 1
            total_stride *= strides
            shortcut = _shortcut(
                config, channels, config.out_channels[stage], strided=block == strided_block
            )
            yield Part(
                kind,
                f"stage{stage + 1}_block{block + 1}",
                {
                    **arguments,
                    "filters": config.widths[stage],
                    "strides": strides,
                    "shortcut": shortcut,
                    "dilation": dilation,
                    # The first block still reads what the stage before has laid out.
                    "first_dilation": first_dilation if block == 0 else dilation,
                    "drop_path_rate": drop_rates[stage][block],
                    "seed": None if seed is None else seed + 1 + sum(config.depths[:stage]) + block,
                },
            )
            channels = config.out_channels[stage]


def _strided_block(config: ResNetConfig, stage: int) -> int | None:
    """Index of the block of a stage that has a stride."""
    if config.stride_in == "first":
        return 0 if stage > 0 else None
    return config.depths[stage] - 1 if stage < len(config.depths) - 1 else None


def _shortcut(
    config: ResNetConfig, in_channels: int, out_channels: int, *, strided: bool
) -> str | None:
    """Kind of the shortcut of a block, by the option of the network.

    A block that has given its stride away for a dilation still counts as strided, so that the
    weights of a network do not depend on its output stride.
    """
    if config.shortcut is None:
        return None
    if config.shortcut == "C":
        return "projection"
    # In stride_in="last" only the first block of a stage projects; the last one subsamples.
    changes = in_channels != out_channels or (strided and config.stride_in == "first")
    if not changes:
        return "identity"
    return {"A": "zero_pad", "B": "projection", "D": "avg_pool"}[config.shortcut]


def _input(config: ResNetConfig, include_top: bool, input_tensor: Any, input_shape: Any) -> Any:
    """The tensor of the images: `input_tensor`, or a new input."""
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a Keras tensor, such as `keras.Input` returns. "
                f"Received: input_tensor={input_tensor!r}"
            )
        image_shape(config, input_tensor.shape[1:])
        return input_tensor
    # Without the classifier, the size need not be the one that the network was trained at.
    size = config.image_size if include_top else None
    return keras.Input(image_shape(config, input_shape, size))


def image_shape(
    config: ResNetConfig, input_shape: Any, size: int | None = None
) -> tuple[int | None, ...]:
    """`input_shape`, if such images can go through the network; by default RGB of that size."""
    channels_first = _data_format(config) == "channels_first"
    if input_shape is None:
        return (3, size, size) if channels_first else (size, size, 3)
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(
            "`input_shape` must have three entries, height, width and channels in the order of "
            f"the data format. Received: input_shape={shape}"
        )
    channels, *sizes = shape if channels_first else (shape[2], *shape[:2])
    if any(size is not None and size < config.total_stride for size in sizes):
        raise ValueError(
            "`input_shape` must have a height and a width of at least "
            f"{config.total_stride} pixels, the stride of the network. "
            f"Received: input_shape={shape}"
        )
    if channels is None:
        raise ValueError(
            f"`input_shape` must state the number of channels. Received: input_shape={shape}"
        )
    return shape


def _data_format(config: ResNetConfig) -> str:
    return config.data_format or keras.config.image_data_format()


def resnet_arguments() -> tuple[str, ...]:
    """Names of the arguments of `ResNet` that are not the configuration."""
    return tuple(name for name in inspect.signature(ResNet).parameters if name != "config")
