"""Dropout whose masks differ between the replicas of a strategy."""

from typing import Any

import keras

from keras_resnet._validation import check_rate
from keras_resnet.layers.stochastic_depth import ReplicaSeedGenerator


@keras.saving.register_keras_serializable(package="keras_resnet")
class Dropout(keras.layers.Layer):
    """Sets a share of the inputs to zero while training, and scales the rest up.

    It computes what `keras.layers.Dropout` computes. That layer draws the same mask on every
    replica of a `tf.distribute` strategy, because Keras mirrors the state of its seeds; this one
    does not.

    Args:
        rate: Probability of dropping an element, in `[0, 1)`.
        seed: Integer to start the draws from; random by default.
        **kwargs: `name`, `dtype` and `trainable` of `keras.Layer`.

    Call arguments:
        inputs: Tensor of any shape.
        training: Whether to drop. Inference by default.

    Raises:
        ValueError: If `rate` is outside `[0, 1)`.

    Example:

    ```python
    features = keras.layers.Dense(10)(Dropout(0.3)(features))
    ```

    Reference:
        - [Srivastava et al., 2014, section 4](https://jmlr.org/papers/v15/srivastava14a.html)
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_rate("rate", rate)
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed) if self.rate else None
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not (training and self.rate):
            return inputs
        return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
