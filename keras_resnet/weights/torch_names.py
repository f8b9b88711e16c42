"""The names that timm and torchvision give to the tensors of a network of this package.

They follow from the layers of the model, so that every network of the family has them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.layers.stem import Stem


@dataclass(frozen=True)
class Dialect:
    """How one family of torch models names its modules, where the families differ."""

    stem: str
    block: str
    norm: str
    squeeze_excite: str
    head_norm: str
    classifier: str


# timm's resnet.py (and torchvision), its resnetv2.py, and its older SE networks.
RESNET = Dialect("", "layer{stage}.{block}", "bn", "se", "", "fc")
RESNETV2 = Dialect("stem.", "stages.{stage}.blocks.{block}", "norm", "se", "norm", "head.fc")
LEGACY_SENET = Dialect("layer0.", "layer{stage}.{block}", "bn", "se_module", "", "last_linear")


def dialect_of(model: keras.Model) -> Dialect:
    """The dialect that names the layers of a model."""
    for layer in model.layers:
        if isinstance(layer, ResidualUnit) and layer.order == "full_preactivation":
            return RESNETV2
        # Nothing but the older SE networks has this pool.
        if isinstance(layer, Stem) and layer.pool == "max_ceil":
            return LEGACY_SENET
    return RESNET


def torch_modules(model: keras.Model) -> Iterator[tuple[str, keras.Layer]]:
    """Each layer of the model that has weights, with the name of its torch module."""
    dialect = dialect_of(model)
    for layer in model.layers:
        if isinstance(layer, Stem):
            yield from _stem(layer, dialect)
        elif isinstance(layer, ResidualUnit):
            yield from _block(layer, dialect)
        elif layer.name == "head_bn":
            yield dialect.head_norm, layer
        elif layer.name == "classifier":
            yield dialect.classifier, layer
        elif layer.weights:
            raise ValueError(
                "`model` must be a model that `keras_resnet.ResNet` built, whose layers have "
                f"names in torch. Received a model with the layer {layer.name!r}"
            )


def _stem(stem: Stem, dialect: Dialect) -> Iterator[tuple[str, keras.Layer]]:
    sublayers = list(numbered_sublayers(stem))
    deep = stem.kind.startswith("deep")
    for number, convolution, batch_norm in sublayers:
        if stem.pool == "conv" and number == len(sublayers):
            conv, norm = "maxpool.0", "maxpool.1"
        elif not deep:
            conv, norm = "conv" if dialect is RESNETV2 else "conv1", "bn1"
        elif dialect is RESNETV2:
            conv, norm = f"conv{number}", f"norm{number}"
        else:  # A sequence of convolution, norm and ReLU, whose last norm stands beside it.
            conv, norm = f"conv1.{3 * number - 3}", f"conv1.{3 * number - 2}"
            norm = "bn1" if number == 3 else norm
        yield dialect.stem + conv, convolution
        if batch_norm is not None:
            yield dialect.stem + norm, batch_norm


def _block(block: ResidualUnit, dialect: Dialect) -> Iterator[tuple[str, keras.Layer]]:
    stage, number = block_position(block)
    stage -= dialect is RESNETV2
    prefix = dialect.block.format(stage=stage, block=number - 1)
    for index, convolution, batch_norm in numbered_sublayers(block):
        yield f"{prefix}.conv{index}", convolution
        yield f"{prefix}.{dialect.norm}{index}", batch_norm
    if block.se is not None:
        yield f"{prefix}.{dialect.squeeze_excite}.fc1", block.se.reduce
        yield f"{prefix}.{dialect.squeeze_excite}.fc2", block.se.expand
    shortcut = block.shortcut
    if shortcut is None or shortcut.conv is None:
        return
    if dialect is RESNETV2:
        conv, norm = "conv", "norm"
    else:  # The mean before the convolution is a module too.
        conv, norm = ("1", "2") if shortcut.kind == "avg_pool" else ("0", "1")
    yield f"{prefix}.downsample.{conv}", shortcut.conv
    if shortcut.bn is not None:
        yield f"{prefix}.downsample.{norm}", shortcut.bn


def block_position(block: ResidualUnit) -> tuple[int, int]:
    """Number of the stage of a block and its own number in there, both from 1."""
    position = re.fullmatch(r"stage(\d+)_block(\d+)", block.name)
    if position is None:
        raise ValueError(
            "`model` must have blocks that are named stage1_block1, stage1_block2, ... "
            f"Received a model with the block {block.name!r}"
        )
    return int(position[1]), int(position[2])


def numbered_sublayers(
    layer: Stem | ResidualUnit,
) -> Iterator[tuple[int, keras.Layer, keras.Layer | None]]:
    """The number, the convolution and the norm of conv1 and bn1, conv2 and bn2, ..."""
    number = 1
    while hasattr(layer, f"conv{number}"):
        yield number, getattr(layer, f"conv{number}"), getattr(layer, f"bn{number}")
        number += 1
