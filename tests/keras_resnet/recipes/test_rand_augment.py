"""RandAugment's operations against Pillow's, on real pictures."""

import numpy as np
import pytest
from keras import ops
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet.recipes import Augmentation, RandAugment
from keras_resnet.recipes.rand_augment import OPERATIONS
from tests.keras_resnet.recipes.numbers import Chosen, computed

_LEVEL = 7.0
_FILL = (10.0, 200.0, 30.0)


@pytest.fixture(scope="module")
def pictures(real_images):
    """Four photographs, 40 by 56 pixels of each."""
    with Image.open(min(real_images.glob("cifar10/test_batch_*.webp"))) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    parts = [pixels[40 * n : 40 * n + 40, 56 * n : 56 * n + 56] for n in range(4)]
    # One that is dull, so that contrast and equalization have something to do.
    parts[3] = (parts[3] // 3 + 60).astype(np.uint8)
    return np.stack(parts)


def pillow(name, picture, sign, increasing):
    """What Pillow makes of a picture at a level of 7."""
    image = Image.fromarray(picture)
    if increasing:
        factor = max(0.1, 1 + sign * 0.9 * 0.7)
        bits, threshold = 4 - 2, 256 - int(0.7 * 256)
    else:
        factor, bits, threshold = 1.8 * 0.7 + 0.1, 2, int(0.7 * 256)
    width, height = image.size
    affine = {
        "shear_x": (1, sign * 0.21, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * 0.21, 1, 0),
        "translate_x": (1, 0, sign * 0.315 * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * 0.315 * height),
    }
    look = {"resample": Image.Resampling.BILINEAR, "fillcolor": tuple(map(int, _FILL))}
    if name in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[name], **look)
    added = [min(255, value + int(0.7 * 110)) if value < 128 else value for value in range(256)]
    return {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: ImageOps.posterize(image, bits),
        "solarize": lambda: ImageOps.solarize(image, threshold),
        "solarize_add": lambda: image.point(added * 3),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "colour": lambda: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "rotate": lambda: image.rotate(
            sign * 21, Image.Resampling.BILINEAR, fillcolor=tuple(map(int, _FILL))
        ),
    }[name]()


def ours(cases, pictures, increasing, fill=_FILL):
    """Operations at the same level: one for each picture, by name and sign."""
    kinds = 15 if increasing else 16
    draws = Chosen(
        len(pictures),
        rand_augment_0_operation=[(OPERATIONS.index(name) + 0.5) / kinds for name, _ in cases],
        rand_augment_0_apply=0.0,
        rand_augment_0_sign=[0.25 if sign < 0 else 0.75 for _, sign in cases],
        rand_augment_0_place=0.5,
    )
    augmentation = Augmentation(
        rand_augment=RandAugment(1, _LEVEL, increasing=increasing), fill=fill
    )
    return computed(lambda images: augmentation(images, None, draws)[0], pictures)


@pytest.mark.parametrize("increasing", [True, False])
def test_operations_do_what_pillow_does(pictures, increasing):
    """All in one batch: each picture has an operation of its own."""
    cases = [(name, sign) for name in OPERATIONS[:-1] for sign in (-1, 1) for _ in pictures]
    batch = np.tile(pictures, (len(cases) // len(pictures), 1, 1, 1))
    found = ours(cases, batch, increasing)
    assert (found == np.rint(found)).all()
    for (name, sign), picture, mine in zip(cases, batch, found, strict=True):
        theirs = np.asarray(pillow(name, picture, sign, increasing), "float32")
        apart = np.abs(mine - theirs)
        # Pillow rounds coordinates of affine maps, which moves some edges by a pixel.
        allowed = 0.01 if name in OPERATIONS[10:] else 0.0
        assert (apart > 1).mean() <= allowed, (name, sign, apart.max())


def test_a_picture_of_one_colour_survives_operations_that_look_at_the_picture():
    names = ("autocontrast", "equalize", "contrast", "sharpness", "colour")
    flat = np.full((len(names), 9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(ours([(name, 1) for name in names], flat, True), flat)


def test_grey_images_of_one_channel_are_augmented_too():
    grey = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    found = ours([("invert", 1), ("colour", 1)], grey, True, 9.0)
    np.testing.assert_array_equal(found, np.stack([255.0 - grey[0], grey[1]]))
    with pytest.raises(ValueError, match=r"`fill` must be .* each of the 1 channels"):
        ours([("invert", 1)] * 2, grey, True)
    with pytest.raises(ValueError, match=r"1 or 3 channels. Received: 2"):
        ours([("contrast", 1)], np.zeros((1, 8, 8, 2), np.uint8), True, 9.0)


def test_the_cutout_of_the_authors_grows_with_the_magnitude():
    images = np.full((1, 224, 224, 3), 5, np.uint8)
    filled = (ours([("cutout", 1)], images, False) == _FILL).all(axis=-1)
    assert filled.sum() == 56**2  # 2 × 40 × 7/10 each way


def test_each_image_has_operations_of_its_own_as_often_as_asked():
    rand_augment = RandAugment(operations=3, magnitude=9.0, std=0.5, probability=0.5)
    layers = rand_augment.draw(Chosen(4000))
    assert len(layers) == 3
    for layer in layers:
        operation = ops.convert_to_numpy(layer.operation)
        level, sign = ops.convert_to_numpy(layer.level), ops.convert_to_numpy(layer.sign)
        assert 0.46 < (operation >= 0).mean() < 0.54
        counts = np.bincount(operation[operation >= 0], minlength=16)
        assert counts[15] == 0 and counts[:15].min() > 80
        assert level.max() == 10.0 and abs(np.median(level) - 9.0) < 0.05
        assert 0.4 < level[level < 9.9].std() < 0.6
        assert 0.46 < (sign > 0).mean() < 0.54


def test_without_an_operation_an_image_stays_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    draws = Chosen(4, rand_augment_0_apply=[0.9, 0.9, 0.9, 0.1], rand_augment_0_operation=0.15)
    augmentation = Augmentation(rand_augment=RandAugment(1, probability=0.5))
    found = computed(lambda pixels: augmentation(pixels, None, draws)[0], images)
    np.testing.assert_array_equal(found[:3], images[:3])
    np.testing.assert_array_equal(found[3], 255.0 - images[3])
