"""What images go through, on every backend; against NumPy, SciPy and the papers' code."""

import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from keras_resnet import _backend, recipes
from keras_resnet.recipes import Augmentation, RandAugment
from keras_resnet.recipes.draws import Draws
from tests.keras_resnet.recipes.numbers import Chosen, computed

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)
_PADS = {"mirror": "symmetric", "reflect": "reflect"}


def changed(augmentation, draws, images=_IMAGES):
    return computed(lambda pixels: augmentation(pixels, None, draws)[0], images)


@pytest.mark.parametrize("padding", recipes.geometry.PADDINGS)
def test_a_shift_is_to_pad_and_crop(padding):
    """As the papers do on CIFAR: mirrored, reflected, or with the mean's colour outside."""
    fill = (3.0, 100.4, 250.0)
    places = np.stack([_RANDOM.integers(0, 7, 12), _RANDOM.integers(0, 7, 12)], axis=1)
    draws = Chosen(12, shift=((places + 0.5) / 7).reshape(12, 2, 1, 1), flip=0.9)
    found = changed(Augmentation(shift=3, flip=True, padding=padding, fill=fill), draws)
    assert found.dtype == np.uint8
    border = [(0, 0), (3, 3), (3, 3), (0, 0)]
    if padding in _PADS:
        wide = np.pad(_IMAGES, border, _PADS[padding])
    else:
        wide = np.empty((12, 14, 16, 3), np.uint8)
        wide[:] = np.rint(fill)
        wide[:, 3:-3, 3:-3] = _IMAGES
    for image, large, (top, left) in zip(found, wide, places, strict=True):
        np.testing.assert_array_equal(image, large[top : top + 8, left : left + 10])


@pytest.mark.parametrize("area", [0.25, 0.49])
def test_a_crop_fills_the_image_with_a_part_of_it(area):
    ramp = np.stack(np.mgrid[:20, :30], axis=-1).astype("float32")[None].repeat(2, 0)
    draws = Chosen(2, crop_area=0.0, crop_ratio=0.5, crop_place=0.5)
    crop = Augmentation(crop=(area, 1.0), crop_ratio=(2 / 3, 3 / 2), size=(10, 12))
    found = changed(crop, draws, ramp)
    assert found.shape == (2, 10, 12, 2)
    side = np.sqrt(area * 20 * 30)  # square, in the middle, and of that area
    steps = [(np.arange(n) + 0.5) / n * side - side / 2 for n in (10, 12)]
    np.testing.assert_allclose(found[0, :, 0, 0], 9.5 + steps[0], atol=1e-4)
    np.testing.assert_allclose(found[0, 0, :, 1], 14.5 + steps[1], atol=1e-4)


def test_crops_stay_on_the_image_and_their_areas_within_the_range():
    """Each pixel tells where it is from, so what is outside would be seen."""
    ramp = np.stack(np.mgrid[:40, :40], axis=-1).astype("float32")[None].repeat(500, 0)
    found = changed(Augmentation(crop=(0.08, 1.0)), Chosen(500), ramp)
    spans = (found.max(axis=(1, 2)) - found.min(axis=(1, 2))) / 39
    areas, ratios = spans.prod(axis=1), spans[:, 1] / spans[:, 0]
    assert 0.07 < areas.min() < 0.12 and 0.85 < areas.max() <= 1.0
    assert 0.7 < ratios.min() < 0.78 and 1.28 < ratios.max() < 1.4
    assert found.min() >= 0 and found.max() <= 39


