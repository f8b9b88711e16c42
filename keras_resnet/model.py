"""The model that the factory returns, and its features."""

import math
from typing import Any

import keras

from keras_resnet.config import ResNetConfig
from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.layers.stem import Stem


@keras.saving.register_keras_serializable(package="keras_resnet")
class ResNetModel(keras.Model):
    """A functional Keras model that knows the configuration that it was built from.

    `keras_resnet.ResNet` makes it. It can be trained, saved and taken apart like any functional
    model, and a `.keras` file keeps the configuration.

    Attributes:
        config: The `keras_resnet.ResNetConfig`; None for a model that was made of this one, such
            as by `keras.models.clone_model`.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        config: ResNetConfig | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        fields = None if self.config is None else self.config.to_dict()
        return {**super().get_config(), "resnet_config": fields}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ResNetModel":
        graph = {key: value for key, value in config.items() if key != "resnet_config"}
        model = super().from_config(graph, custom_objects=custom_objects)
        fields = config.get("resnet_config")
        model.config = None if fields is None else ResNetConfig(**fields)
        return model


def features(model: keras.Model) -> dict[str, Any]:
    """The outputs of the stages of a network, for detection, segmentation and the like.

    `"C{k}"` is the last output at a stride of 2^k relative to the image: `"C2"` to `"C5"` in the
    networks for ImageNet, `"C0"` to `"C2"` in those for CIFAR. Where a dilation has taken the
    place of a stride, the stages keep the names that they would have without. Features of
    pre-activation networks are not normalised yet: `head_bn` comes after the last of them.

    Args:
        model: A model of `keras_resnet.ResNet`, with or without its classifier.

    Returns:
        Keras tensors by name, from the largest image to the smallest.

    Raises:
        ValueError: If the model has not one stem of this package, followed by blocks.

    Example:

    ```python
    model = keras_resnet.ResNet50(include_top=False)
    pyramid = keras.Model(model.inputs, keras_resnet.features(model))
    pyramid(images)["C3"]  # (N, H / 8, W / 8, 512)
    ```
    """
    stem, blocks = stem_and_blocks(model)
    strides = stem.strides
    outputs = {}
    for block in blocks:
        strides *= block.strides
        outputs[f"C{round(math.log2(strides * block.dilation))}"] = block.output
    return outputs


def stem_and_blocks(model: keras.Model) -> tuple[Stem, list[ResidualUnit]]:
    """The stem and the blocks of a network, in order.

    Raises:
        TypeError: If it is no model.
        ValueError: If it has not one stem of this package, followed by blocks.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a network of keras_resnet, such as `keras_resnet.ResNet50(...)`. "
            f"Received: model={model!r}"
        )
    stems = [layer for layer in model.layers if isinstance(layer, Stem)]
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualUnit)]
    if len(stems) != 1 or not blocks:
        raise ValueError(
            "`model` must be a network of keras_resnet, one stem followed by blocks. "
            f"Received: model {model.name!r} with {len(stems)} stems and {len(blocks)} blocks"
        )
    return stems[0], blocks


def head_dtype(policy: keras.DTypePolicy) -> keras.DTypePolicy | str:
    """The dtype of the classifier in a network of this policy.

    A softmax in half precision loses small probabilities, and sums over classes suffer.
    """
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy
