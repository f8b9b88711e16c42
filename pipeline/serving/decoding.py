"""From the bytes of any image file to upright RGB pixels, inside the graph, as ingest sees it."""

import tensorflow as tf

from pipeline.records.images import RULES
from pipeline.serving import headers
from pipeline.training.preprocessing import CHANNELS, decode

# Why a file is refused before it is decoded; the codes of `pipeline.records.images`.
EMPTY = "empty"
TOO_MANY_BYTES = "too_many_bytes"
NOT_AN_IMAGE = "not_an_image"
TOO_MANY_PIXELS = "too_many_pixels"
TOO_LONG = "too_long"

_OPAQUE = 255


def refusal(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    """Returns why a file must not be decoded, or the empty string, by ingest's limits.

    Args:
        encoded: Scalar string.
        header: What `headers.read` found in it.
    """
    size = tf.strings.length(encoded)
    high, wide = header.height, header.width
    reasons = [
        (size == 0, EMPTY),
        (size > RULES.max_bytes, TOO_MANY_BYTES),
        (header.kind == headers.UNKNOWN, NOT_AN_IMAGE),
        (high * wide > RULES.max_pixels, TOO_MANY_PIXELS),
        (tf.maximum(high, wide) > RULES.max_side, TOO_LONG),
    ]
    reason = tf.constant("")
    for holds, code in reversed(reasons):
        reason = tf.where(holds, code, reason)
    return reason


def pixels(encoded: tf.Tensor, header: headers.Header) -> tf.Tensor:
    """Decodes a file as ingest does: the first frame, upright, over a white background.

    Differences that remain: TensorFlow's own conversion of CMYK, transparent parts of GIF (black),
    and what it does not decode at all (BMP of run lengths or of
    fewer than 8 bits, PNG with wrong checksums).

    Args:
        encoded: Scalar string: JPEG, PNG, GIF, BMP or WebP.
        header: What `headers.read` found in it.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        tf.errors.InvalidArgumentError: It cannot be decoded.
    """
    decoded = tf.switch_case(
        header.kind,
        {
            headers.UNKNOWN: lambda: decode(encoded),
            headers.JPEG: lambda: decode(encoded),
            headers.PNG: lambda: _png(encoded),
            headers.GIF: lambda: decode(encoded),
            headers.BMP: lambda: _bmp(encoded),
            headers.WEBP: lambda: _webp(encoded),
        },
    )
    upright = tf.cond(
        header.orientation == headers.UPRIGHT,
        lambda: decoded,
        lambda: turn(decoded, header.orientation),
    )
    return tf.ensure_shape(upright, (None, None, CHANNELS))


def turn(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a picture upright.

    Args:
        picture: uint8 of shape (height, width, 3).
        orientation: 1 to 8, by the EXIF standard, int32.
    """
    # By the place of each pixel: of a transposition of bytes oneDNN complains on many machines.
    height, width = tf.unstack(tf.shape(picture)[:2])
    swapped, upside_down, mirrored = (
        tf.reduce_any(orientation == tf.constant(values))
        for values in ((5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7))
    )
    high, wide = tf.where(swapped, width, height), tf.where(swapped, height, width)
    rows, columns = tf.range(high), tf.range(wide)
    rows = tf.where(upside_down, high - 1 - rows, rows) * tf.where(swapped, 1, width)
    columns = tf.where(mirrored, wide - 1 - columns, columns) * tf.where(swapped, width, 1)
    places = rows[:, None] + columns
    return tf.gather(tf.reshape(picture, (height * width, CHANNELS)), places)


def _opaque(picture: tf.Tensor) -> tf.Tensor:
    """Lays RGBA pixels over white, rounded as Pillow does."""
    colour, alpha = picture[..., :CHANNELS], picture[..., CHANNELS:]

    def blended() -> tf.Tensor:
        weight = tf.cast(alpha, tf.int32)
        total = tf.cast(colour, tf.int32) * weight + _OPAQUE * (_OPAQUE - weight)
        return tf.cast((2 * total + _OPAQUE) // (2 * _OPAQUE), tf.uint8)

    return tf.cond(tf.reduce_all(alpha == _OPAQUE), lambda: colour, blended)


def _png(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow does not spread grey of fewer than 8 bits over the range beside an alpha channel.
    depth, colour = tf.strings.substr(encoded, 24, 1), tf.strings.substr(encoded, 25, 1)
    coarse_grey = tf.reduce_any(depth == tf.constant([b"\1", b"\2", b"\4"])) & (colour == b"\0")
    return tf.cond(
        coarse_grey,
        lambda: tf.io.decode_png(encoded, channels=CHANNELS),
        lambda: _opaque(tf.io.decode_png(encoded, channels=CHANNELS + 1)),
    )


def _webp(encoded: tf.Tensor) -> tf.Tensor:
    # It decodes with as many channels as the file has, and with no other number.
    found = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    size = tf.shape(found)
    frames = tf.reshape(found, (-1, size[-3], size[-2], size[-1]))
    first = frames[0]
    return tf.cond(
        size[-1] == CHANNELS,
        lambda: first[..., :CHANNELS],
        lambda: _opaque(first[..., : CHANNELS + 1]),
    )


def _bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes BMP; of those with a palette TensorFlow gives the indices alone."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    found = tf.io.decode_bmp(encoded)
    has_palette = tf.shape(found)[-1] == 1

    def coloured() -> tf.Tensor:
        start = 14 + tf.reduce_sum(tf.cast(data[14:18], tf.int32) * tf.constant([1, 256, 0, 0]))
        count = tf.minimum(256, (tf.size(data) - start) // 4)
        entries = tf.reshape(data[start : start + 4 * count], (count, 4))
        palette = tf.gather(entries, [2, 1, 0], axis=1)  # blue comes first in the file
        return tf.gather(palette, tf.cast(found[..., 0], tf.int32))

    return tf.cond(has_palette, coloured, lambda: found[..., :CHANNELS])
