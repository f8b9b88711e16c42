"""Random numbers for what training images go through on the device."""

import zlib

import tensorflow as tf

_INT64_MAX = (1 << 63) - 1


class Draws:
    """Random numbers for the examples of one step, the same on any number of replicas.

    Every replica draws for the whole global batch and takes its own part: some thousand numbers
    cost less than telling replicas apart.

    Args:
        seed: The seed of the training.
        step: The number of the step, an int64 scalar.
        places: Place of each example in the global batch, int64 of shape (examples,).
        batch_size: Size of the global batch.
    """

    def __init__(self, seed: int, step: tf.Tensor, places: tf.Tensor, batch_size: int):
        self._seed = seed
        self._step = step
        self._places = places
        self._batch_size = batch_size

    def uniform(self, name: str, *shape: int) -> tf.Tensor:
        """Returns float32 numbers in [0, 1) of shape (examples, *shape).

        Args:
            name: What they are used for; other names give independent numbers.
            *shape: Shape of the numbers of one example.
        """
        use = (self._seed ^ zlib.crc32(name.encode()) << 30) & _INT64_MAX
        key = tf.stack([tf.constant(use, tf.int64), self._step])
        whole = tf.random.stateless_uniform(
            (self._batch_size, *shape), key, alg=tf.random.Algorithm.PHILOX
        )
        return tf.gather(whole, self._places)
