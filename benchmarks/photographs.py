"""Photographs that are made up, with as much detail as real ones have."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

_CLASSES = 10


def make(folder: Path, images: int, height: int, width: int) -> None:
    """Writes `images` JPEG files in class folders below `folder`, all different."""
    random = np.random.default_rng(0)
    for number in range(images):
        # Noise at every scale, as in photographs: about 40 kB at 384 by 512 pixels.
        pixels = np.zeros((height, width, 3))
        for scale in (4, 16, 64):
            small = random.normal(
                0, 5 * scale**0.6, (max(1, height // scale), max(1, width // scale), 3)
            )
            layer = [
                np.asarray(
                    Image.fromarray(small[..., c].astype(np.float32)).resize(
                        (width, height), Image.Resampling.BICUBIC
                    )
                )
                for c in range(3)
            ]
            pixels += np.stack(layer, axis=-1)
        picture = Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8))
        path = folder / f"class{number % _CLASSES}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        path.write_bytes(buffer.getvalue())
