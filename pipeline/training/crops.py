"""Parts of images, chosen before the images are decoded."""

import numpy as np

from pipeline.training.order import generator

# Separates these numbers from those of the order.
_STREAM = 100
_ATTEMPTS = 10


def boxes(
    sizes: np.ndarray,
    places: np.ndarray,
    seed: int,
    step: int,
    batch_size: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> np.ndarray:
    """Returns a random part of each image, of random area and shape.

    The first of ten draws that lies within the image counts; where none does, the largest centred
    part of an allowed shape.

    Args:
        sizes: Height and width of each image, shape (images, 2).
        places: Place of each image in the global batch.
        seed: With `step` and the place it determines the part.
        step: The number of the step, from 0.
        batch_size: Size of the global batch.
        area: Least and greatest share of the image's area.
        ratio: Least and greatest width divided by height.

    Returns:
        int32 of shape (images, 4): top, left, height, width, in pixels.

    Reference:
        - [Szegedy et al., 2015, section 6](https://arxiv.org/abs/1409.4842)
    """
    draws = generator(seed, _STREAM, step).random((batch_size, _ATTEMPTS, 4))[places]
    height, width = sizes[:, :1].astype(float), sizes[:, 1:].astype(float)
    wanted = height * width * (area[0] + draws[..., 0] * (area[1] - area[0]))
    low, high = np.log(ratio)
    shape = np.exp(low + draws[..., 1] * (high - low))
    tall = np.rint(np.sqrt(wanted / shape))
    wide = np.rint(np.sqrt(wanted * shape))
    fits = (tall >= 1) & (wide >= 1) & (tall <= height) & (wide <= width)
    chosen = np.arange(len(sizes)), fits.argmax(axis=1)
    # The whole image where its shape is allowed, else cut on its longer side.
    whole_tall = np.clip(np.rint(width[:, 0] / ratio[0]), 1, height[:, 0])
    whole_wide = np.clip(np.rint(height[:, 0] * ratio[1]), 1, width[:, 0])
    found = fits.any(axis=1)
    tall = np.where(found, tall[chosen], whole_tall)
    wide = np.where(found, wide[chosen], whole_wide)
    where = np.where(found[:, None], draws[chosen][:, 2:], 0.5)
    # Of n positions each has the same share of [0, 1).
    top = np.floor(where[:, 0] * (height[:, 0] - tall + 1))
    left = np.floor(where[:, 1] * (width[:, 0] - wide + 1))
    return np.stack([top, left, tall, wide], axis=1).astype(np.int32)


def centred(sizes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the largest centred part of each image that has a shape, as `preprocessing.resize`
    cuts it.

    Args:
        sizes: Height and width of each image, shape (images, 2).
        height: With `width` it gives the shape.
        width: Pixels, or anything else.

    Returns:
        int32 of shape (images, 4): top, left, height, width, in pixels.
    """
    whole_tall, whole_wide = sizes[:, 0].astype(np.int64), sizes[:, 1].astype(np.int64)
    tall = np.minimum(whole_tall, np.maximum(1, whole_wide * height // width))
    wide = np.minimum(whole_wide, np.maximum(1, whole_tall * width // height))
    top, left = (whole_tall - tall) // 2, (whole_wide - wide) // 2
    return np.stack([top, left, tall, wide], axis=1).astype(np.int32)
