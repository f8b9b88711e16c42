"""Random numbers that tests choose, and what is computed with them."""

import keras
import numpy as np
from keras import ops

from keras_resnet import _backend


def computed(function, *arrays):
    """Returns what a function makes of arrays; compiled on JAX, whose single operations are not."""
    if keras.config.backend() == "jax":
        function = _backend.jit(function)
    found = function(*(ops.convert_to_tensor(array) for array in arrays))
    return keras.tree.map_structure(ops.convert_to_numpy, found)


class Chosen:
    """Draws with given values; those of other names are uniform, from a seed.

    Args:
        examples: Number of examples.
        seed: Of the other numbers.
        **values: By name, a number or an array that broadcasts to `(examples, *shape)`.
    """

    def __init__(self, examples, seed=0, **values):
        self._examples = examples
        self._random = np.random.default_rng(seed)
        self._values = values

    def uniform(self, name, *shape):
        shape = (self._examples, *shape)
        if name not in self._values:
            return ops.convert_to_tensor(self._random.random(shape).astype("float32"))
        value = np.asarray(self._values[name], "float32")
        if value.ndim == 1 and value.shape[0] == self._examples:
            value = value.reshape(-1, *(1,) * (len(shape) - 1))
        return ops.convert_to_tensor(np.broadcast_to(value, shape).copy())
