import numpy as np
import pytest
import tensorflow as tf

from pipeline.training.inputs import evaluation_batches, training_batches
from pipeline.training.preprocessing import Preprocessing
from tests.pipeline import builders

_EXPECTED = Preprocessing(height=6, width=6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def examples(number):
    """A dataset of flat pictures, each of the brightness that is its label."""
    files = [builders.encode(np.full((6, 6, 3), n, np.uint8)) for n in range(number)]
    dataset = tf.data.Dataset.from_tensor_slices((files, np.arange(number, dtype=np.int64)))
    return dataset


def test_training_sees_every_example_equally_often_in_full_batches():
    batches = training_batches(examples(10), _EXPECTED, 4, seed=1).take(5)
    labels = [label for _, found in batches.as_numpy_iterator() for label in found]
    assert len(labels) == 20
    assert sorted(labels[:10]) == sorted(labels[10:]) == list(range(10))
    assert labels[:10] != labels[10:]


def test_an_image_keeps_its_label():
    for images, labels in training_batches(examples(10), _EXPECTED, 4, seed=1).take(5):
        np.testing.assert_allclose(images[:, 0, 0, 0], tf.cast(labels, tf.float32))


def test_the_same_seed_gives_the_same_stream_and_another_one_another():
    def stream(seed):
        batches = training_batches(examples(10), _EXPECTED, 5, seed, random_shift=2).take(4)
        return np.concatenate([labels for _, labels in batches.as_numpy_iterator()])

    np.testing.assert_array_equal(stream(3), stream(3))
    assert (stream(3) != stream(4)).any()


def test_shifts_and_flips_move_pixels_and_differ_from_visit_to_visit():
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[2, 2] = 255
    dataset = tf.data.Dataset.from_tensor_slices(
        ([builders.encode(pixels)] * 8, np.zeros(8, np.int64))
    )
    batches = training_batches(dataset, _EXPECTED, 8, 0, random_shift=1, random_flip=True).take(8)
    places = {
        tuple(np.argwhere(image[..., 0] == 255)[0])
        for images, _ in batches.as_numpy_iterator()
        for image in images
    }
    # Rows 1 to 3; columns 1 to 3, and their mirror images 2 to 4.
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3, 4)}


@pytest.mark.parametrize("number", [1, 3, 4, 9])
def test_evaluation_sees_every_example_once_and_fills_up_with_weight_zero(number):
    batches = list(evaluation_batches(examples(number), _EXPECTED, 4).as_numpy_iterator())
    assert all(images.shape == (4, 6, 6, 3) for images, _, _ in batches)
    weights = np.concatenate([weights for _, _, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    assert len(weights) - number < 4
    np.testing.assert_array_equal(labels[weights == 1], np.arange(number))
