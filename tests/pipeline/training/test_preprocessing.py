import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.training.preprocessing import (
    Preprocessing,
    decode,
    preprocess,
    resize,
    scaled,
    to_bytes,
)
from tests.pipeline import builders


def expects(height, width, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
    return Preprocessing(height=height, width=width, mean=mean, std=std)


@pytest.mark.parametrize("format_", ["PNG", "BMP", "WEBP"])
def test_lossless_files_decode_to_their_pixels(format_):
    pixels = builders.noise(1)
    encoded = builders.encode(pixels, format_, **({"lossless": True} if format_ == "WEBP" else {}))
    np.testing.assert_array_equal(decode(tf.constant(encoded)), pixels)


def test_grey_and_transparent_files_become_three_channels():
    grey = builders.noise(1)[..., 0]
    np.testing.assert_array_equal(
        decode(tf.constant(builders.encode(grey))), np.repeat(grey[..., None], 3, axis=2)
    )
    alpha = np.concatenate([builders.noise(1), builders.noise(2)[..., :1]], axis=2)
    np.testing.assert_array_equal(decode(tf.constant(builders.encode(alpha))), alpha[..., :3])


def _animation(format_):
    frames = [Image.fromarray(np.full((6, 8, 3), value, np.uint8)) for value in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format_, save_all=True, append_images=frames[1:])
    return tf.constant(buffer.getvalue())


def test_of_an_animated_gif_the_first_frame_is_taken_and_an_animated_webp_is_refused():
    found = decode(_animation("GIF"))
    assert found.shape == (6, 8, 3)
    assert np.abs(found.numpy().astype(int) - 40).max() <= 2
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(_animation("WEBP"))


def test_the_largest_centred_piece_of_the_right_shape_is_scaled():
    # A square in the middle of a wide picture, and stripes that have to fall away.
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 100
    found = resize(tf.constant(pixels), expects(5, 5))
    np.testing.assert_allclose(found, np.full((5, 5, 3), 100.0), rtol=1e-6)
    np.testing.assert_allclose(
        resize(tf.constant(pixels.transpose(1, 0, 2)), expects(5, 5)), found, rtol=1e-6
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 3), (64, 64)])
@pytest.mark.parametrize("target", [(8, 8), (4, 12), (12, 4)])
def test_any_size_gives_the_size_that_the_network_expects(size, target):
    found = resize(tf.constant(builders.noise(0, *size)), expects(*target))
    assert found.shape == (*target, 3)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("size", [16, 100])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_scaling_agrees_with_pillow(interpolation, size):
    # Of medium brightness, as Pillow clips what overshoots after each of the two axes.
    pixels = 64 + builders.noise(3, 64, 64) // 2
    theirs = Image.fromarray(pixels).resize(
        (size, size), getattr(Image.Resampling, interpolation.upper())
    )
    expected = dataclasses.replace(expects(size, size), interpolation=interpolation)
    ours = resize(tf.constant(pixels), expected)
    np.testing.assert_allclose(ours, np.asarray(theirs, float), atol=1.0)


def test_what_a_cubic_filter_overshoots_is_cut_off():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    expected = dataclasses.replace(expects(16, 16), interpolation="bicubic")
    found = resize(tf.constant(pixels), expected).numpy()
    assert found[:, :6].max() == 0
    assert found[:, -6:].min() == 255


@pytest.mark.parametrize("size", [(48, 40), (9, 77)])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_numbers_are_those_of_scaling_bytes(interpolation, antialias, size):
    """Pixels at both ends of the range, too, which only a cubic filter leaves."""
    pixels = tf.constant(np.where(builders.noise(5, *size) < 128, 0, 255).astype(np.uint8))
    expected = dataclasses.replace(expects(24, 30), interpolation=interpolation)
    ours = scaled(pixels, expected, antialias)
    theirs = tf.image.resize(pixels, (24, 30), interpolation, antialias=antialias)
    np.testing.assert_array_equal(ours, theirs)
    as_bytes = tf.clip_by_value(tf.round(theirs), 0, 255)
    np.testing.assert_array_equal(to_bytes(ours, expected), as_bytes)


def test_a_batch_of_different_sizes_is_normalised_by_channel():
    files = [builders.encode(np.full((n, 2 * n, 3), 50, np.uint8)) for n in (3, 8)]
    found = preprocess(tf.constant(files), expects(4, 4, (50.0, 40.0, 30.0), (1.0, 10.0, 5.0)))
    np.testing.assert_allclose(found, np.broadcast_to([0.0, 1.0, 4.0], (2, 4, 4, 3)), atol=1e-5)


def test_a_picture_that_is_too_large_for_float32_is_scaled_to_the_same_numbers():
    expected = Preprocessing(height=5, width=7, mean=(0.0,) * 3, std=(1.0,) * 3)
    large = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    assert large.size > 1 << 22
    whole = scaled(tf.constant(large), expected, antialias=True)
    as_float = tf.image.resize(tf.cast(large, tf.float32), (5, 7), antialias=True)
    np.testing.assert_allclose(whole, as_float, atol=1e-3)
