"""What a network does without some of its blocks, and the smaller network that is left."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.counting import count
from keras_resnet.factory import network_parts
from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.model import ResNetModel, stem_and_blocks


@dataclass(frozen=True)
class Score:
    """How well a network does on some images.

    Attributes:
        loss: The mean loss.
        accuracy: Share of the images whose class has the greatest output.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class PruningPoint:
    """A network of the curve that `prune_blocks` returns.

    Attributes:
        blocks: Number of its blocks.
        macs: Multiply-accumulate operations of one image (`keras_resnet.analysis.count`).
        loss: The mean loss.
        accuracy: Share of the images whose class has the greatest output.
        removed: The block that the point before still had; None for the whole network.
    """

    blocks: int
    macs: int
    loss: float
    accuracy: float
    removed: str | None


@dataclass(frozen=True)
class Pruning:
    """What `prune_blocks` found.

    Attributes:
        model: The smaller network, a model of its own with a copy of the weights.
        removed: Names of the blocks that it lacks, those that matter least first.
        scores: The score without each removable block alone, by its name.
        curve: From the whole network to the smaller one, block by block.
    """

    model: ResNetModel
    removed: tuple[str, ...]
    scores: dict[str, Score]
    curve: tuple[PruningPoint, ...]


class LesionProbe:
    """Scores a network without some of its blocks, again and again.

    Where a block is left out, its input takes the place of its output. The blocks that can be left
    out are those that change neither the number of channels nor the size. One model is compiled for
    all: each image says which blocks are there.

    Args:
        model: A functional model with blocks of this package, such as `keras_resnet.ResNet` builds;
            plain blocks, which have no shortcut, can be left out as well.
        loss: Name of a Keras loss, or one, of class numbers and outputs. The default is that of a
            softmax; for logits `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.

    Attributes:
        blocks: Names of the blocks that can be left out, in the order of the network.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is not one stem of this package, followed by blocks.

    Example:

    ```python
    probe = keras_resnet.analysis.LesionProbe(model)
    whole = probe(images, labels)
    without = probe(images, labels, without=["stage2_block3"])
    print(whole.accuracy - without.accuracy)
    ```

    Reference:
        - [Veit et al., 2016](https://arxiv.org/abs/1605.06431), section 4.1
    """

    def __init__(self, model: keras.Model, loss: Any = "sparse_categorical_crossentropy") -> None:
        _, blocks = stem_and_blocks(model)
        self.blocks = tuple(block.name for block in blocks if _removable(block))
        self._loss = keras.losses.get(loss)
        self._gated = self._with_gates(model)

    def _with_gates(self, model: keras.Model) -> keras.Model:
        """The model with a second input, a number for each block that can be left out."""
        images = keras.Input(model.input_shape[1:], dtype=model.input.dtype)
        gates = keras.Input((len(self.blocks),), dtype="bool")

        def gated(operation: Any) -> Any:
            if operation.name not in self.blocks or not isinstance(operation, ResidualUnit):
                return operation
            number = self.blocks.index(operation.name)

            def through_gate(x: Any, **kwargs: Any) -> Any:
                there = ops.reshape(gates[:, number], (-1, 1, 1, 1))
                return ops.where(there, operation(x, **kwargs), x)

            return through_gate

        # Keras has no public walk over a graph with an operation of one's own in place of a layer's.
        outputs = model._run_through_graph(images, operation_fn=gated)
        return keras.Model([images, gates], outputs)

    def __call__(
        self, images: Any, labels: Any, without: Collection[str] = (), batch_size: int = 128
    ) -> Score:
        """Scores the network.

        Args:
            images: `(images, height, width, channels)` as the network wants them.
            labels: Class numbers, `(images,)`.
            without: Names of the blocks to leave out.
            batch_size: Images that go through the network at once.

        Raises:
            ValueError: If a block cannot be left out.
        """
        for name in without:
            if name not in self.blocks:
                raise ValueError(
                    f"`without` must be of {', '.join(self.blocks)}: other blocks change the number "
                    f"of channels or the size. Received: {name!r}"
                )
        labels = np.asarray(labels)
        gates = np.tile([name not in without for name in self.blocks], (len(labels), 1))
        outputs = self._gated.predict([images, gates], batch_size=batch_size, verbose=0)
        loss = float(ops.mean(self._loss(labels, outputs)))
        return Score(loss, float(np.mean(outputs.argmax(axis=-1) == labels)))


def prune_blocks(
    model: ResNetModel,
    keep: float,
    images: Any,
    labels: Any,
    loss: Any = "sparse_categorical_crossentropy",
    *,
    batch_size: int = 128,
) -> Pruning:
    """Removes the blocks that matter least, and returns the network that is left.

    The blocks are ranked once, by the loss without each of them alone. Residual networks can be
    pruned so without any training, because their paths depend little on each other; a training
    afterwards wins back most of what was lost.

    Args:
        model: A network of `keras_resnet.ResNet` with its classifier; it is not changed.
        keep: Number of blocks to keep, or their share as a float up to 1.0.
        images: That the blocks are ranked by, as the network wants them; best none that it is
            judged by afterwards.
        labels: Class numbers, `(images,)`.
        loss: See `LesionProbe`.
        batch_size: Images that go through the network at once.

    Returns:
        A `Pruning`. Its model is an ordinary one of `keras_resnet`: its blocks are numbered anew
        within each stage, and its configuration has their number in `depths`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is no network with configuration and classifier, or `keep` is more than
            all blocks or less than those that have to stay: one of each stage, and those that
            change the number of channels or the size.

    Example:

    ```python
    pruning = keras_resnet.analysis.prune_blocks(model, 0.8, images, labels)
    for point in pruning.curve:
        print(point.blocks, point.macs, point.accuracy)
    pruning.model.save("smaller.keras")
    ```

    Reference:
        - [Veit et al., 2016](https://arxiv.org/abs/1605.06431), section 4
    """
    _, blocks = stem_and_blocks(model)
    if getattr(model, "config", None) is None or model.layers[-1].name != "classifier":
        raise ValueError(
            "`model` must be a network of `keras_resnet.ResNet` with its classifier. Received: "
            f"model {model.name!r}, whose last layer is {model.layers[-1].name!r}"
        )
    probe = LesionProbe(model, loss)
    number = _number(keep, blocks, probe.blocks)
    whole = probe(images, labels, batch_size=batch_size)
    scores = {name: probe(images, labels, [name], batch_size) for name in probe.blocks}
    ranked = sorted(probe.blocks, key=lambda name: scores[name].loss)
    removed = _least_needed(ranked, model.config.depths, len(blocks) - number)
    shape = model.input_shape[1:]
    curve = [PruningPoint(len(blocks), _macs(model, (), shape), whole.loss, whole.accuracy, None)]
    for last in range(1, len(removed) + 1):
        score = probe(images, labels, removed[:last], batch_size)
        macs = _macs(model, removed[:last], shape)
        left = len(blocks) - last
        curve.append(PruningPoint(left, macs, score.loss, score.accuracy, removed[last - 1]))
    return Pruning(without_blocks(model, removed), removed, scores, tuple(curve))


def without_blocks(model: ResNetModel, names: Collection[str]) -> ResNetModel:
    """Returns a copy of a network that lacks some of its blocks.

    Args:
        model: A network of `keras_resnet.ResNet` with its classifier.
        names: Of blocks that change neither the number of channels nor the size; one block of each
            stage has to stay.

    Raises:
        ValueError: If no block of a stage is left.
    """
    _, blocks = stem_and_blocks(model)
    config = _without(model, names)
    classifier = model.layers[-1]
    kept = iter(block for block in blocks if block.name not in names)
    inputs = x = keras.Input(model.input_shape[1:], dtype=model.input.dtype)
    sources: list[tuple[keras.Layer, keras.Layer]] = []
    for part in network_parts(
        config,
        classes=classifier.units,
        classifier_activation=classifier.activation,
        dtype=model.get_layer("stem").dtype_policy,
    ):
        arguments, source = part.arguments, None
        if issubclass(part.kind, ResidualUnit):
            source = next(kept)
            # It follows from the place in the network, which is another now.
            arguments = {**arguments, "drop_path_rate": source.drop_path_rate, "seed": source.seed}
        layer = dataclasses.replace(part, arguments=arguments).layer()
        x = layer(x)
        sources.append((layer, source or model.get_layer(part.name)))
    smaller = ResNetModel(inputs, x, name=model.name, config=config)
    for layer, source in sources:
        layer.set_weights(source.get_weights())
    return smaller


def _without(model: ResNetModel, names: Collection[str]) -> Any:
    """The configuration without these blocks."""
    depths = list(model.config.depths)
    for name in names:
        depths[_stage(name) - 1] -= 1
    return dataclasses.replace(model.config, depths=tuple(depths))


def _macs(model: ResNetModel, names: Collection[str], shape: Any) -> int:
    return count(_without(model, names), shape, classes=model.layers[-1].units).macs


def _removable(block: ResidualUnit) -> bool:
    """Whether its input can take the place of its output."""
    kind = block.get_config()["shortcut"]
    unchanged = tuple(block.input.shape) == tuple(block.output.shape)
    return unchanged and block.strides == 1 and kind in ("identity", None)


def _stage(name: str) -> int:
    """1 of `"stage1_block2"`."""
    return int(name.removeprefix("stage").partition("_")[0])


def _least_needed(ranked: list[str], depths: tuple[int, ...], number: int) -> tuple[str, ...]:
    """The first so many of the ranked blocks that leave each stage a block."""
    left = dict(enumerate(depths, start=1))
    removed: list[str] = []
    for name in ranked:
        if len(removed) < number and left[_stage(name)] > 1:
            removed.append(name)
            left[_stage(name)] -= 1
    return tuple(removed)


def _number(keep: float, blocks: list[ResidualUnit], removable: Collection[str]) -> int:
    """How many blocks to keep."""
    stages = {_stage(block.name) for block in blocks}
    firm = [_stage(block.name) for block in blocks if block.name not in removable]
    # A stage of removable blocks alone keeps one of them.
    least = len(firm) + len(stages - set(firm))
    allowed = isinstance(keep, (int, float)) and not isinstance(keep, bool)
    number = round(keep * len(blocks)) if isinstance(keep, float) else keep
    if not allowed or not least <= number <= len(blocks):
        raise ValueError(
            f"`keep` must be from {least} to {len(blocks)} blocks, or a float for their share: one "
            "block of each stage has to stay, and so do those that change the number of channels "
            f"or the size. Received: keep={keep!r}"
        )
    return number
