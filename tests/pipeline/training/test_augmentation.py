import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from scipy.stats import kstest

from keras_resnet.recipes import Augmentation
from pipeline.training.draws import Draws
from tests.pipeline import builders

_IMAGES = np.stack([builders.noise(n, 8, 10) for n in range(12)])
_TARGETS = np.eye(12, dtype=np.float32)


def augment(augmentation, places=range(12), step=0, seed=0):
    places = np.array(places, np.int64)
    draws = Draws(seed, tf.constant(step, tf.int64), tf.constant(places), 12)
    images, targets = augmentation(_IMAGES[places], _TARGETS[places], draws)
    np.testing.assert_array_equal(targets, _TARGETS[places])
    return images.numpy() if tf.is_tensor(images) else images


def test_without_anything_to_do_images_stay_as_they_are():
    np.testing.assert_array_equal(augment(Augmentation()), _IMAGES)
    still = compiled(Augmentation(rotation=0.4, zoom=0.4), Fixed(rotation=0.5, zoom=0.5))
    np.testing.assert_array_equal(still, _IMAGES)


def test_shifted_images_are_parts_of_the_mirrored_border():
    wide = np.pad(_IMAGES, [(0, 0), (3, 3), (3, 3), (0, 0)], "symmetric")
    places = []
    for step in range(6):
        for number, image in enumerate(augment(Augmentation(shift=3), step=step)):
            found = [
                (down, right)
                for down in range(7)
                for right in range(7)
                if (wide[number, down : down + 8, right : right + 10] == image).all()
            ]
            assert len(found) == 1 and image.dtype == np.uint8
            places += found
    assert {down for down, _ in places} == {right for _, right in places} == set(range(7))


def test_half_of_the_images_are_mirrored():
    flipped = 0
    for step in range(20):
        for number, image in enumerate(augment(Augmentation(flip=True), step=step)):
            mirrored = (image == _IMAGES[number, :, ::-1]).all()
            assert mirrored or (image == _IMAGES[number]).all()
            flipped += mirrored
    assert 90 < flipped < 150


class Fixed:
    """Draws that are always the same."""

    def __init__(self, **values):
        self._values = values

    def uniform(self, name, *shape):
        value = np.asarray(self._values[name], np.float32)
        return tf.broadcast_to(tf.reshape(value, (1, -1) + (1,) * (len(shape) - 1)), (12, *shape))


def compiled(augmentation, draws, images=_IMAGES):
    """What the loop makes of images: there XLA compiles it."""
    call = tf.function(lambda pixels: augmentation(pixels, _TARGETS, draws)[0], jit_compile=True)
    return call(tf.constant(images)).numpy()


@pytest.mark.parametrize("turn", [0.03, 0.2, -0.4])
def test_images_are_turned_as_keras_turns_them(turn):
    expected = keras.layers.RandomRotation((turn, turn))(_IMAGES.astype(np.float32), training=True)
    found = compiled(
        Augmentation(rotation=2 * abs(turn)), Fixed(rotation=0.5 + np.sign(turn) / 4, zoom=0.1)
    )
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert found.dtype == np.float32


@pytest.mark.parametrize("change", [0.1, -0.3, 0.45])
def test_images_are_made_larger_and_smaller_as_keras_does_it(change):
    expected = keras.layers.RandomZoom((change, change))(_IMAGES.astype(np.float32), training=True)
    found = compiled(
        Augmentation(zoom=2 * abs(change)), Fixed(zoom=0.5 + np.sign(change) / 4, rotation=0.9)
    )
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_quarter_turn_is_to_the_left():
    square = np.stack([builders.noise(n, 9, 9) for n in range(12)])
    found = compiled(Augmentation(rotation=0.5), Fixed(rotation=0.75, zoom=0.0), square)
    np.testing.assert_allclose(found, np.rot90(square, axes=(1, 2)), atol=0.01)


@pytest.mark.parametrize("flipped", [False, True])
def test_everything_together_is_one_affine_map(flipped):
    """Shifted first, then mirrored, then turned and zoomed, and interpolated once."""
    augmentation = Augmentation(shift=3, flip=True, rotation=0.1, zoom=0.4)
    draws = Fixed(shift=[0.99, 0.3], flip=0.49 if flipped else 0.5, rotation=0.9, zoom=0.2)
    found = compiled(augmentation, draws)
    angle, scale, by = 0.08 * 2 * np.pi, 1 - 0.24, np.array([3, -1])
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    mirror = np.diag([1, -1 if flipped else 1])
    centre = np.array([3.5, 4.5])
    matrix = mirror @ turn
    offset = centre + by - matrix @ centre
    for image, expected in zip(found, _IMAGES.astype(np.float64), strict=True):
        for channel in range(3):
            reference = ndimage.affine_transform(
                expected[..., channel], matrix, offset, order=1, mode="reflect"
            )
            np.testing.assert_allclose(image[..., channel], reference, atol=0.02)


def test_angles_and_sizes_are_spread_over_what_is_allowed():
    """Each pixel tells the place that it is from."""
    rows, columns = np.mgrid[:31, :31].astype(np.float32) - 15
    images = np.stack(12 * [np.stack([rows, columns, 0 * rows], axis=-1)])
    augmentation = Augmentation(rotation=0.1, zoom=0.3)

    @tf.function(jit_compile=True)
    def call(step):
        return augmentation(images, _TARGETS, Draws(0, step, tf.range(12, dtype=tf.int64), 12))[0]

    moved = np.concatenate([call(tf.constant(step, tf.int64)) for step in range(40)])
    down, right = np.moveaxis(moved[:, 15, 18, :2] / 3, -1, 0)  # near the centre
    turns, sizes = np.arctan2(-down, right) / (2 * np.pi), np.hypot(down, right)
    for values, least, greatest in ((turns, -0.1, 0.1), (sizes, 0.7, 1.3)):
        assert least <= values.min() < 0.95 * least + 0.05 * greatest
        assert greatest >= values.max() > 0.05 * least + 0.95 * greatest
        assert kstest(values, "uniform", (least, greatest - least)).pvalue > 1e-3
    assert abs(np.corrcoef(turns, sizes)[0, 1]) < 0.15


@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [11, 3]])
@pytest.mark.parametrize("more", [{}, {"rotation": 0.2, "zoom": 0.3}])
def test_an_image_is_changed_the_same_whichever_replica_has_it(places, more):
    augmentation = Augmentation(shift=2, flip=True, **more)
    np.testing.assert_allclose(
        augment(augmentation, places, step=7),
        augment(augmentation, step=7)[places],
        atol=1e-3 if more else 0,
    )


def test_steps_seeds_and_uses_draw_other_numbers():
    def draw(seed=0, step=0, name="one"):
        places = tf.range(12, dtype=tf.int64)
        draws = Draws(seed, tf.constant(step, tf.int64), places, 12)
        return draws.uniform(name, 2).numpy()

    base = draw()
    assert base.shape == (12, 2)
    assert ((base >= 0) & (base < 1)).all()
    np.testing.assert_array_equal(base, draw())
    for other in (draw(seed=1), draw(step=1), draw(name="two")):
        assert not (other == base).any()
