"""The moving average of the weights, which is evaluated and exported in their place."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

# After t steps of averaging, the weight of the average is at most (1 + t) / (10 + t).
_START = 10.0


class Average:
    """Averages of weights, of batch normalisation's statistics too.

    Args:
        strategy: The strategy under whose scope the weights were made.
        weights: All weights of a model; those that are numbers of another kind are left out.
        decay: What a step keeps of the average; 0 for no average at all.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, weights: list[keras.Variable], decay: float
    ):
        self._strategy = strategy
        self._decay = decay
        self._weights = [weight for weight in weights if "float" in weight.dtype] if decay else []
        with strategy.scope():
            self.variables = [
                tf.Variable(weight.value, trainable=False) for weight in self._weights
            ]

    def of(self, wanted: list[keras.Variable]) -> list[tf.Variable]:
        """Returns the averages of those of the weights that are wanted."""
        chosen = {id(weight) for weight in wanted}
        pairs = zip(self.variables, self._weights, strict=True)
        return [average for average, weight in pairs if id(weight) in chosen]

    def update(self, steps: tf.Tensor) -> None:
        """Moves the averages towards the weights; to be called by each replica.

        Args:
            steps: Steps done, this one included.
        """
        if not self.variables:
            return
        done = tf.cast(steps, tf.float32)
        keep = tf.minimum(self._decay, (1.0 + done) / (_START + done))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(weight.value + keep * (average - weight.value))

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again afterwards."""
        if not self.variables:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @tf.function
    def _swap(self) -> None:
        self._strategy.run(self._swap_on_replica)

    def _swap_on_replica(self) -> None:
        for average, weight in zip(self.variables, self._weights, strict=True):
            value = tf.identity(weight.value)
            weight.assign(average)
            average.assign(value)
