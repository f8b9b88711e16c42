"""Where the gradient goes while a network trains, measured beside the training."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis import GradientFlow, GradientProbe

# In float16 small gradients vanish, and those of a mean over a batch are small.
_FLOAT16_SCALE = 2.0**10

Example = tuple[tf.Tensor, tf.Tensor]
Losses = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


# Enough for batch normalisation, and so few that they fit in wherever a training does.
_EXAMPLES = 32


def parts(batch_size: int, replicas: int) -> int:
    """Returns into how many parts a batch is cut, of which the first is measured.

    It is no greater than what a replica computes anyway, and of 32 to 63 images where it can be; of
    an even number if there is one, as images may be mixed in pairs.
    """
    local = batch_size // replicas
    fitting = [n for n in range(1, local + 1) if local % n == 0 and local // n >= _EXAMPLES]
    even = [n for n in fitting if local // n % 2 == 0]
    return replicas * max(even or fitting, default=1)


class Insight:
    """Measures every few steps how much of the gradient each stage gets, and by which path.

    It is a function of its own, which changes no variable: the training step carries nothing of
    it. It computes on one device, with the first replica's copy of the variables, so that batch
    normalisation sees these images alone.

    Args:
        model: Maps images to logits.
        losses: Returns the loss of each example of targets and logits.
        examples: Returns images and targets of the batch that comes after so many steps, as the
            network sees them.
        every: Steps between measurements.
        step: Steps that are done.
        say: Receives a line for a person.
    """

    def __init__(
        self,
        model: keras.Model,
        losses: Losses,
        examples: Callable[[int], Example],
        every: int,
        step: int,
        say: Callable[[str], None],
    ):
        half = any(layer.compute_dtype == "float16" for layer in model.layers)
        self._probe = GradientProbe(model, losses, loss_scale=_FLOAT16_SCALE if half else 1.0)
        self._measure = tf.function(self._probe.measure, autograph=False)
        self._examples = examples
        self._every = every
        self._measured = step
        self._say = say

    def after(self, step: int) -> GradientFlow | None:
        """Returns a measurement, if one is due when `step` steps are done."""
        due = step // self._every > self._measured // self._every
        self._measured = step
        if not due:
            return None
        try:
            return self._probe.result(self._measure(*self._examples(step)))
        except tf.errors.ResourceExhaustedError:
            # A training that fits must not end for want of what only looks at it.
            self._every = np.iinfo(np.int64).max
            self._say(
                "there is not enough memory to measure the gradient flow as well; it is left out"
            )
            return None
