"""RandAugment on a whole batch: each image has operations of its own."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_resnet._validation import check_integer
from keras_resnet.recipes import colour, geometry

_STRONG = 10.0
_TURN, _SHEAR, _TRANSLATION = math.radians(30.0), 0.3, 0.45
# Half the side of a cutout, 40 pixels of images of 224.
_CUTOUT = 40 / 224
OPERATIONS = (
    *("autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add"),
    *("brightness", "contrast", "colour", "sharpness"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y", "cutout"),
)


@dataclass(frozen=True)
class Layer:
    """The operation of each image in one of RandAugment's layers, float32 or int32 `(examples,)`.

    Args:
        operation: Index in `OPERATIONS`; -1 where there is none.
        level: Magnitude, 10 is strong.
        sign: 1 or -1.
    """

    operation: Any
    level: Any
    sign: Any

    def has(self, name: str) -> Any:
        """Returns which images have an operation."""
        return ops.equal(self.operation, OPERATIONS.index(name))


@dataclass(frozen=True)
class RandAugment:
    """Random operations of one strength: Pillow's colour operations, and affine ones.

    The affine ones of all layers go first, as one map with a single interpolation, and the colour
    operations follow in their order.

    Args:
        operations: Operations for each image, drawn with replacement.
        magnitude: Their strength; 10 is strong: 30 degrees, shears of 0.3, shifts of 0.45 of the
            image, colours multiplied with 0.1 or 1.9.
        std: Standard deviation of the strength between operations; it then stays from 0 to 10.
        probability: Probability of each operation; without it the image is left alone.
        increasing: Whether every operation is stronger with more magnitude, and there is no cutout
            (timm's `inc1`); in the other form, that of the authors, posterize, solarize and the
            multiplications of colours run over their whole range.

    Raises:
        ValueError: If `operations` is not a positive integer.

    Reference:
        - [Cubuk et al., 2019, section 3](https://arxiv.org/abs/1909.13719)
    """

    operations: int = 2
    magnitude: float = 9.0
    std: float = 0.0
    probability: float = 1.0
    increasing: bool = True

    def __post_init__(self) -> None:
        check_integer("operations", self.operations, minimum=0)

    def draw(self, draws: Any) -> list[Layer]:
        """Returns what happens to each image."""
        kinds = len(OPERATIONS) - (1 if self.increasing else 0)
        layers = []
        for number in range(self.operations):
            name = f"rand_augment_{number}"
            chosen = ops.cast(draws.uniform(f"{name}_operation") * kinds, "int32")
            applied = draws.uniform(f"{name}_apply") < self.probability
            sign = ops.where(draws.uniform(f"{name}_sign") < 0.5, -1.0, 1.0)
            level = ops.full_like(sign, self.magnitude)
            if self.std:
                noise = self.std * colour.normal(draws, f"{name}_level")
                level = ops.clip(level + noise, 0.0, _STRONG)
            layers.append(Layer(ops.where(applied, chosen, -1), level, sign))
        return layers

    def moved(
        self, rows: Any, columns: Any, layers: list[Layer], height: int, width: int
    ) -> tuple[Any, Any]:
        """Returns where pixels come from, float32 `(examples, rows, columns)`.

        Args:
            rows: Where they came from before, float32.
            columns: The same.
            layers: What happens to each image.
            height: Of the images, in pixels.
            width: The same.
        """
        for layer in reversed(layers):
            strength = layer.sign * layer.level / _STRONG

            def by(name: str, most: float, layer: Layer = layer, strength: Any = strength) -> Any:
                return ops.where(layer.has(name), strength * most, 0.0)[:, None, None]

            angle = by("rotate", _TURN)
            cosine, sine = ops.cos(angle), ops.sin(angle)
            across, along = by("shear_x", _SHEAR), by("shear_y", _SHEAR)
            # Pillow turns about the centre, and shears about the corner.
            middle, centre = (height - 1) / 2, (width - 1) / 2
            down, right = rows - middle, columns - centre
            rows, columns = (
                middle
                + cosine * down
                + sine * right
                + along * (columns + 0.5)
                + by("translate_y", _TRANSLATION * height),
                centre
                + cosine * right
                - sine * down
                + across * (rows + 0.5)
                + by("translate_x", _TRANSLATION * width),
            )
        return rows, columns

    def recoloured(self, images: Any, layers: list[Layer], draws: Any, fill: Any) -> Any:
        """Returns images with their colours changed, whole numbers from 0 to 255, float32.

        Args:
            images: float32 `(examples, height, width, channels)`.
            layers: What happens to each image.
            draws: Random numbers.
            fill: Colour of cutouts.

        Raises:
            ValueError: If there are neither 1 nor 3 channels.
        """
        images = ops.clip(ops.round(images), 0.0, 255.0)
        for number, layer in enumerate(layers):
            place = None if self.increasing else draws.uniform(f"rand_augment_{number}_place", 2)

            # What goes into a conditional XLA computes once, and not again for each of its uses.
            def recoloured(layer: Layer = layer, images: Any = images, place: Any = place) -> Any:
                return self._recoloured(images, layer, place, fill)

            images = ops.cond(ops.any(layer.operation >= 0), recoloured, lambda kept=images: kept)
        return images

    def _recoloured(self, images: Any, layer: Layer, place: Any, fill: Any) -> Any:
        """Returns images after the operations of one layer."""
        blended = self._blended(images, layer)
        looked_up = _look_up(images, self._table(images, layer))
        blends = ops.logical_or(layer.has("colour"), layer.has("sharpness"))
        images = ops.where(blends[:, None, None, None], blended, looked_up)
        return images if place is None else self._cut_out(images, layer, place, fill)

    def _factor(self, layer: Layer) -> Any:
        share = layer.level / _STRONG
        if self.increasing:
            return ops.maximum(0.1, 1 + layer.sign * 0.9 * share)
        return 1.8 * share + 0.1

    def _blended(self, images: Any, layer: Layer) -> Any:
        """Returns images with another colour or sharpness."""
        plain = ops.where(
            layer.has("colour")[:, None, None, None],
            ops.floor(colour.grey(images) + 0.5),
            _smoothed(images),
        )
        factor = self._factor(layer)[:, None, None, None]
        return ops.floor(ops.clip(plain + factor * (images - plain), 0.0, 255.0))

    def _table(self, images: Any, layer: Layer) -> Any:
        """Returns what each value of each channel becomes, `(examples, channels, 256)`."""
        values = ops.arange(256, dtype="float32")[None, None]
        share = (layer.level / _STRONG)[:, None, None]
        least = ops.min(images, axis=(1, 2))[:, :, None]
        greatest = ops.max(images, axis=(1, 2))[:, :, None]
        spread = ops.where(greatest > least, greatest - least, 255.0)
        least = ops.where(greatest > least, least, 0.0)
        lost_bits = 8 - ops.floor(share * 4)
        threshold = ops.floor(share * 256)
        if self.increasing:
            lost_bits, threshold = 4 + ops.floor(share * 4), 256 - threshold
        step = ops.power(2.0, lost_bits)
        mean = ops.floor(ops.mean(colour.grey(images), axis=(1, 2, 3)) + 0.5)[:, None, None]
        factor = self._factor(layer)[:, None, None]
        changed = {
            "autocontrast": ops.floor((values - least) * (255.0 / spread) + 1e-3),
            "equalize": _equalized(images),
            "invert": 255 - values,
            "posterize": ops.floor(values / step) * step,
            "solarize": ops.where(values < threshold, values, 255 - values),
            "solarize_add": ops.where(values < 128, values + ops.floor(share * 110), values),
            "brightness": ops.floor(factor * values + 1e-3),
            "contrast": ops.floor(mean + factor * (values - mean) + 1e-3),
        }
        table = ops.broadcast_to(values, (*ops.shape(images)[:1], images.shape[-1], 256))
        for name, after in changed.items():
            table = ops.where(layer.has(name)[:, None, None], after, table)
        return ops.clip(table, 0.0, 255.0)

    def _cut_out(self, images: Any, layer: Layer, place: Any, fill: Any) -> Any:
        height, width = images.shape[1:3]
        side = 2 * _CUTOUT * layer.level / _STRONG
        side = ops.where(layer.has("cutout"), side, 0.0) * min(height, width)
        sides = ops.stack([side / height, side / width], axis=-1)
        mask, _ = geometry.box(place, sides, height, width)
        return ops.where(mask, geometry.colour(fill, images), images)


def _look_up(images: Any, table: Any) -> Any:
    """Returns what each pixel becomes by the table of its image and channel."""
    places = _first_values(images) + ops.cast(images, "int32")
    return ops.take(ops.reshape(table, (-1,)), places, axis=0)


def _smoothed(images: Any) -> Any:
    """Returns what Pillow's SMOOTH makes of images: 3×3 means, the middle counted five times.

    The pixels at the edges stay as they are.
    """
    height, width = images.shape[1:3]
    padded = ops.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * images
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    is_inner = (rows % (height - 1) > 0) & (columns % (width - 1) > 0)
    return ops.where(ops.convert_to_tensor(is_inner), ops.floor(sums / 13 + 0.5), images)


def _equalized(images: Any) -> Any:
    """Returns the table that spreads the values of each channel evenly, as Pillow's `equalize`."""
    counts = histogram(images)
    present = counts > 0
    values = ops.arange(256, dtype="int32")
    last = ops.max(ops.where(present, values, -1), axis=-1, keepdims=True)
    in_last = ops.sum(ops.where(ops.equal(values, last), counts, 0.0), axis=-1, keepdims=True)
    pixels = float(images.shape[1] * images.shape[2])
    step = ops.floor((pixels - in_last) / 255)
    below = ops.cumsum(counts, axis=-1) - counts
    even = ops.floor((ops.floor(step / 2) + below) / ops.maximum(step, 1.0))
    return ops.where(step > 0, even, ops.cast(values, "float32"))


def histogram(images: Any) -> Any:
    """Returns how often each value from 0 to 255 comes in each channel of each image.

    Args:
        images: Whole numbers from 0 to 255, float32 `(examples, height, width, channels)`.

    Returns:
        float32 `(examples, channels, 256)`.
    """
    channels = images.shape[-1]
    places = ops.cast(images, "int32") + _first_values(images)
    counted = ops.segment_sum(
        ops.ones_like(ops.reshape(images, (-1,))),
        ops.reshape(places, (-1,)),
        num_segments=ops.shape(images)[0] * channels * 256,
    )
    return ops.reshape(counted, (-1, channels, 256))


def _first_values(images: Any) -> Any:
    """Returns where each channel begins in a flat table of the 256 values of each, int32."""
    channels = images.shape[-1]
    examples = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None, None]
    return 256 * (examples * channels + ops.arange(channels, dtype="int32"))
