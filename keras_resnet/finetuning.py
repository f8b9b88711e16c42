"""Taking a trained network to other classes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_resnet._validation import check_choice, check_flag, check_integer, check_positive
from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.layers.dropout import Dropout
from keras_resnet.layers.stem import Stem
from keras_resnet.model import ResNetModel, head_dtype, stem_and_blocks
from keras_resnet.recipes.optimizers import LAMB, SGD, AdamW
from keras_resnet.weights.torch_names import block_position, numbered_sublayers

# What stays of the layers behind the stages; the first two belong to pre-activation networks.
_HEAD = ("head_bn", "head_activation", "pool")


def prepare_finetuning(
    model: keras.Model,
    classes: int,
    freeze_stages: int = 0,
    *,
    freeze_batch_norm: bool = False,
    dropout_rate: float = 0.0,
    classifier_activation: Any = "softmax",
) -> ResNetModel:
    """A network for other classes on the features of a trained one, its first stages frozen.

    The layers but the new classifier are shared with `model`, and freezing them freezes them there
    too. A frozen layer neither learns nor moves the statistics of its batch norm, which works as in
    inference even while the rest is trained. Compile the network after this, as Keras reads what
    is trainable then.

    Args:
        model: A network of `keras_resnet.ResNet`, with or without a classifier.
        classes: Number of the new classes.
        freeze_stages: How many stages are frozen from the first on, and the stem with them; 0
            freezes nothing, and all of them leave the classifier alone to learn.
        freeze_batch_norm: Whether batch norm is frozen in the other stages too, as befits batches
            of a few pictures. A `.keras` file keeps which stages are frozen, but not this.
        dropout_rate: Rate of the dropout before the classifier.
        classifier_activation: Activation of the classifier; None for logits.

    Raises:
        TypeError: If the model is none.
        ValueError: If the model is no network of this package, or an argument is out of range.

    Example:

    ```python
    trained = keras_resnet.ResNet50(weights="imagenet")
    model = keras_resnet.prepare_finetuning(trained, classes=6, freeze_stages=2)
    ```
    """
    check_integer("classes", classes)
    if classes == 1 and classifier_activation == "softmax":
        raise ValueError(
            "`classes` must be at least 2 with a softmax, which gives a single class 1 whatever the "
            "image shows; use classes=2, or classifier_activation='sigmoid'. Received: classes=1"
        )
    _check_freezing(model, freeze_stages, freeze_batch_norm)
    network = _with_classifier(model, classes, dropout_rate, classifier_activation)
    freeze(network, freeze_stages, batch_norm=freeze_batch_norm)
    return network


def freeze(model: keras.Model, stages: int, *, batch_norm: bool = False) -> None:
    """Freezes the first stages of a network, and the stem with them; see `prepare_finetuning`.

    Args:
        model: A network of this package.
        stages: How many from the first on; 0 freezes nothing, and all of them leave what comes
            after the stages alone to learn, of which batch norm is frozen too.
        batch_norm: Whether batch norm is frozen in the other stages too.

    Raises:
        TypeError: If the model is none.
        ValueError: If the model is no network of this package, or an argument is out of range.
    """
    last = _check_freezing(model, stages, batch_norm)
    for layer in model.layers:
        if isinstance(layer, Stem):
            layer.trainable = stages == 0
        elif isinstance(layer, ResidualUnit):
            layer.trainable = block_position(layer)[0] > stages
        elif layer.name == "head_bn":
            layer.trainable = stages < last
        if batch_norm:
            for norm in _batch_norms(layer):
                norm.trainable = False


def _check_freezing(model: keras.Model, stages: int, batch_norm: bool) -> int:
    """The number of stages of the model, if so many of them can be frozen."""
    last = _stages(model)
    check_choice("freeze_stages", stages, range(last + 1))
    check_flag("freeze_batch_norm", batch_norm)
    return last


def _batch_norms(layer: keras.Layer) -> Iterator[keras.Layer]:
    if isinstance(layer, (Stem, ResidualUnit)):
        for _, _, norm in numbered_sublayers(layer):
            if norm is not None:
                yield norm
        shortcut = getattr(layer, "shortcut", None)
        if shortcut is not None and shortcut.bn is not None:
            yield shortcut.bn
    elif layer.name == "head_bn":
        yield layer


def _stages(model: keras.Model) -> int:
    _, blocks = stem_and_blocks(model)
    return max(block_position(block)[0] for block in blocks)


def _with_classifier(
    model: keras.Model, classes: int, dropout_rate: float, activation: Any
) -> ResNetModel:
    last = [layer for layer in model.layers if layer.name in _HEAD] or [
        layer for layer in model.layers if isinstance(layer, ResidualUnit)
    ]
    x, layer = last[-1].output, last[-1]
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(
            data_format=getattr(layer, "data_format", None), name="pool", dtype=layer.dtype_policy
        )(x)
    dtype = head_dtype(layer.dtype_policy)
    if dropout_rate:
        x = Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    x = keras.layers.Dense(classes, activation=activation, dtype=dtype, name="classifier")(x)
    return ResNetModel(model.inputs, x, name=model.name, config=getattr(model, "config", None))


def stage_learning_rates(
    model: keras.Model, decay: float = 1.0, classifier: float = 1.0
) -> dict[str, float]:
    """Multipliers of the learning rate that fall from the classifier to the stem.

    The classifier has `classifier`, the last stage 1, each stage before it `decay` times as much as
    the one behind, and the stem as the first stage.

    Args:
        model: A network of this package.
        decay: Above 0; 1 for one rate in all stages.
        classifier: Above 0; 10 is usual for a classifier that starts at random.

    Returns:
        Multipliers by pattern, as `FineTuningSGD` and `FineTuningAdamW` take them.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_positive("decay", decay)
    check_positive("classifier", classifier)
    stages = _stages(model)
    rates = {f"stage{stage}_.*": decay ** (stages - stage) for stage in range(1, stages + 1)}
    return {"stem/.*": decay ** (stages - 1), **rates, "classifier/.*": classifier}


