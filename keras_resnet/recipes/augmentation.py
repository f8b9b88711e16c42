"""What training images go through on the device: for the whole batch at once, and repeatable."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from keras import ops

from keras_resnet._validation import check_choice
from keras_resnet.recipes import colour, geometry, mixing
from keras_resnet.recipes.geometry import PADDINGS
from keras_resnet.recipes.rand_augment import RandAugment

# Zhong et al., 2020, section 5.2: share of the image, and height by width.
_ERASED_AREA = (0.02, 0.4)
_ERASED_RATIO = (0.3, 1 / 0.3)


class Numbers(Protocol):
    """Where an augmentation has its random numbers from."""

    def uniform(self, name: str, *shape: int) -> Any:
        """Returns float32 numbers in [0, 1) of shape `(examples, *shape)`, by use."""


@dataclass(frozen=True)
class Augmentation:
    """Changes training images at random, with `keras.ops` alone.

    Flips and shifts alone move pixels and change none. Crops, rotation, zoom and the geometric
    operations of RandAugment are one affine map together with them, and pixels are interpolated
    once, bilinearly. Then come colours, in this order: RandAugment, brightness, contrast,
    saturation, lighting; then erasing, and MixUp or CutMix of neighbours. It is meant to be
    compiled: XLA makes one loop of it.

    Args:
        shift: Images are shifted by up to so many pixels each way.
        flip: Whether images are mirrored left to right, each with probability 1/2.
        rotation: Images are turned by up to so large a fraction of the full turn each way.
        zoom: Images are made larger or smaller by up to so large a fraction of their size.
        padding: What comes in from outside: `"mirror"` the image with its edge twice, `"reflect"`
            with its edge once, `"constant"` the colour `fill`, as with RandAugment always.
        fill: A colour from 0 to 255, a number or one for each channel.
        crop: Least and greatest share of the image in a random part of it; None for the whole.
        crop_ratio: Least and greatest width of that part by its height.
        size: Height and width of the images that come out of it; None for those that go in.
        rand_augment: RandAugment; None for none.
        brightness: Colours are multiplied with 1 plus or minus up to so much.
        contrast: Their difference from the image's mean grey is.
        saturation: Their difference from the pixel's own grey is.
        lighting: Standard deviation of the shifts along the principal components of the colours
            of ImageNet, in units of the components' own.
        erasing: Probability that a rectangle is filled with `fill`.
        mixup: α of MixUp; 0 for none.
        cutmix: α of CutMix; 0 for none.
        mix_probability: Probability that a pair is mixed.
        switch_probability: Probability of CutMix where there are both.

    Reference:
        - [He et al., 2015, section 4.2](https://arxiv.org/abs/1512.03385): shift and flip
        - [Szegedy et al., 2015, section 6](https://arxiv.org/abs/1409.4842): crops
        - [Krizhevsky et al., 2012, section 4.1](https://papers.nips.cc/paper/4824): lighting
        - [Zhong et al., 2020](https://arxiv.org/abs/1708.04896): erasing
    """

    shift: int = 0
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    padding: str = "mirror"
    fill: float | tuple[float, ...] = 128.0
    crop: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    size: tuple[int, int] | None = None
    rand_augment: RandAugment | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    lighting: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, PADDINGS)

    @property
    def interpolates(self) -> bool:
        """Whether images consist of new pixels after they have been moved."""
        return bool(self.rotation or self.zoom or self.crop or self.size or self.rand_augment)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs."""
        return bool(self.mix_probability and (self.mixup or self.cutmix))

    def __call__(self, images: Any, targets: Any, draws: Numbers) -> tuple[Any, Any]:
        """Returns changed images and what the network is to say of them.

        Args:
            images: uint8 or float32 of shape (examples, height, width, channels), from 0 to 255.
            targets: Probabilities, float32 of shape (examples, classes).
            draws: Random numbers of these examples.

        Returns:
            Images of the same type where they are only shifted and flipped, float32 otherwise; and
            targets.

        Raises:
            ValueError: If images are to be mixed and their number is odd, or a change of colours
                needs other channels.
        """
        images, layers = self._moved(images, draws)
        if self.rand_augment:
            images = self.rand_augment.recoloured(images, layers, draws, self.fill)
        if self.brightness or self.contrast or self.saturation:
            images = colour.jittered(images, draws, self.brightness, self.contrast, self.saturation)
        if self.lighting:
            images = colour.lit(images, draws, self.lighting)
        if self.erasing:
            images = self._erased(images, draws)
        if self.mixes:
            images, targets = mixing.mix(
                ops.cast(images, "float32"),
                targets,
                draws,
                self.mixup,
                self.cutmix,
                self.mix_probability,
                self.switch_probability,
            )
        return images, targets

    def _moved(self, images: Any, draws: Numbers) -> tuple[Any, list]:
        """Returns images with their pixels in other places, and RandAugment's draws."""
        if not (self.shift or self.interpolates):
            if self.flip:  # which takes half as long as to look up where each pixel comes from
                flipped = draws.uniform("flip", 1, 1, 1) < 0.5
                images = ops.where(flipped, ops.flip(images, axis=2), images)
            return images, []
        # Where each pixel comes from, with a size of 1 along the axes where that is the same.
        height, width = images.shape[1:3]
        tall, wide = self.size or (height, width)
        rows = ops.arange(tall, dtype="int32")[None, :, None]
        columns = ops.arange(wide, dtype="int32")[None, None]
        layers = []
        if self.interpolates:
            rows = _to_scale(rows, tall, height)
            columns = _to_scale(columns, wide, width)
            if self.rand_augment:
                layers = self.rand_augment.draw(draws)
                rows, columns = self.rand_augment.moved(rows, columns, layers, height, width)
            if self.rotation or self.zoom:
                rows, columns = self._turned(rows, columns, height, width, draws)
        if self.flip:
            flipped = draws.uniform("flip", 1, 1) < 0.5
            columns = ops.where(flipped, width - 1 - columns, columns)
        if self.shift:
            by = draws.uniform("shift", 2, 1, 1) * (2 * self.shift + 1)
            by = ops.cast(ops.cast(by, "int32") - self.shift, rows.dtype)
            rows, columns = rows + by[:, 0], columns + by[:, 1]
        padding = "constant" if self.rand_augment else self.padding
        inside = None
        if padding == "constant" and (self.shift or self.rotation or self.zoom or layers):
            inside = geometry.inside(rows, columns, height, width)[..., None]
        if self.crop:
            rows, columns = self._cropped(rows, columns, height, width, draws)
        fetch = geometry.interpolated if self.interpolates else geometry.pixels
        found = fetch(images, rows, columns, padding)
        if inside is not None:
            found = ops.where(inside, found, geometry.colour(self.fill, found))
        return found, layers

    def _turned(
        self, rows: Any, columns: Any, height: int, width: int, draws: Numbers
    ) -> tuple[Any, Any]:
        """Returns where the pixels of turned and zoomed images come from, float32."""
        angle = 2 * math.pi * self.rotation * (2 * draws.uniform("rotation", 1, 1) - 1)
        scale = 1 + self.zoom * (2 * draws.uniform("zoom", 1, 1) - 1)
        cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
        middle, centre = (height - 1) / 2, (width - 1) / 2
        down, right = rows - middle, columns - centre
        return middle + cosine * down + sine * right, centre + cosine * right - sine * down

    def _cropped(
        self, rows: Any, columns: Any, height: int, width: int, draws: Numbers
    ) -> tuple[Any, Any]:
        """Returns where pixels come from that fill the image with a part of it.

        A part that would be longer than the image ends at its edge.
        """
        least, greatest = self.crop
        low, high = (math.log(ratio) for ratio in self.crop_ratio)
        area = least + (greatest - least) * draws.uniform("crop_area", 1, 1)
        shape = ops.exp(low + (high - low) * draws.uniform("crop_ratio", 1, 1)) * height / width
        tall = ops.minimum(ops.sqrt(area / shape), 1.0)
        wide = ops.minimum(ops.sqrt(area * shape), 1.0)
        where = draws.uniform("crop_place", 2, 1, 1)
        top, left = where[:, 0] * (1 - tall) * height, where[:, 1] * (1 - wide) * width
        return (rows + 0.5) * tall + top - 0.5, (columns + 0.5) * wide + left - 0.5

    def _erased(self, images: Any, draws: Numbers) -> Any:
        height, width = images.shape[1:3]
        area = _between(draws.uniform("erase_area"), *_ERASED_AREA)
        ratio = ops.exp(
            _between(draws.uniform("erase_ratio"), *(math.log(edge) for edge in _ERASED_RATIO))
        )
        sides = ops.stack(
            [ops.sqrt(area * ratio * width / height), ops.sqrt(area / ratio * height / width)],
            axis=-1,
        )
        sides = ops.minimum(sides, 1.0)
        centre = sides / 2 + draws.uniform("erase_place", 2) * (1 - sides)
        sides = ops.where(draws.uniform("erase", 1) < self.erasing, sides, 0.0)
        mask, _ = geometry.box(centre, sides, height, width)
        return ops.where(mask, geometry.colour(self.fill, images), images)


def _to_scale(places: Any, size: int, original: int) -> Any:
    """Returns where pixels of an image of another size are on the original, float32."""
    places = ops.cast(places, "float32")
    return places if size == original else (places + 0.5) * (original / size) - 0.5


def _between(uniform: Any, least: float, greatest: float) -> Any:
    return least + (greatest - least) * uniform
