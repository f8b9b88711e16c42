"""MixUp and CutMix: shares of labels are shares of pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from keras_resnet.recipes import Augmentation
from keras_resnet.recipes.mixing import beta
from tests.keras_resnet.recipes.numbers import Chosen, computed

_CLASSES = 5


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 2.5])
def test_uniform_numbers_become_those_of_the_beta_distribution(alpha):
    uniform = (np.arange(20000, dtype="float32") + 0.5) / 20000
    found = computed(lambda numbers: beta(numbers, alpha), uniform)
    assert found.min() >= 0 and found.max() <= 1
    assert np.diff(found).min() >= -1e-6
    # The quantiles themselves, and the distribution where it can be told from 0 and 1.
    quantiles = beta_distribution.ppf(uniform, alpha, alpha)
    np.testing.assert_allclose(found[20:-20], quantiles[20:-20], atol=2e-3)
    middle = found[(found > 0.01) & (found < 0.99)]
    low, high = beta_distribution.cdf([0.01, 0.99], alpha, alpha)
    among = lambda x: (beta_distribution.cdf(x, alpha, alpha) - low) / (high - low)
    assert kstest(middle, among).statistic < 0.01


def mixed(height, width, seed, examples=6, **arguments):
    """Each image is of one value, its number; so shares can be read off the pixels."""
    images = np.broadcast_to(
        np.arange(examples, dtype="float32")[:, None, None, None], (examples, height, width, 3)
    )
    labels = np.eye(_CLASSES, dtype="float32")[np.arange(examples) % _CLASSES]
    augmentation, draws = Augmentation(**arguments), Chosen(examples, seed)
    found = computed(lambda *both: augmentation(*both, draws), images.copy(), labels)
    return images, labels, *found


_MIXES = {
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.1, "cutmix": 1.0},
    "sometimes": {"mixup": 0.4, "cutmix": 0.7, "mix_probability": 0.5, "switch_probability": 0.3},
}


@pytest.mark.parametrize("height, width", [(1, 1), (13, 6)])
@pytest.mark.parametrize("kind", list(_MIXES))
@given(seed=st.integers(0, 1 << 16))
@settings(max_examples=4, deadline=None)
def test_labels_are_mixed_as_pixels_are_and_sum_to_one(height, width, seed, kind):
    images, labels, pictures, targets = mixed(height, width, seed, **_MIXES[kind])
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)
    assert targets.min() >= 0
    for number, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
        other = number ^ 1
        share = np.abs(picture.mean() - images[other].mean())
        np.testing.assert_allclose(
            target, share * labels[number] + (1 - share) * labels[other], atol=1e-4
        )
    # Nothing is lost: what one picture of a pair gives, the other takes.
    np.testing.assert_allclose(
        pictures.reshape(3, 2, -1).sum(axis=1), images.reshape(3, 2, -1).sum(axis=1), atol=1e-4
    )


def test_cutmix_swaps_one_rectangle_and_mixup_blends_all():
    _, _, cut, _ = mixed(16, 12, 5, cutmix=1.0)
    for number, picture in enumerate(cut):
        swapped = picture[..., 0] != number
        rows, columns = np.flatnonzero(swapped.any(axis=1)), np.flatnonzero(swapped.any(axis=0))
        assert (picture[swapped] == (number ^ 1)).all()
        assert swapped.sum() == len(rows) * len(columns)
    _, _, blended, _ = mixed(16, 12, 5, mixup=1.0)
    assert all(np.ptp(picture) < 1e-5 for picture in blended)


def test_the_areas_of_cutmix_are_uniform_where_nothing_is_cut_off():
    """Yun et al.: λ of Beta(1, 1), a rectangle of 1 - λ of the image around a uniform place."""
    examples = 2000
    images = np.zeros((examples, 64, 64, 1), "float32")
    images[1::2] = 1.0
    labels = np.eye(2, dtype="float32")[np.arange(examples) % 2]
    draws = Chosen(examples, mix_place=0.5)
    augmentation = Augmentation(cutmix=1.0)
    _, targets = computed(lambda *both: augmentation(*both, draws), images, labels)
    kept = targets[::2, 0]
    assert kstest(kept, "uniform").statistic < 0.06


def test_a_part_of_a_batch_gets_what_the_whole_batch_gives_it():
    """So the result does not depend on the number of replicas."""
    values = np.random.default_rng(1).random((6, 4)).astype("float32")
    images = np.random.default_rng(2).random((6, 8, 8, 3)).astype("float32") * 255
    labels = np.eye(6, dtype="float32")
    augmentation = Augmentation(mixup=0.1, cutmix=1.0)

    def part(first, last):
        draws = Chosen(
            last - first,
            mix_apply=0.0,
            mix_switch=values[first:last, 0],
            mix_share=values[first:last, 1],
            mix_cut_share=values[first:last, 2],
            mix_place=0.4,
        )
        return computed(
            lambda *both: augmentation(*both, draws), images[first:last], labels[first:last]
        )

    whole = part(0, 6)
    for first, last in ((0, 2), (2, 6)):
        for value, expected in zip(part(first, last), whole, strict=True):
            np.testing.assert_allclose(value, expected[first:last], atol=1e-4)


def test_an_odd_part_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"even number of examples. Received: 5.*batch_size"):
        mixed(4, 4, 0, examples=5, mixup=0.2)