def test_all_that_moves_pixels_is_one_affine_map():
    """Crop, shift, flip, turn and RandAugment's shear, interpolated once, against SciPy."""
    augmentation = Augmentation(
        shift=2, flip=True, rotation=0.1, crop=(0.5, 1.0), crop_ratio=(1.0, 1.0),
        rand_augment=RandAugment(1, 10.0),
    )  # fmt: skip
    place = [[0.3], [0.8]]
    draws = Chosen(
        12,
        shift=np.array([0.9, 0.3]).reshape(2, 1, 1),
        flip=0.1,
        rotation=0.75,
        crop_area=0.0,
        crop_ratio=0.5,
        crop_place=np.reshape(place, (2, 1, 1)),
        rand_augment_0_operation=11.5 / 15,  # shear_x
        rand_augment_0_sign=0.9,
    )
    images = ndimage.gaussian_filter(_RANDOM.random((12, 16, 16, 3)) * 255, (0, 2, 2, 0))
    found = changed(augmentation, draws, images.astype("float32"))

    def affine(a, b, c, d, down, right):
        return np.array([[a, b, down], [c, d, right], [0, 0, 1]])

    middle = affine(1, 0, 0, 1, 7.5, 7.5)
    angle = 0.05 * 2 * np.pi
    turn = middle @ affine(np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle), 0, 0)
    turn = turn @ np.linalg.inv(middle)
    shear = affine(1, 0, 0.3, 1, 0, 0.15)
    mirror = affine(1, 0, 0, -1, 0, 15)
    shift = affine(1, 0, 0, 1, 2, -1)
    side = np.sqrt(0.5)
    first = np.ravel(place) * (1 - side) * 16 + 0.5 * side - 0.5
    crop = affine(side, 0, 0, side, *first)
    whole = crop @ shift @ mirror @ turn @ shear
    rows, columns = np.mgrid[:16, :16]
    outside = (
        shift @ mirror @ turn @ shear @ np.stack([rows, columns, np.ones((16, 16))]).reshape(3, -1)
    )
    is_inside = ((outside[:2] > -0.4) & (outside[:2] < 15.4)).all(axis=0).reshape(16, 16)
    assert 100 < is_inside.sum() < 250
    for image, original in zip(found, images, strict=True):
        for channel in range(3):
            reference = ndimage.affine_transform(
                original[..., channel], whole[:2, :2], whole[:2, 2], order=1, mode="nearest"
            )
            apart = np.abs(image[..., channel] - reference)[is_inside]
            assert apart.max() <= 0.51  # RandAugment's pixels are whole numbers


def test_brightness_contrast_and_saturation_are_those_of_fb_resnet_torch():
    augmentation = Augmentation(brightness=0.4, contrast=0.4, saturation=0.4)
    draws = Chosen(12, brightness=0.75, contrast=0.0, saturation=1.0)
    found = changed(augmentation, draws)
    expected = _IMAGES * 1.2
    luma = np.array([0.299, 0.587, 0.114])
    mean = (expected @ luma).mean(axis=(1, 2))[:, None, None, None]
    expected = 0.6 * expected + 0.4 * mean
    expected = 1.4 * expected - 0.4 * (expected @ luma)[..., None]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_lighting_shifts_along_the_principal_components_of_imagenet():
    images = np.zeros((4000, 1, 1, 3), "float32")
    shifts = changed(Augmentation(lighting=0.1), Chosen(4000), images)[:, 0, 0] / 255
    values, vectors = np.linalg.eigh(np.cov(shifts.T))
    np.testing.assert_allclose(
        np.sqrt(values[::-1]), 0.1 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.06
    )
    np.testing.assert_allclose(np.abs(vectors[:, 2]), [0.5675, 0.5808, 0.5836], atol=0.01)
    with pytest.raises(ValueError, match=r"needs images of 3 channels. Received: 1"):
        changed(Augmentation(lighting=0.1), Chosen(12), _IMAGES[..., :1])


def test_a_share_of_the_images_has_a_rectangle_erased():
    images = np.full((600, 32, 32, 3), 7, np.uint8)
    found = changed(Augmentation(erasing=0.4, fill=200.0), Chosen(600), images)
    erased = (found == 200).all(axis=-1)
    shares = erased.mean(axis=(1, 2))
    assert 0.33 < (shares > 0).mean() < 0.47
    assert shares[shares > 0].min() > 0.01 and shares.max() < 0.43
    for mask in erased[shares > 0][:50]:
        assert mask.sum() == mask.any(axis=1).sum() * mask.any(axis=0).sum()


def test_what_does_nothing_changes_nothing():
    np.testing.assert_array_equal(changed(Augmentation(), Chosen(12)), _IMAGES)
    with pytest.raises(ValueError, match="`padding` must be one of"):
        Augmentation(padding="zeros")


def test_draws_depend_on_seed_step_and_use_alone():
    draws = Draws(5)

    def numbers(draws, step, name="one"):
        return ops.convert_to_numpy(draws.at(step, 1000).uniform(name, 2))

    base = numbers(draws, 3)
    assert base.shape == (1000, 2) and base.dtype == np.float32
    assert 0 <= base.min() < 0.01 and 0.99 < base.max() < 1 and abs(base.mean() - 0.5) < 0.03
    np.testing.assert_array_equal(base, numbers(Draws(5), 3))
    compiled = _backend.jit(lambda step: draws.at(step, 1000).uniform("one", 2))
    assert compiled(np.array(3, np.int32)).shape == (1000, 2)
    others = numbers(draws, 4), numbers(Draws(6), 3), numbers(draws, 3, "two")
    for other in others:
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.1
