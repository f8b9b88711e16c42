"""Changes of colour."""

import math
from typing import Any

import numpy as np
from keras import ops

# ITU-R 601, in the 16-bit integers that Pillow computes with.
_LUMA = (19595, 38470, 7471)
# Standard deviations and axes of the colours of ImageNet from 0 to 1, as fb.resnet.torch has them.
_DEVIATIONS = (0.2175, 0.0188, 0.0045)
_AXES = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def grey(images: Any) -> Any:
    """Returns the luma of colour images, `(examples, height, width, 1)`, float32; grey as it is.

    Raises:
        ValueError: If there are neither 1 nor 3 channels.
    """
    images = ops.cast(images, "float32")
    if images.shape[-1] == 1:
        return images
    require_colours(images, "contrast, saturation and RandAugment", (1, 3))
    luma = ops.convert_to_tensor(np.array(_LUMA, "float32") / (1 << 16))
    return ops.sum(images * luma, axis=-1, keepdims=True)


def require_colours(images: Any, what: str, allowed: tuple[int, ...]) -> None:
    """Raises ValueError unless images have an allowed number of channels."""
    if images.shape[-1] not in allowed:
        raise ValueError(
            f"{what} of the augmentation needs images of {' or '.join(map(str, allowed))} "
            f"channels. Received: {images.shape[-1]} channels; turn it off for these images."
        )


def jittered(images: Any, draws: Any, brightness: float, contrast: float, saturation: float) -> Any:
    """Returns images, float32, whose brightness, contrast and saturation are multiplied at random.

    Args:
        images: `(examples, height, width, channels)`.
        draws: Random numbers.
        brightness: Factors are 1 plus or minus up to so much.
        contrast: Moves colours from and to the mean grey of the image.
        saturation: Moves colours from and to the grey of the pixel.
    """
    images = ops.cast(images, "float32")

    def factor(name: str, most: float) -> Any:
        return 1 + most * (2 * draws.uniform(name, 1, 1, 1) - 1)

    if brightness:
        images = images * factor("brightness", brightness)
    if contrast:
        mean = ops.mean(grey(images), axis=(1, 2, 3), keepdims=True)
        images = mean + (images - mean) * factor("contrast", contrast)
    if saturation:
        own = grey(images)
        images = own + (images - own) * factor("saturation", saturation)
    return images


def lit(images: Any, draws: Any, deviation: float) -> Any:
    """Returns images, float32, with each image's colours shifted along the principal components.

    Args:
        images: `(examples, height, width, 3)`, from 0 to 255.
        draws: Random numbers.
        deviation: Of the shifts, in units of the standard deviations of ImageNet's colours.

    Raises:
        ValueError: If there are not 3 channels.

    Reference:
        - [Krizhevsky et al., 2012, section 4.1](https://papers.nips.cc/paper/4824)
    """
    require_colours(images, "lighting", (3,))
    axes = 255.0 * np.array(_AXES, "float32") * np.array(_DEVIATIONS, "float32")
    shifts = deviation * normal(draws, "lighting", 3)
    shift = ops.matmul(shifts, ops.convert_to_tensor(axes.T))
    return ops.cast(images, "float32") + shift[:, None, None]


def normal(draws: Any, name: str, *shape: int) -> Any:
    """Returns standard normal numbers, float32 `(examples, *shape)`, by Box and Muller."""
    first, second = draws.uniform(f"{name}_radius", *shape), draws.uniform(f"{name}_angle", *shape)
    return ops.sqrt(-2 * ops.log(1 - first)) * ops.cos(2 * math.pi * second)
