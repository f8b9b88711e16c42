"""Where the pixels of a changed image come from, and fetching them from there."""

from typing import Any

import keras
import numpy as np
from keras import ops

PADDINGS = ("mirror", "reflect", "constant")


def mirrored(index: Any, size: int, padding: str) -> Any:
    """Reflects indices that lie outside, as often as it takes.

    Args:
        index: int32 of any shape.
        size: Number of pixels along this axis.
        padding: `"mirror"` takes the edge twice, `"reflect"` once, `"constant"` stays at the edge.
    """
    if padding == "constant":
        return ops.clip(index, 0, size - 1)
    if padding == "mirror":
        index = ops.mod(index, 2 * size)
        return ops.minimum(index, 2 * size - 1 - index)
    period = max(1, 2 * size - 2)
    index = ops.mod(index, period)
    return ops.minimum(index, period - index)


def pixels(images: Any, rows: Any, columns: Any, padding: str = "mirror") -> Any:
    """Returns the pixels at whole coordinates.

    Args:
        images: `(examples, height, width, channels)`.
        rows: int32, broadcasts with `columns` to `(examples, rows, columns)`.
        columns: int32.
        padding: What lies outside.

    Returns:
        Pixels of the same type, `(examples, rows, columns, channels)`.
    """
    height, width, channels = images.shape[1:]
    places = mirrored(rows, height, padding) * width + mirrored(columns, width, padding)
    first = ops.arange(ops.shape(images)[0], dtype="int32") * (height * width)
    return ops.take(ops.reshape(images, (-1, channels)), places + first[:, None, None], axis=0)


def interpolated(images: Any, rows: Any, columns: Any, padding: str = "mirror") -> Any:
    """Returns what lies between the pixels, bilinearly, float32.

    Args:
        images: `(examples, height, width, channels)`.
        rows: float32, broadcasts with `columns` to `(examples, rows, columns)`.
        columns: float32.
        padding: What lies outside.
    """
    above, before = ops.floor(rows), ops.floor(columns)
    down, right = (rows - above)[..., None], (columns - before)[..., None]
    above, before = ops.cast(above, "int32"), ops.cast(before, "int32")

    def row(number: Any) -> Any:
        first = ops.cast(pixels(images, number, before, padding), "float32")
        second = ops.cast(pixels(images, number, before + 1, padding), "float32")
        return (1 - right) * first + right * second

    return (1 - down) * row(above) + down * row(above + 1)


def inside(rows: Any, columns: Any, height: int, width: int) -> Any:
    """Returns whether coordinates lie on the image, pixels' full extent included."""
    rows, columns = ops.cast(rows, "float32"), ops.cast(columns, "float32")
    return ops.logical_and(
        ops.logical_and(rows >= -0.5, rows < height - 0.5),
        ops.logical_and(columns >= -0.5, columns < width - 0.5),
    )


def colour(fill: Any, images: Any) -> Any:
    """Returns a colour of the type of images, to be put in their place.

    Args:
        fill: A number, or one for each channel, from 0 to 255.
        images: `(examples, height, width, channels)`.

    Raises:
        ValueError: If the colour has another number of channels.
    """
    values = np.asarray(fill, "float32")
    if values.ndim and values.shape != images.shape[-1:]:
        raise ValueError(
            f"`fill` must be a number or one for each of the {images.shape[-1]} channels. "
            f"Received: fill={fill}"
        )
    is_whole = keras.backend.standardize_dtype(images.dtype) == "uint8"
    return ops.cast(np.rint(values) if is_whole else values, images.dtype)


def box(centre: Any, sides: Any, height: int, width: int) -> tuple[Any, Any]:
    """Returns a mask of a rectangle in each image, and the share of the image that it covers.

    Args:
        centre: Of each rectangle, as shares of height and width, `(examples, 2)`.
        sides: Its height and width as shares, `(examples, 2)`. What lies outside is cut off.
        height: Pixels.
        width: Pixels.

    Returns:
        Booleans `(examples, height, width, 1)`, and float32 `(examples,)`, counted in pixels.
    """
    mask, share = None, 1.0
    for axis, size in enumerate((height, width)):
        middle, half = centre[:, axis] * size, sides[:, axis] * size / 2
        first = ops.clip(ops.round(middle - half), 0, size)
        last = ops.clip(ops.round(middle + half), 0, size)
        places = ops.arange(size, dtype="float32")[None]
        along = ops.logical_and(places >= first[:, None], places < last[:, None])
        along = along[:, :, None, None] if axis == 0 else along[:, None, :, None]
        mask = along if mask is None else ops.logical_and(mask, along)
        share = share * (last - first) / size
    return mask, share
