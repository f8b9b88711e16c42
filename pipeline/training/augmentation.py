"""What training images go through on the device: for the whole batch at once, and repeatable."""

import math
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

    def __call__(
        self, images: tf.Tensor, targets: tf.Tensor, draws: Draws
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns changed images and what the network is to say of them.

        Args:
            images: uint8 or float32 of shape (examples, height, width, channels), from 0 to 255.
            targets: Probabilities, float32 of shape (examples, classes).
            draws: Random numbers of these examples.

        Returns:
            Images of the same type, but float32 where they are rotated or zoomed; and targets.
        """
        if not (self.shift or self.interpolates):
            if self.flip:  # which takes half as long as to look up where each pixel comes from
                flipped = draws.uniform("flip", 1, 1, 1) < 0.5
                images = tf.where(flipped, tf.reverse(images, [2]), images)
            return images, targets
        # Where each pixel comes from, with a size of 1 along the axes where that is the same.
        height, width = images.shape[1:3]
        rows, columns = tf.range(height)[None, :, None], tf.range(width)[None, None]
        if self.interpolates:
            rows, columns = self._turned(rows, columns, height, width, draws)
        if self.flip:
            flipped = draws.uniform("flip", 1, 1) < 0.5
            columns = tf.where(flipped, width - 1 - columns, columns)
        if self.shift:
            by = draws.uniform("shift", 2, 1, 1) * (2 * self.shift + 1)
            by = tf.cast(tf.cast(by, tf.int32) - self.shift, rows.dtype)
            rows, columns = rows + by[:, 0], columns + by[:, 1]
        pixels = _interpolated if self.interpolates else _pixels
        return pixels(images, rows, columns), targets

    def _turned(
        self, rows: tf.Tensor, columns: tf.Tensor, height: int, width: int, draws: Draws
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where the pixels of turned and zoomed images come from, float32."""
        angle = 2 * math.pi * self.rotation * (2 * draws.uniform("rotation", 1, 1) - 1)
        scale = 1 + self.zoom * (2 * draws.uniform("zoom", 1, 1) - 1)
        cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
        middle, centre = (height - 1) / 2, (width - 1) / 2
        down, right = tf.cast(rows, tf.float32) - middle, tf.cast(columns, tf.float32) - centre
        return middle + cosine * down + sine * right, centre + cosine * right - sine * down


def _pixels(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the pixels at whole coordinates."""
    height, width, channels = images.shape[1:]
    places = _mirrored(rows, height) * width + _mirrored(columns, width)
    return tf.gather(tf.reshape(images, (-1, height * width, channels)), places, batch_dims=1)


def _interpolated(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns what lies between the pixels, bilinearly, float32."""
    above, before = tf.floor(rows), tf.floor(columns)
    down, right = (rows - above)[..., None], (columns - before)[..., None]
    above, before = tf.cast(above, tf.int32), tf.cast(before, tf.int32)

    def row(number: tf.Tensor) -> tf.Tensor:
        first = tf.cast(_pixels(images, number, before), tf.float32)
        second = tf.cast(_pixels(images, number, before + 1), tf.float32)
        return (1 - right) * first + right * second

    return (1 - down) * row(above) + down * row(above + 1)


def _mirrored(index: tf.Tensor, size: int) -> tf.Tensor:
    """Reflects indices that lie outside, the edge itself included, as often as it takes."""
    index = tf.math.floormod(index, 2 * size)
    return tf.minimum(index, 2 * size - 1 - index)
