"""Batches for `fit`: order, normalization, targets."""

import dataclasses

import numpy as np
import pytest

from keras_resnet import recipes

# Each image is of one colour, its number.
_IMAGES = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 6, 6, 3)).copy()
_LABELS = np.arange(20) % 4
_PLAIN = recipes.Recipe(batch_size=6)


def numbers(batches, images):
    """Which images are in a batch."""
    return np.rint(images[:, 0, 0, 0] * batches.std[0] + batches.mean[0]).astype(int)


def test_every_epoch_has_every_image_once_in_another_order():
    batches = _PLAIN.batches(_IMAGES, _LABELS, batch_size=5)
    epochs = []
    for _ in range(2):
        found = [batches[index] for index in range(len(batches))]
        epochs.append(np.concatenate([numbers(batches, images) for images, _ in found]))
        for images, targets in found:
            assert images.dtype == targets.dtype == np.float32
            np.testing.assert_array_equal(targets, np.eye(4)[_LABELS[numbers(batches, images)]])
        batches.on_epoch_end()
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    again = _PLAIN.batches(_IMAGES, _LABELS, batch_size=5)
    np.testing.assert_array_equal(numbers(again, again[0][0]), epochs[0][:5])


def test_training_drops_what_is_left_over_and_evaluation_does_not():
    training = _PLAIN.batches(_IMAGES, _LABELS)
    assert len(training) == 3
    evaluation = training.evaluation(_IMAGES[:8], _LABELS[:8])
    assert [len(evaluation[index][0]) for index in range(len(evaluation))] == [6, 2]
    np.testing.assert_array_equal(numbers(evaluation, evaluation[1][0]), [6, 7])
    assert evaluation[1][1].shape == (2, 4)
    with pytest.raises(IndexError, match="2 batches"):
        evaluation[2]


def test_images_are_normalized_with_the_mean_and_deviation_of_the_training_images():
    batches = _PLAIN.batches(_IMAGES, _LABELS, batch_size=20)
    images, _ = batches[0]
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1.0, atol=1e-5)


def test_repeated_images_are_augmented_anew_and_have_other_neighbours():
    recipe = dataclasses.replace(_PLAIN, repeated_augmentation=3, batch_size=12)
    batches = recipe.batches(_IMAGES, _LABELS)
    found = numbers(batches, batches[0][0])
    assert sorted(np.bincount(found, minlength=20))[-5:] == [0, 3, 3, 3, 3]
    assert all(first != second for first, second in found.reshape(-1, 2))


def test_the_same_seed_gives_the_same_pictures():
    recipe = dataclasses.replace(recipes.get("he2015_cifar"), batch_size=8)
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    first, again, other = (recipe.batches(images, _LABELS[:16], seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[1][0], again[1][0])
    assert (first[1][0] != other[1][0]).any()
    first.on_epoch_end()
    assert (first[1][0] != again[1][0]).any()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"images": _IMAGES[0]}, r"\(6, 6, 3\), labels \(20,\)"),
        ({"labels": _LABELS[:3]}, r"labels \(3,\)"),
        ({"batch_size": 21}, "at most the number of images, 20"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ],
)
def test_errors_say_what_was_found(wrong, message):
    with pytest.raises(ValueError, match=message):
        _PLAIN.batches(**{"images": _IMAGES, "labels": _LABELS, **wrong})