class _Multipliers:
    """What the optimizers share; `update_step` of the next class does the rest."""

    def __init__(
        self,
        learning_rate: Any,
        multipliers: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.multipliers = dict(multipliers or {})
        for pattern, value in self.multipliers.items():
            check_positive(f"multipliers[{pattern!r}]", value)

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the state of the optimizer, once the variables are known."""
        # By number: in a strategy of TensorFlow an update step gets variables without a path.
        self._multiplier_of = [self.multiplier(variable) for variable in variables]
        super().build(variables)

    def multiplier(self, variable: keras.Variable) -> float:
        """What the learning rate of a variable is multiplied with; 1 where no pattern matches."""
        matching = [pattern for pattern in self.multipliers if re.fullmatch(pattern, variable.path)]
        if len(matching) > 1:
            raise ValueError(
                f"`multipliers` must match a variable once; {' and '.join(map(repr, matching))} "
                f"match {variable.path!r}. Received: multipliers={self.multipliers}"
            )
        return self.multipliers[matching[0]] if matching else 1.0

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Changes a variable by its reduced gradient."""
        multiplier = self._multiplier_of[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "multipliers": self.multipliers}


@keras.saving.register_keras_serializable(package="keras_resnet")
class FineTuningSGD(_Multipliers, SGD):
    """`keras_resnet.recipes.SGD` with a learning rate of its own for each part of the network.

    Args:
        learning_rate: A number or a schedule.
        multipliers: Multiplier of the learning rate by regular expression, which is matched with
            the whole path of a variable (`stage_learning_rates`). Others have 1.
        **kwargs: What `keras_resnet.recipes.SGD` takes. Its weight decay leaves batch norm and
            biases alone.

    Raises:
        ValueError: If an argument is out of range, or two patterns match a variable.
    """


@keras.saving.register_keras_serializable(package="keras_resnet")
class FineTuningAdamW(_Multipliers, AdamW):
    """`keras_resnet.recipes.AdamW` with a learning rate of its own for each part of the network.

    Args:
        learning_rate: A number or a schedule.
        multipliers: As in `FineTuningSGD`.
        **kwargs: What `keras_resnet.recipes.AdamW` takes. Its weight decay leaves batch norm and
            biases alone.

    Raises:
        ValueError: If an argument is out of range, or two patterns match a variable.
    """


@keras.saving.register_keras_serializable(package="keras_resnet")
class FineTuningLAMB(_Multipliers, LAMB):
    """`keras_resnet.recipes.LAMB` with a learning rate of its own for each part of the network.

    Args:
        learning_rate: A number or a schedule.
        multipliers: As in `FineTuningSGD`.
        **kwargs: What `keras_resnet.recipes.LAMB` takes. Its weight decay leaves batch norm and
            biases alone.

    Raises:
        ValueError: If an argument is out of range, or two patterns match a variable.
    """


OPTIMIZERS = {"sgd": FineTuningSGD, "adamw": FineTuningAdamW, "lamb": FineTuningLAMB}
