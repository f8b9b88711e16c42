"""What a training minimises with: the optimizer, its schedule, the weights of classes."""

import keras
import numpy as np

from pipeline.components.trainer import Parameters


def optimizer(
    parameters: Parameters, steps_per_epoch: int, steps: int
) -> keras.optimizers.Optimizer:
    """Returns SGD with Nesterov momentum: linear warm-up, then half a cosine down to 0.

    Args:
        parameters: Those of Trainer.
        steps_per_epoch: Steps in an epoch.
        steps: Steps in all.
    """
    warmup = min(steps - 1, round(parameters.warmup_epochs * steps_per_epoch))
    schedule = keras.optimizers.schedules.CosineDecay(
        # The first step of a warm-up from 0 would do nothing.
        initial_learning_rate=parameters.learning_rate / max(1, warmup),
        decay_steps=max(1, steps - warmup),
        warmup_target=parameters.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.SGD(schedule, momentum=parameters.momentum, nesterov=True)


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
