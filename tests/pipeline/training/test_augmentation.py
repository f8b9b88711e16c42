import numpy as np
import pytest
import tensorflow as tf

from pipeline.training.augmentation import Augmentation, Draws
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
            assert len(found) == 1
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


@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [11, 3]])
def test_an_image_is_changed_the_same_whichever_replica_has_it(places):
    augmentation = Augmentation(shift=2, flip=True)
    np.testing.assert_array_equal(
        augment(augmentation, places, step=7), augment(augmentation, step=7)[places]
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
