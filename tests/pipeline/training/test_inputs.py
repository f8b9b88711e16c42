import contextlib

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records import manifest
from pipeline.training import crops, records
from pipeline.training.inputs import Images, Share
from pipeline.training.order import Shuffled
from pipeline.training.preprocessing import Preprocessing, normalize, preprocess, resize
from tests.pipeline import builders

_SIZES = ((40, 30), (21, 64), (20, 30), (1, 7), (90, 3), (9, 500))
_EXPECTED = Preprocessing(height=6, width=6, mean=(0.0,) * 3, std=(1.0,) * 3)


class Memory:
    """Files in memory, in place of those of a split."""

    def __init__(self, files, labels=None):
        pictures = [tf.io.decode_image(file).shape[:2] for file in files]
        self.labels = np.arange(len(files)) if labels is None else labels
        self.sizes = np.array(pictures, np.int32)
        self.jpeg = np.array([file.startswith(b"\xff\xd8") for file in files])
        self._files = np.array(files, object)

    def encoded(self, rows):
        return self._files[rows]


def flat(number):
    """Flat pictures, each of the brightness that is its label."""
    return Memory([builders.encode(np.full((6, 6, 3), n, np.uint8)) for n in range(number)])


def photos(number, height=48, width=64, **options):
    """Smooth pictures, as JPEG files would be."""
    small = [builders.noise(n, 4, 5) for n in range(number)]
    large = [
        np.kron(picture, np.ones((height // 4, width // 5 + 1, 1)))[:, :width] for picture in small
    ]
    return Memory([builders.encode(p.astype(np.uint8), "JPEG", **options) for p in large])


def training(images, share, start=0, stop=5, seed=1, **arguments):
    dataset = images.training(Shuffled(len(images), seed), share, start, stop, **arguments)
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("cached", [False, True])
def test_training_sees_every_example_equally_often_in_full_batches(cached):
    images = Images(flat(10), _EXPECTED)
    if cached:
        images.cache()
    assert images.cached is cached
    batches = training(images, Share(4))
    labels = np.concatenate([batch.labels for batch in batches])
    assert len(labels) == 20
    assert sorted(labels[:10]) == sorted(labels[10:]) == list(range(10))
    assert labels[:10].tolist() != labels[10:].tolist()
    for step, batch in enumerate(batches):
        assert batch.images.shape == (4, 6, 6, 3)
        assert batch.images.dtype == np.uint8
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.labels)
        np.testing.assert_array_equal(batch.steps, [step] * 4)
        np.testing.assert_array_equal(batch.places, range(4))
        np.testing.assert_array_equal(batch.weights, np.ones(4))


@pytest.mark.parametrize("crop", [None, (0.2, 1.0)])
@pytest.mark.parametrize("start", [0, 3, 7])
def test_the_stream_from_any_step_is_the_rest_of_the_whole_stream(start, crop):
    images = Images(photos(7), _EXPECTED, crop)
    whole = training(images, Share(4), 0, 9)
    for one, other in zip(whole[start:], training(images, Share(4), start, 9), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("crop", [None, (0.2, 1.0)])
@pytest.mark.parametrize(("processes", "local"), [(1, 2), (2, 1), (2, 2)])
def test_replicas_and_processes_share_out_the_same_global_batches(processes, local, crop):
    images = Images(photos(9), _EXPECTED, crop)
    replicas = processes * local
    whole = training(images, Share(8))
    feeds = [
        training(images, Share(8, replicas, local, process * local)) for process in range(processes)
    ]
    for step, batch in enumerate(whole):
        parts = [feed[step * local + replica] for feed in feeds for replica in range(local)]
        together = tf.nest.map_structure(lambda *found: np.concatenate(found), *parts)
        tf.nest.map_structure(np.testing.assert_array_equal, together, batch)


def test_another_seed_gives_another_stream():
    images = Images(flat(10), _EXPECTED)
    streams = [
        np.concatenate([batch.labels for batch in training(images, Share(5), seed=seed)])
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(streams[0], streams[1])
    assert (streams[0] != streams[2]).any()


def test_class_weights_are_those_of_the_labels():
    weights = np.linspace(1, 2, 10).astype(np.float32)
    for batch in training(Images(flat(10), _EXPECTED), Share(4), class_weights=weights):
        np.testing.assert_array_equal(batch.weights, weights[batch.labels])


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("number", [1, 3, 4, 9])
@pytest.mark.parametrize("replicas", [1, 2])
def test_evaluation_sees_every_example_once_and_fills_up_with_weight_zero(number, replicas, cached):
    images = Images(flat(number), _EXPECTED)
    if cached:
        images.cache()
    share = Share(4, replicas, replicas)
    batches = list(images.evaluation(share).as_numpy_iterator())
    assert len(batches) == replicas * images.evaluation_steps(share)
    assert all(batch.images.shape == (4 // replicas, 6, 6, 3) for batch in batches)
    weights = np.concatenate([batch.weights for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    assert len(weights) - number < 4
    np.testing.assert_array_equal(labels[weights == 1], np.arange(number))


def test_evaluation_input_is_to_the_bit_what_is_served():
    """The served graph takes the bytes of the same files through `preprocess`."""
    files = [
        builders.encode(builders.noise(n, 7 + n, 30 - n), format_)
        for n, format_ in enumerate(["PNG", "JPEG"] * 4)
    ]
    expected = Preprocessing(height=6, width=9, mean=(3.0, 4.0, 5.0), std=(60.0, 61.0, 62.0))
    served = preprocess(tf.constant(files), expected)
    (batch,) = Images(Memory(files), expected).evaluation(Share(8))
    np.testing.assert_array_equal(normalize(batch.images, expected), served)


def test_a_random_part_is_what_cutting_the_decoded_photo_gives():
    files = photos(5, 24, 32, subsampling=0)  # else chroma at the edges differs a little
    target = Preprocessing(height=16, width=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = Images(files, target, (0.3, 0.9), seed=4)
    for step, batch in enumerate(training(images, Share(4), seed=1)):
        rows = Shuffled(5, 1).rows(step * 4, 4)
        boxes = crops.boxes(files.sizes[rows], np.arange(4), 4, step, 4, (0.3, 0.9), (3 / 4, 4 / 3))
        for row, (top, left, height, width), image in zip(rows, boxes, batch.images, strict=True):
            whole = tf.io.decode_jpeg(files.encoded(np.array([row]))[0])
            part = tf.image.resize(whole[top : top + height, left : left + width], (16, 16))
            np.testing.assert_array_equal(image, np.rint(part))


@pytest.mark.parametrize("size", [8, 30, 40, 70, 150, 300])
def test_a_large_part_of_a_photo_decoded_at_a_smaller_size_shows_the_same(size):
    """Next to what antialiased scaling of all pixels gives."""
    small = Preprocessing(height=size, width=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    files = photos(4, 256, 256, quality=95, subsampling=0)
    (batch,) = training(Images(files, small, (1.0, 1.0)), Share(4), 0, 1)
    for row, image in zip(batch.labels, batch.images, strict=True):
        whole = resize(tf.io.decode_jpeg(files.encoded(np.array([row]))[0]), small)
        difference = np.abs(image.astype(int) - whole.numpy().astype(int))
        assert difference.mean() < 4  # of 255


def test_random_parts_of_pictures_that_are_no_jpegs():
    files = Memory([builders.encode(builders.noise(n, 9, 11)) for n in range(3)])
    batches = training(Images(files, _EXPECTED, (0.1, 0.5)), Share(3))
    assert len(np.unique(np.stack([batch.images[0] for batch in batches]), axis=0)) == len(batches)


def test_what_is_interpolated_again_is_decoded_quickly_and_shows_what_is_evaluated():
    """To the bit where the format leaves no choice, or where it is decoded once for all steps."""
    target = Preprocessing(height=20, width=30, mean=(0.0,) * 3, std=(1.0,) * 3)
    pixels = [builders.noise(n, height, width) for n, (height, width) in enumerate(_SIZES)]
    files = Memory([builders.encode(picture) for picture in pixels])
    (exact,) = Images(files, target).evaluation(Share(len(_SIZES)))
    (batch,) = training(Images(files, target, interpolated=True), Share(len(_SIZES)), 0, 1)
    np.testing.assert_array_equal(batch.images, exact.images.numpy()[batch.labels])

    files = photos(4, 48, 160, subsampling=0)
    (exact,) = Images(files, target).evaluation(Share(4))
    images = Images(files, target, interpolated=True)
    (batch,) = training(images, Share(4), 0, 1)
    difference = batch.images.astype(int) - exact.images.numpy()[batch.labels]
    assert 0 < np.abs(difference).mean() < 8  # of 255, at hard edges
    images.cache()
    (batch,) = training(images, Share(4), 0, 1)
    np.testing.assert_array_equal(batch.images, exact.images.numpy()[batch.labels])


def test_a_picture_is_decoded_alone_as_among_others_of_other_sizes_and_formats():
    kinds = ((30, "JPEG"), (50, "JPEG"), (100, "JPEG"), (400, "JPEG"), (50, "PNG"))
    files = [builders.encode(builders.noise(side, side, side), name) for side, name in kinds]
    target = Preprocessing(height=20, width=20, mean=(0.0,) * 3, std=(1.0,) * 3)
    (among,) = training(Images(Memory(files), target, interpolated=True), Share(5), 0, 1)
    for place, label in enumerate(among.labels):
        (alone,) = training(
            Images(Memory([files[label]]), target, interpolated=True), Share(1), 0, 1
        )
        np.testing.assert_array_equal(among.images[place], alone.images[0])


def test_what_is_cut_out_each_time_is_not_kept_in_memory():
    assert Images(flat(3), _EXPECTED, (0.5, 1.0)).decoded_bytes is None
    assert Images(flat(3), _EXPECTED).decoded_bytes == 3 * 6 * 6 * 3


def test_records_are_read_as_they_are_needed(tmp_path):
    written, _ = builders.examples(tmp_path, splits={"train": 0.2, "eval": 0.1, "test": 0.7})
    contents = manifest.load(written.uri)
    with contextlib.closing(records.open_split(written.uri, contents, "train")) as opened:
        by_reading = training(Images(opened, _EXPECTED), Share(16))
        kept = Images(opened, _EXPECTED)
        done = []
        kept.cache(lambda count, total: done.append((count, total)))
        assert done[-1] == (len(opened), len(opened))
    for one, other in zip(by_reading, training(kept, Share(16)), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
