"""The names that keras.applications and tf.keras' ResNet-RS give to the layers of their networks."""

import re
from collections.abc import Collection, Iterator

import keras

from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.layers.stem import Stem
from keras_resnet.weights.torch_names import block_position, numbered_sublayers

# The last one is that of the files; keras.applications has renamed the layer since.
CLASSIFIERS = ("predictions", "probs")


def keras_layers(
    model: keras.Model, layer_names: Collection[str]
) -> Iterator[tuple[str, keras.Layer]]:
    """Each layer of the model that has weights, with its name in a file of these layers."""
    resnet_rs = any(layer.startswith("BlockGroup") for layer in layer_names)
    for layer in model.layers:
        if isinstance(layer, Stem):
            yield from _resnet_rs_stem(layer, layer_names) if resnet_rs else _stem(layer)
        elif isinstance(layer, ResidualUnit):
            yield from _resnet_rs_block(layer) if resnet_rs else _block(layer)
        elif layer.name == "head_bn":
            yield "post_bn", layer
        elif layer.name == "classifier":
            yield classifier(layer_names), layer


def classifier(layer_names: Collection[str]) -> str:
    """The name of the classifier in a file of these layers."""
    return next((name for name in CLASSIFIERS if name in layer_names), CLASSIFIERS[0])


def _stem(stem: Stem) -> Iterator[tuple[str, keras.Layer]]:
    for _, conv, norm in numbered_sublayers(stem):
        yield "conv1_conv", conv
        if norm is not None:
            yield "conv1_bn", norm


def _block(block: ResidualUnit) -> Iterator[tuple[str, keras.Layer]]:
    stage, number = block_position(block)
    prefix = f"conv{stage + 1}_block{number}"
    preactivation = block.order == "full_preactivation"
    for index, conv, norm in numbered_sublayers(block):
        yield f"{prefix}_{index}_conv", conv
        if preactivation:
            # A norm precedes its convolution, and is named after the one before.
            place = "preact" if index == 1 else str(index - 1)
            yield f"{prefix}_{place}_bn", norm
        else:
            yield f"{prefix}_{index}_bn", norm
    if block.shortcut is not None and block.shortcut.conv is not None:
        yield f"{prefix}_0_conv", block.shortcut.conv
        if block.shortcut.bn is not None:
            yield f"{prefix}_0_bn", block.shortcut.bn


def _resnet_rs_stem(stem: Stem, layer_names: Collection[str]) -> Iterator[tuple[str, keras.Layer]]:
    # The prefix counts the networks that the process had made before.
    matches = (re.fullmatch(r"(.*)_stem_conv_1", name) for name in layer_names)
    prefix = next((match[1] for match in matches if match), "stem_1")
    for index, conv, norm in numbered_sublayers(stem):
        yield f"{prefix}_stem_conv_{index}", conv
        yield f"{prefix}_stem_batch_norm_{index}", norm


def _resnet_rs_block(block: ResidualUnit) -> Iterator[tuple[str, keras.Layer]]:
    stage, number = block_position(block)
    prefix = f"BlockGroup{stage + 1}__block_{number - 1}_"
    for index, conv, norm in numbered_sublayers(block):
        yield f"{prefix}_conv_{index}", conv
        # The first one lacks an underscore there.
        yield f"{prefix}{'' if index == 1 else '_'}batch_norm_{index}", norm
    if block.se is not None:
        yield f"{prefix}_se_se_reduce", block.se.reduce
        yield f"{prefix}_se_se_expand", block.se.expand
    if block.shortcut is not None and block.shortcut.conv is not None:
        yield f"{prefix}_projection_conv", block.shortcut.conv
        yield f"{prefix}_projection_batch_norm", block.shortcut.bn
