"""Random numbers for an augmentation, on every backend."""

import zlib
from typing import Any

import keras
from keras import ops

_SEED_RANGE = (1 << 31) - 1
# So that neighbouring seeds have unlike keys.
_SPREAD = 2654435761


class Draws:
    """Random numbers by seed and step: the same seed and step give the same.

    Args:
        seed: The seed of the training, an integer.

    Example:

    ```python
    draws = Draws(seed=0)
    draws.at(step=3, examples=32).uniform("flip")  # of shape (32,)
    ```
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed % _SEED_RANGE)

    def at(self, step: Any, examples: int) -> "StepDraws":
        """Returns the numbers of one step, inside a compiled function as well.

        Args:
            step: Number of the step: an integer or an integer scalar tensor.
            examples: Number of examples.
        """
        return StepDraws(self, step, examples)


class StepDraws:
    """Random numbers for the examples of one step; `Draws.at` makes them."""

    def __init__(self, draws: Draws, step: Any, examples: int):
        self._draws = draws
        self._step = step
        self._examples = examples

    def uniform(self, name: str, *shape: int) -> Any:
        """Returns float32 numbers in [0, 1) of shape `(examples, *shape)`.

        Args:
            name: What they are used for; other names give independent numbers.
            *shape: Shape of the numbers of one example.
        """
        generator = self._draws.generator
        state = generator.state
        use = (self._draws.seed * _SPREAD + zlib.crc32(name.encode())) % _SEED_RANGE
        key = ops.stack([ops.cast(use, state.dtype), ops.cast(self._step, state.dtype)])
        with keras.StatelessScope(state_mapping=[(state, key)]):
            return keras.random.uniform((self._examples, *shape), dtype="float32", seed=generator)
