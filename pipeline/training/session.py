"""One training: the network under its strategy, the epochs, the TensorBoard logs."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

import keras_resnet
from pipeline.components.trainer import Parameters
from pipeline.orchestration.artifact import Context
from pipeline.records import datasets
from pipeline.training import inputs, strategy
from pipeline.training.loop import Evaluation, Loop, Progress
from pipeline.training.preprocessing import Preprocessing

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Args:
        model: Maps preprocessed images to class probabilities, and computes in float32.
        last_epoch: Loss and accuracy on both splits after the last epoch.
    """

    model: keras.Model
    last_epoch: dict[str, float]


def preprocessing(parameters: Parameters) -> Preprocessing:
    """Returns what the network that `parameters` describes expects of its input."""
    height, width = parameters.image_size
    return Preprocessing(height=height, width=width, mean=parameters.mean, std=parameters.std)


def build(
    parameters: Parameters,
    classes: int,
    *,
    activation: str | None = None,
    precision: str | None = None,
    bn_synchronized: bool = False,
) -> keras.Model:
    """Returns the untrained network.

    Args:
        parameters: Those of Trainer.
        classes: Number of classes.
        activation: Activation of the classifier; None for logits.
        precision: The dtype policy; default is that of `parameters`.
        bn_synchronized: Whether batch normalisation takes its statistics over all replicas.

    Raises:
        ValueError: The name, or an argument's value, is not allowed.
        TypeError: There is no such argument.
    """
    arguments = {
        "input_shape": (*parameters.image_size, 3),
        "classes": classes,
        "classifier_activation": activation,
        "bn_synchronized": bn_synchronized,
        "dtype": precision or parameters.precision,
    }
    # YAML has lists alone where the configuration of a network has tuples.
    own = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.model_arguments.items()
    }
    return keras_resnet.create(parameters.model, **(arguments | own))


def train(
    root: Path, classes: int, parameters: Parameters, destination: Path, context: Context
) -> Trained:
    """Trains on the split `train`, evaluates on `eval` after every epoch.

    Args:
        root: The Examples artifact.
        classes: Number of classes.
        parameters: Those of Trainer.
        destination: Directory that receives the TensorBoard logs.
        context: Shows loss and accuracy while it works.

    Raises:
        DataError: The records do not match their manifest.
        FloatingPointError: The loss is no longer finite.
    """
    keras.utils.set_random_seed(parameters.seed)
    train_data, eval_data = datasets.encoded(root, "train"), datasets.encoded(root, "eval")
    steps_per_epoch = max(1, round(int(train_data.cardinality()) / parameters.batch_size))
    steps = steps_per_epoch * parameters.epochs

    chosen = strategy.make(parameters.strategy)
    replicas = chosen.num_replicas_in_sync
    with chosen.scope():
        model = build(parameters, classes, bn_synchronized=replicas > 1)
        optimizer = _optimizer(parameters, steps_per_epoch, steps)
    context.say(
        f"{type(chosen).__name__} with {replicas} replica{'s' if replicas > 1 else ''}, "
        f"{parameters.precision}, batch {parameters.batch_size}, {steps:,} steps"
    )
    loop = Loop(
        chosen,
        model,
        optimizer,
        parameters.batch_size,
        parameters.weight_decay,
        parameters.label_smoothing,
    )
    expected = preprocessing(parameters)
    batches = inputs.training_batches(
        train_data,
        expected,
        parameters.batch_size,
        parameters.seed,
        parameters.random_shift,
        parameters.random_flip,
    )
    held_out = inputs.evaluation_batches(eval_data, expected, parameters.batch_size)
    logs = _Logs(destination / TENSORBOARD)
    shown: dict[str, float] = {}
    last_epoch: dict[str, float] = {}
    # A round never crosses the end of an epoch, after which the model is evaluated.
    for progress in loop.fit(batches, steps, steps_per_epoch, parameters.steps_per_loop):
        logs.training(progress)
        shown |= {"loss": progress.loss, "accuracy": progress.accuracy}
        if progress.step % steps_per_epoch == 0:
            evaluation = loop.evaluate(held_out)
            logs.evaluation(progress.step, evaluation)
            shown |= {"eval_accuracy": evaluation.accuracy}
            last_epoch = {**shown, "eval_loss": evaluation.loss}
        context.progress(progress.step, steps, **shown)
    logs.close()

    served = build(parameters, classes, activation="softmax", precision="float32")
    served.set_weights(model.get_weights())
    return Trained(served, last_epoch)


def _optimizer(
    parameters: Parameters, steps_per_epoch: int, steps: int
) -> keras.optimizers.Optimizer:
    warmup = min(steps - 1, round(parameters.warmup_epochs * steps_per_epoch))
    schedule = keras.optimizers.schedules.CosineDecay(
        # The first step of a warm-up from 0 would do nothing.
        initial_learning_rate=parameters.learning_rate / max(1, warmup),
        decay_steps=max(1, steps - warmup),
        warmup_target=parameters.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.SGD(schedule, momentum=parameters.momentum, nesterov=True)


class _Logs:
    """TensorBoard scalars of both splits, under the same names, so that they share a chart."""

    def __init__(self, directory: Path):
        self._train = tf.summary.create_file_writer(str(directory / "train"))
        self._eval = tf.summary.create_file_writer(str(directory / "eval"))

    def training(self, progress: Progress) -> None:
        with self._train.as_default(step=progress.step):
            tf.summary.scalar("loss", progress.loss)
            tf.summary.scalar("accuracy", progress.accuracy)
            tf.summary.scalar("learning_rate", progress.learning_rate)
            tf.summary.scalar("images_per_second", progress.images_per_second)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        with self._eval.as_default(step=step):
            tf.summary.scalar("loss", evaluation.loss)
            tf.summary.scalar("accuracy", evaluation.accuracy)
        self._train.flush()
        self._eval.flush()

    def close(self) -> None:
        self._train.close()
        self._eval.close()
