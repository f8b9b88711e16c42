"""Where the gradient goes: per stage, and in each block through the shortcut or the branch."""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_resnet import _backend
from keras_resnet.layers._unit import ResidualUnit


@dataclass(frozen=True)
class BlockGradient:
    """The gradient of the loss at the input of a block, and the two parts that it is the sum of.

    A block computes `x' = A(S(x) + F(x))` of its input `x`: `S` is the shortcut, `F` the branch,
    `A` what follows the addition. With `g` the gradient at the sum, the gradient at the input is
    `S'(x)^T g + F'(x)^T g`. Where both paths read the same pre-activation `P(x)`, it belongs to
    both: `S` stands for `S(P(x))` and `F` for `F(P(x))`.

    Attributes:
        name: Name of the block's layer.
        stage: The stage that it is in, such as `"stage2"`.
        norm: Euclidean norm of the gradient at the input, over the whole batch.
        shortcut: Norm of the part that comes through the shortcut; 0 where there is none.
        branch: Norm of the part that comes through the branch.
        cosine: Cosine of the angle between the parts; NaN where one of them is zero.
    """

    name: str
    stage: str
    norm: float
    shortcut: float
    branch: float
    cosine: float

    @property
    def shortcut_share(self) -> float:
        """`shortcut / (shortcut + branch)`: 1 if all comes through the shortcut; NaN for none."""
        total = self.shortcut + self.branch
        return self.shortcut / total if total else math.nan

    @property
    def branch_share(self) -> float:
        """`1 - shortcut_share`."""
        return 1.0 - self.shortcut_share


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` found.

    Attributes:
        loss: The mean loss of the batch, without regularisation.
        variables: Norm of the gradient of each trainable variable, by its path.
        stages: Norm of the gradient of all trainable variables of a stage, in the order of the
            network: `"stem"`, `"stage1"`, ..., `"classifier"`. Layers outside of blocks are stages
            of their own.
        blocks: The residual blocks in the order of the computation.
    """

    loss: float
    variables: dict[str, float]
    stages: dict[str, float]
    blocks: tuple[BlockGradient, ...]


class GradientProbe:
    """Measures the gradient flow of a model again and again.

    A measurement is a forward and a backward pass. It changes nothing: neither moving statistics
    nor the seeds of dropout and stochastic depth go on.

    Args:
        model: See `gradient_flow`.
        loss: See `gradient_flow`.
        training: See `gradient_flow`.
        loss_scale: See `gradient_flow`.

    Raises:
        ValueError: See `gradient_flow`.

    Example:

    ```python
    probe = keras_resnet.analysis.GradientProbe(model)
    before = probe(images, labels)
    model.fit(images, labels)
    after = probe(images, labels)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Any = "sparse_categorical_crossentropy",
        *,
        training: bool = True,
        loss_scale: float = 1.0,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
        if not model.built:
            raise ValueError(
                "`model` must be built: its variables do not exist before it has seen an input. "
                f"Received: a {type(model).__name__} named {model.name!r}"
            )
        self._model = model
        self._loss = loss if callable(loss) else keras.losses.get(loss)
        self._training = training
        self._loss_scale = loss_scale
        self._variables = model.trainable_variables
        self._compiled: Callable[..., Any] | None = None
        self._stages = _stages(model)
        self._blocks = [block for block, _ in _block_inputs(model)]

    def __call__(self, images: Any, targets: Any) -> GradientFlow:
        """Returns the gradient flow of a batch; on JAX the computation is compiled once."""
        if self._compiled is None:
            self._compiled = _backend.compiled(self.measure, self._model.variables)
        return self.result(self._compiled(images, targets))

    def measure(self, images: Any, targets: Any) -> dict[str, Any]:
        """Returns the figures as tensors, for `result`; may be traced, as by `tf.function`.

        Args:
            images: (N, H, W, C) in the default data format; height and width known.
            targets: What the loss takes.
        """
        paths = []
        for block, shape in _block_inputs(self._model, tuple(images.shape[1:])):
            if None in shape:
                raise ValueError(
                    "`images` must have a known height and width. Received: an input of shape "
                    f"{shape} at block {block.name!r}"
                )
            zeros = ops.zeros((ops.shape(images)[0], *shape), dtype=block.compute_dtype)
            paths += [zeros, zeros]
        loss, of_variables, of_paths = _backend.gradients(
            partial(self._scaled_loss, images, targets),
            self._variables,
            paths,
            state=self._model.non_trainable_variables,
        )
        parts = [
            _norms(shortcut, branch)
            for shortcut, branch in zip(of_paths[::2], of_paths[1::2], strict=True)
        ]
        return {
            "loss": loss,
            "variables": [_square(gradient) for gradient in of_variables],
            "blocks": parts,
        }

    def result(self, measured: dict[str, Any]) -> GradientFlow:
        """Returns what the tensors of `measure` say."""
        squares = [float(square) / self._loss_scale**2 for square in measured["variables"]]
        stages: dict[str, float] = {}
        for variable, square in zip(self._variables, squares, strict=True):
            stage = self._stages[id(variable)]
            stages[stage] = stages.get(stage, 0.0) + square
        blocks = []
        for block, figures in zip(self._blocks, measured["blocks"], strict=True):
            total, shortcut, branch, product = (float(figure) for figure in figures)
            lengths = math.sqrt(shortcut) * math.sqrt(branch)
            blocks.append(
                BlockGradient(
                    block.name,
                    _stage(block),
                    *(math.sqrt(square) / self._loss_scale for square in (total, shortcut, branch)),
                    product / lengths if lengths else math.nan,
                )
            )
        return GradientFlow(
            float(measured["loss"]) / self._loss_scale,
            {
                variable.path: math.sqrt(square)
                for variable, square in zip(self._variables, squares, strict=True)
            },
            {stage: math.sqrt(square) for stage, square in stages.items()},
            tuple(blocks),
        )

    def _scaled_loss(self, images: Any, targets: Any, *paths: Any) -> Any:
        outputs = self._outputs(images, iter(paths))
        losses = self._loss(targets, ops.cast(outputs, "float32"))
        return ops.mean(losses) * self._loss_scale

    def _outputs(self, images: Any, paths: Iterator[Any]) -> Any:
        """The outputs of the model, with zeros of its own added to the input of each path."""
        if not _has_graph(self._model):
            return self._model(images, training=self._training)

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, ResidualUnit):
                x = ops.cast(args[0], operation.compute_dtype)
                to_shortcut, to_branch = x + next(paths), x + next(paths)
                return operation.call_paths(to_shortcut, to_branch, training=self._training)
            if isinstance(operation, keras.Layer) and _takes_training(operation):
                kwargs["training"] = self._training
            return operation(*args, **kwargs)

        dtype = self._model.inputs[0].dtype
        return _run(self._model, ops.cast(images, dtype), call)


