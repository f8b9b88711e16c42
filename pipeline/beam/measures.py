"""What one picture looks like: its size, light, contrast, sharpness and colours, in integers."""

import io
import math
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

ASPECT_RATIO = "image/aspect_ratio"
BYTES = "image/bytes"
BRIGHTNESS = "image/brightness"
CONTRAST = "image/contrast"
SHARPNESS = "image/sharpness"

# Measures are whole thousandths, so that their sums do not depend on the order of adding.
SCALE = 1000

_LEVELS = 256
_POWERS = np.stack([np.arange(_LEVELS), np.arange(_LEVELS) ** 2], axis=1)
_STRIP_PIXELS = 1 << 16


class Picture(NamedTuple):
    """What is known of one picture.

    Args:
        format: `"jpeg"`, `"png"` and so on.
        width: Pixels.
        height: Pixels.
        sums: Of the red, green and blue values, 0 to 255 each.
        squares: Of the squares of those values.
        measures: Name to value, in thousandths.
    """

    format: str
    width: int
    height: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    measures: dict[str, int]


def measure(encoded: bytes) -> Picture | None:
    """Decodes an image once and measures it.

    Brightness is the mean and contrast the standard deviation of the luma (ITU-R BT.601, 0 to 255),
    sharpness the variance of its Laplacian (Pech-Pacheco et al., ICPR 2000), with mirrored borders.

    Args:
        encoded: The bytes of an image file.

    Returns:
        What is known of it, or None for what Pillow cannot decode.
    """
    try:
        # Ingest has decided about what Pillow warns of.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded)) as image:
            image.load()
            kind = (image.format or "").lower()
            picture = image if image.mode in ("L", "RGB") else image.convert("RGB")
    # Pillow's decoders raise these on files that are cut or altered.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error):
        return None
    luma = picture if picture.mode == "L" else picture.convert("L")
    counts = luma.histogram()
    if luma is not picture:
        counts += picture.histogram()
    (light, squared_light), *channels = (
        np.array(counts, np.int64).reshape(-1, _LEVELS) @ _POWERS
    ).tolist()
    channels = channels or [(light, squared_light)] * 3
    width, height = picture.size
    pixels = width * height
    return Picture(
        "jpeg" if kind == "mpo" else kind,
        width,
        height,
        tuple(total for total, _ in channels),
        tuple(squares for _, squares in channels),
        {
            ASPECT_RATIO: round(SCALE * width / height),
            BYTES: SCALE * len(encoded),
            BRIGHTNESS: round(SCALE * light / pixels),
            CONTRAST: round(SCALE * math.sqrt(variance(pixels, light, squared_light))),
            SHARPNESS: round(SCALE * variance(pixels, *_laplacian(np.asarray(luma)))),
        },
    )


def variance(count: int, total: int, squares: int) -> float:
    """Returns the population variance of integers from their number, sum and sum of squares."""
    # Exact in integers: no cancellation between large sums.
    return (squares * count - total**2) / count**2


def _laplacian(luma: np.ndarray) -> tuple[int, int]:
    """Returns the sum of the Laplacian of uint8 (height, width) and the sum of its squares."""
    height, width = luma.shape
    mirrored = np.empty((height + 2, width + 2), np.uint8)
    mirrored[1:-1, 1:-1] = luma
    # The neighbour beyond the border is the one before it; of a single line, that line.
    mirrored[0, 1:-1], mirrored[-1, 1:-1] = luma[min(1, height - 1)], luma[max(height - 2, 0)]
    mirrored[1:-1, 0], mirrored[1:-1, -1] = luma[:, min(1, width - 1)], luma[:, max(width - 2, 0)]
    rows = max(1, _STRIP_PIXELS // width)  # a strip and what is computed of it stay in the cache
    total = squares = 0
    for top in range(0, height, rows):
        strip = mirrored[top : top + rows + 2].astype(np.int16)
        found = strip[:-2, 1:-1] + strip[2:, 1:-1]
        found += strip[1:-1, :-2]
        found += strip[1:-1, 2:]
        found -= strip[1:-1, 1:-1] << 2
        total += int(found.sum(dtype=np.int64))
        squares += int(np.square(found, dtype=np.int32).sum(dtype=np.int64))
    return total, squares
