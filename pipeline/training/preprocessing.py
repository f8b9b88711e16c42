"""From the bytes of an image file to the network's input: the one code for training and serving."""

from typing import Literal

import tensorflow as tf

from pipeline.parameters import parameters

CHANNELS = 3
# Numbers of a picture that is scaled as float32, which takes 16 MiB.
_AS_FLOAT = 1 << 22


@parameters
class Preprocessing:
    """How an image becomes the network's input.

    Args:
        height: Pixels of the network's input.
        width: Pixels of the network's input.
        mean: Subtracted from each channel, in the units of 8-bit pixels.
        std: Each channel is divided by it afterwards.
        interpolation: How images are resized.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF, BMP or WebP file inside the graph.

    Args:
        encoded: Scalar string.

    Returns:
        uint8 pixels of shape (height, width, 3); of an animated GIF the first frame.

    Raises:
        tf.errors.InvalidArgumentError: It is no image, or an animated WebP.
    """
    pixels = tf.io.decode_image(encoded, channels=CHANNELS, expand_animations=False)
    # WebP comes with an axis of frames in front, whatever `expand_animations` says.
    size = tf.shape(pixels)[-3:-1]
    frames = tf.reshape(pixels, [-1, size[0], size[1], CHANNELS])
    return tf.ensure_shape(frames[0], [None, None, CHANNELS])


def resize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Cuts the largest centred piece of the target's aspect ratio, and scales it, with
    antialiasing, to whole numbers: what is cached and sent to the device is 8-bit.

    Args:
        pixels: uint8 of shape (height, width, 3) or (batch, height, width, 3).
        preprocessing: Gives the target's size and the interpolation.

    Returns:
        uint8 pixels of the target's size.
    """
    height, width = preprocessing.height, preprocessing.width
    found = tf.shape(pixels)
    tall, wide = found[-3], found[-2]
    crop_tall = tf.minimum(tall, tf.maximum(1, wide * height // width))
    crop_wide = tf.minimum(wide, tf.maximum(1, tall * width // height))
    top, left = (tall - crop_tall) // 2, (wide - crop_wide) // 2
    piece = pixels[..., top : top + crop_tall, left : left + crop_wide, :]
    return to_bytes(scaled(piece, preprocessing, antialias=True), preprocessing)


def scaled(pixels: tf.Tensor, preprocessing: Preprocessing, antialias: bool) -> tf.Tensor:
    """Scales images to the target's size.

    Args:
        pixels: uint8 of shape (…, height, width, 3).
        preprocessing: Gives the target's size and the interpolation.
        antialias: Whether pixels that are left out count, too, where an image gets smaller.

    Returns:
        float32; with a cubic filter some pixels may be below 0 or above 255.
    """

    def resized(pixels: tf.Tensor) -> tf.Tensor:
        size = preprocessing.height, preprocessing.width
        return tf.image.resize(pixels, size, preprocessing.interpolation, antialias=antialias)

    # TensorFlow's bilinear kernel takes half as long again for uint8, and gives the same numbers;
    # but a large picture is not to take four times its memory.
    return tf.cond(
        tf.size(pixels) <= _AS_FLOAT,
        lambda: resized(tf.cast(pixels, tf.float32)),
        lambda: resized(pixels),
    )


def to_bytes(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Rounds the float32 pixels of `scaled` to uint8; those beyond its ends to its ends."""
    whole = tf.round(pixels)
    if preprocessing.interpolation != "bilinear":  # whose weights are positive and add up to 1
        whole = tf.clip_by_value(whole, 0, 255)
    return tf.cast(whole, tf.uint8)


def normalize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Subtracts the mean and divides by the standard deviation, per channel.

    Args:
        pixels: uint8 or float32 of shape (…, 3).
        preprocessing: Gives mean and standard deviation.

    Returns:
        float32 of the same shape.
    """
    return (tf.cast(pixels, tf.float32) - tf.constant(preprocessing.mean)) / tf.constant(
        preprocessing.std
    )


def preprocess(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Turns a batch of image files into the network's input.

    Args:
        encoded: Strings of shape (batch,).
        preprocessing: What the network expects.

    Returns:
        float32 of shape (batch, height, width, 3).
    """
    pixels = tf.map_fn(
        lambda one: resize(decode(one), preprocessing),
        encoded,
        fn_output_signature=tf.TensorSpec(
            (preprocessing.height, preprocessing.width, CHANNELS), tf.uint8
        ),
    )
    return normalize(pixels, preprocessing)
