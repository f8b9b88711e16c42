"""What training images go through on the device: for the whole batch at once, and repeatable."""

import zlib
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Augmentation:
    """Changes training images at random.

    Args:
        shift: Images are shifted by up to so many pixels each way; what comes in from outside is
            the mirror image.
        flip: Whether images are mirrored left to right, each with probability 1/2.
    """

    shift: int = 0
    flip: bool = False

    def __call__(
        self, images: tf.Tensor, targets: tf.Tensor, draws: Draws
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns changed images and what the network is to say of them.

        Args:
            images: uint8 of shape (examples, height, width, channels).
            targets: Probabilities, float32 of shape (examples, classes).
            draws: Random numbers of these examples.
        """
        if self.shift:
            height, width = images.shape[1:3]
            by = tf.cast(draws.uniform("shift", 2) * (2 * self.shift + 1), tf.int32) - self.shift
            rows = _mirrored(tf.range(height)[None] + by[:, :1], height)
            columns = _mirrored(tf.range(width)[None] + by[:, 1:], width)
            images = tf.gather(images, rows, axis=1, batch_dims=1)
            images = tf.gather(images, columns, axis=2, batch_dims=1)
        if self.flip:
            flipped = draws.uniform("flip", 1, 1, 1) < 0.5
            images = tf.where(flipped, tf.reverse(images, [2]), images)
        return images, targets


def _mirrored(index: tf.Tensor, size: int) -> tf.Tensor:
    """Reflects indices that lie outside, the edge itself included."""
    index = tf.where(index < 0, -1 - index, index)
    return tf.where(index >= size, 2 * size - 1 - index, index)
