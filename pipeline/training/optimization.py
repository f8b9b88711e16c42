"""What a training minimises with: the optimizer, its schedule, the weights of classes."""

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules

from keras_resnet.recipes import Recipe


class Scaled(schedules.LearningRateSchedule):
    """A schedule times a factor that may change while it is used.

    Args:
        schedule: Of the learning rate.
        scale: The factor, a variable.
    """

    def __init__(self, schedule: schedules.LearningRateSchedule, scale: tf.Variable):
        self._schedule = schedule
        self._scale = scale

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step."""
        return self._schedule(step) * self._scale


def optimizer(
    recipe: Recipe, steps_per_epoch: int, multipliers: dict[str, float] | None = None
) -> tuple[keras.optimizers.Optimizer, tf.Variable]:
    """Returns the optimizer of a recipe, and what its learning rate is multiplied by.

    To be called in the scope of the strategy.

    Args:
        recipe: As it is trained.
        steps_per_epoch: Steps in an epoch.
        multipliers: Of the learning rate of parts of the network, by pattern.
    """
    scale = tf.Variable(1.0, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    schedule = Scaled(recipe.make_schedule(steps_per_epoch), scale)
    return (
        recipe.make_optimizer(steps_per_epoch, multipliers=multipliers, learning_rate=schedule),
        scale,
    )


def class_weights(kind: str, labels: np.ndarray) -> np.ndarray | None:
    """Returns what an example of each class counts: on average over the examples 1.

    Args:
        kind: `"balanced"`: every class counts the same in all; `"none"`.
        labels: The classes of all examples.

    Returns:
        float32 of shape (classes,), or None where each example counts 1.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels)
    return (len(labels) / (len(counts) * counts)).astype(np.float32)