def gradient_flow(
    model: keras.Model,
    images: Any,
    targets: Any,
    loss: Any = "sparse_categorical_crossentropy",
    *,
    training: bool = True,
    loss_scale: float = 1.0,
) -> GradientFlow:
    """Measures the gradient per stage, and how much of it takes the shortcut of each block.

    The gradient at the input of a block is split exactly: it is the sum of what comes through the
    shortcut and what comes through the branch (`BlockGradient`). One forward and one backward pass
    measure all blocks: zeros are added to the input of each path, and the gradients of these zeros
    are the parts.

    With `training=True` batch normalisation normalises by the batch, and dropout and stochastic
    depth draw what the next training step would draw. In any case nothing is changed: moving
    statistics and seeds stay as they were.

    Args:
        model: A functional or sequential Keras model with one input and one output. Blocks of
            this package are split wherever its graph shows them, also in models within it. Of
            layers and of models without a graph, only the norms of variables and stages are
            known.
        images: Batch of images, (N, H, W, C) in the default data format.
        targets: What the loss takes, such as class numbers of shape (N,).
        loss: Name of a Keras loss or `function(targets, outputs)`, of which the mean over the
            batch is taken. The default is that of class numbers and a softmax; for logits
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`. Penalties on weights
            are left out.
        training: Whether the network is to behave as in training.
        loss_scale: Factor of the loss while gradients are computed, for float16, in which small
            ones vanish. The results are divided by it.

    Returns:
        A `GradientFlow` of Python floats.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model is not built, or has several inputs or outputs.

    Example:

    ```python
    flow = keras_resnet.analysis.gradient_flow(model, images, labels)
    for block in flow.blocks:
        print(block.name, block.norm, block.shortcut_share)
    ```

    Reference:
        - [He et al., 2016](https://arxiv.org/abs/1603.05027), section 2, equation 5
    """
    probe = GradientProbe(model, loss, training=training, loss_scale=loss_scale)
    return probe(images, targets)


