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

    What comes in from outside is the mirror image. Flips and shifts alone move pixels and change
    none; with rotation or zoom all of it is one affine map, and pixels are interpolated once,
    bilinearly. It is meant to be compiled with XLA, which makes one loop of it.

    Args:
        shift: Images are shifted by up to so many pixels each way.
        flip: Whether images are mirrored left to right, each with probability 1/2.
        rotation: Images are turned by up to so large a fraction of the full turn each way.
        zoom: Images are made larger or smaller by up to so large a fraction of their size.
    """

    shift: int = 0
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0

    @property
    def interpolates(self) -> bool:
        """Whether images consist of new pixels afterwards."""
        return bool(self.rotation or self.zoom)

    def draw(self, draws: Draws) -> dict[str, tf.Tensor]:
        """Returns the random numbers of a step; not to be compiled by XLA, which draws others."""
        drawn = {}
        if self.shift:
            drawn["shift"] = draws.uniform("shift", 2)
        if self.flip:
            drawn["flip"] = draws.uniform("flip", 1, 1, 1)
        return drawn

    def __call__(
        self, images: tf.Tensor, targets: tf.Tensor, drawn: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns changed images and what the network is to say of them.

        Args:
            images: float32 of shape (examples, height, width, channels), from 0 to 255.
            targets: Probabilities, float32 of shape (examples, classes).
            drawn: What `draw` returned.
        """
        if self.shift:
            height, width = images.shape[1:3]
            by = tf.cast(drawn["shift"] * (2 * self.shift + 1), tf.int32) - self.shift
            rows = _mirrored(tf.range(height)[None] + by[:, :1], height)
            columns = _mirrored(tf.range(width)[None] + by[:, 1:], width)
            images = tf.gather(images, rows, axis=1, batch_dims=1)
            images = tf.gather(images, columns, axis=2, batch_dims=1)
        if self.flip:
            images = tf.where(drawn["flip"] < 0.5, tf.reverse(images, [2]), images)
        return images, targets


def _mirrored(index: tf.Tensor, size: int) -> tf.Tensor:
    """Reflects indices that lie outside, the edge itself included, as often as it takes."""
    index = tf.math.floormod(index, 2 * size)
    return tf.minimum(index, 2 * size - 1 - index)
