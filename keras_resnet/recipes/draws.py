"""Random numbers for an augmentation, on every backend."""

import zlib
from typing import Any

import keras
from keras import ops

_SEED_RANGE = (1 << 31) - 1


class Draws:
    """Random numbers for the examples of one step; the same seed and step give the same.

    It may be made inside a compiled function, with a step that is a tensor.

    Args:
        seed: The seed of the training, an integer.
        step: Number of the step: an integer or an integer scalar.
        examples: Number of examples.
    """

    def __init__(self, seed: int, step: Any, examples: int):
        self._seed = seed
        self._step = step
        self._examples = examples
        self._generator = keras.random.SeedGenerator(seed)

    def uniform(self, name: str, *shape: int) -> Any:
        """Returns float32 numbers in [0, 1) of shape `(examples, *shape)`.

        Args:
            name: What they are used for; other names give independent numbers.
            *shape: Shape of the numbers of one example.
        """
        state = self._generator.state
        use = (self._seed * 2654435761 + zlib.crc32(name.encode())) % _SEED_RANGE
        key = ops.stack([ops.cast(use, state.dtype), ops.cast(self._step, state.dtype)])
        with keras.StatelessScope(state_mapping=[(state, key)]):
            return keras.random.uniform(
                (self._examples, *shape), dtype="float32", seed=self._generator
            )