def _square(gradient: Any) -> Any:
    """Sum of squares in float32; None stands for a gradient of zero."""
    return ops.zeros(()) if gradient is None else ops.sum(ops.square(ops.cast(gradient, "float32")))


def _norms(shortcut: Any, branch: Any) -> list[Any]:
    """Squared norms of the sum and of both parts, and the product of the parts."""
    if shortcut is None or branch is None:
        known = branch if shortcut is None else shortcut
        return [_square(known), _square(shortcut), _square(branch), ops.zeros(())]
    shortcut, branch = ops.cast(shortcut, "float32"), ops.cast(branch, "float32")
    total = _square(shortcut + branch)
    return [total, _square(shortcut), _square(branch), ops.sum(shortcut * branch)]


def _stage(layer: keras.Layer) -> str:
    """`"stage2"` of a layer named `"stage2_block1"`; another layer's own name."""
    return layer.name.split("_block")[0]


def _stages(model: keras.Model) -> dict[int, str]:
    """The stage of each variable, by its identity."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found = _stages(layer) | found
        else:
            found = {id(variable): _stage(layer) for variable in layer.weights} | found
    return {id(variable): model.name for variable in model.weights} | found


def _block_inputs(
    model: keras.Model, image_shape: tuple[int | None, ...] | None = None
) -> list[tuple[ResidualUnit, tuple[int | None, ...]]]:
    """The blocks in the order of the computation, with the shape of a sample of their inputs."""
    if not _has_graph(model):
        return []
    found = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, ResidualUnit):
            found.append((operation, tuple(args[0].shape[1:])))
        return operation.compute_output_spec(*args, **kwargs)

    _run(model, keras.KerasTensor((None, *(image_shape or model.input_shape[1:]))), call)
    return found


def _takes_training(layer: keras.Layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _has_graph(model: Any) -> bool:
    return isinstance(model, keras.Sequential) or hasattr(model, "_run_through_graph")


def _run(model: keras.Model, inputs: Any, call: Callable[..., Any]) -> Any:
    """Runs a model, operation by operation, by `call(operation, ...)`."""
    if not isinstance(model, keras.Sequential):
        for what, tensors in (("input", model.inputs), ("output", model.outputs)):
            if len(tensors) != 1:
                raise ValueError(
                    f"`model` must have one {what}. Received: model {model.name!r} with "
                    f"{len(tensors)} {what}s"
                )

    def run(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras.Model) and _has_graph(operation):
            return _run(operation, args[0], call)
        return call(operation, *args, **kwargs)

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            inputs = run(layer, inputs)
        return inputs
    # Keras has no public walk over a graph with an operation of one's own in place of a layer's.
    outputs = model._run_through_graph(
        inputs, operation_fn=lambda operation: partial(run, operation)
    )
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs
