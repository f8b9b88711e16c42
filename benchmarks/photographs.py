"""Photographs that are made up, with as much detail as real ones have."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

_CLASSES = 10
_QUALITY = 90
# Noise at every scale, as in photographs, and the grain of a sensor. With it a file of 384 by 512
# pixels has about 57 kB, the mean of TrashNet's photographs of this size.
_SCALES = (4, 16, 64)
_GRAIN = 3.5


def make(folder: Path, images: int, height: int, width: int) -> None:
    """Writes `images` JPEG files in class folders below `folder`, all different."""
    random = np.random.default_rng(0)
    fields = [*(_field(random, scale, 2 * height, 2 * width) for scale in _SCALES)]
    fields.append(random.normal(0, _GRAIN, (2 * height, 2 * width, 1)).astype(np.float32))
    for number in range(images):
        # A window of each: making them anew for every picture would take ten times as long.
        pixels = np.full((height, width, 3), 128, np.float32)
        for field in fields:
            top, left = random.integers(height + 1), random.integers(width + 1)
            pixels += field[top : top + height, left : left + width]
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        path = folder / f"class{number % _CLASSES}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        path.write_bytes(buffer.getvalue())


def _field(random: np.random.Generator, scale: int, height: int, width: int) -> np.ndarray:
    """Returns smooth noise in which nothing is smaller than `scale` pixels."""
    shape = (max(1, height // scale), max(1, width // scale), 3)
    small = random.normal(0, 5 * scale**0.6, shape).astype(np.float32)
    layers = [
        Image.fromarray(small[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)
