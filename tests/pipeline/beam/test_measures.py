"""The measures of single pictures, against closed forms and against SciPy and NumPy."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from pipeline.beam import measures
from tests.pipeline import builders

_PICTURES = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
)


def measured(pixels, format_="PNG", **options):
    found = measures.measure(builders.encode(pixels, format_, **options))
    return found, {name: value / measures.SCALE for name, value in found.measures.items()}


@settings(deadline=None)
@given(_PICTURES)
def test_measures_are_those_of_numpy_and_scipy(pixels):
    found, values = measured(pixels)
    luma = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    laplacian = ndimage.laplace(luma, mode="mirror")
    step = 0.5 / measures.SCALE
    assert values[measures.BRIGHTNESS] == pytest.approx(luma.mean(), abs=1.01 * step)
    assert values[measures.CONTRAST] == pytest.approx(luma.std(), abs=1.01 * step)
    assert values[measures.SHARPNESS] == pytest.approx(laplacian.var(), abs=1.01 * step)
    assert values[measures.ASPECT_RATIO] == pytest.approx(
        pixels.shape[1] / pixels.shape[0], abs=1.01 * step
    )
    channels = pixels.reshape(-1, 3).astype(int)
    assert found.sums == tuple(channels.sum(axis=0))
    assert found.squares == tuple((channels**2).sum(axis=0))
    assert (found.height, found.width) == pixels.shape[:2]


def test_a_picture_of_one_colour_has_neither_contrast_nor_sharpness():
    found, values = measured(np.full((6, 4, 3), (255, 0, 0), np.uint8))
    # Red alone: 299 thousandths of 255, as Pillow rounds it.
    assert values[measures.BRIGHTNESS] == 76
    assert values[measures.CONTRAST] == values[measures.SHARPNESS] == 0
    assert found.sums == (24 * 255, 0, 0)


def test_a_checkerboard_has_the_greatest_contrast_and_sharpness():
    board = np.indices((8, 8)).sum(axis=0) % 2 * 255
    _, values = measured(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    assert values[measures.BRIGHTNESS] == 127.5
    assert values[measures.CONTRAST] == 127.5
    # The Laplacian is 4 x 255 on black and -4 x 255 on white, also at the mirrored borders.
    assert values[measures.SHARPNESS] == (4 * 255) ** 2


def test_an_even_slope_is_sharp_at_its_borders_only():
    columns = 16
    slope = np.tile(np.arange(columns, dtype=np.uint8) * 10, (5, 1))
    _, values = measured(np.repeat(slope[..., None], 3, axis=2))
    # Inside zero; in the first column 2 x 10, in the last -2 x 10.
    assert values[measures.SHARPNESS] == 2 * 20**2 / columns
    assert values[measures.CONTRAST] == pytest.approx(10 * np.arange(columns).std(), abs=1e-3)


def test_a_picture_higher_than_a_strip_is_measured_without_a_seam():
    pixels = builders.noise(3, 300, 400)  # several strips
    luma = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    _, values = measured(pixels)
    expected = ndimage.laplace(luma, mode="mirror").var()
    assert values[measures.SHARPNESS] == pytest.approx(expected, abs=1e-3)


def test_grey_and_colour_files_of_one_picture_measure_the_same():
    grey = builders.noise(5)[..., 0]
    found, _ = measured(grey)
    colour, _ = measured(np.repeat(grey[..., None], 3, axis=2))
    assert found.sums == colour.sums == (int(grey.sum()),) * 3
    assert found.squares == colour.squares
    bytes_ = measures.BYTES
    assert found.measures | {bytes_: 0} == colour.measures | {bytes_: 0}


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_the_format_and_the_bytes_are_those_of_the_file(format_):
    encoded = builders.encode(builders.noise(1), format_)
    found = measures.measure(encoded)
    assert found.format == format_.lower()
    assert found.measures[measures.BYTES] == measures.SCALE * len(encoded)


def test_an_mpo_file_is_a_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(builders.noise(1)).save(
        buffer, "MPO", save_all=True, append_images=[Image.fromarray(builders.noise(2))]
    )
    assert measures.measure(buffer.getvalue()).format == "jpeg"


@pytest.mark.parametrize("encoded", [b"", b"no picture", builders.encode(builders.noise(1))[:-40]])
def test_what_cannot_be_decoded_has_no_measures(encoded):
    assert measures.measure(encoded) is None


def test_photos_are_measured_as_scipy_does(real_images):
    for path in sorted((real_images / "photos").glob("*/*1.jpg"))[:8]:
        found = measures.measure(path.read_bytes())
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.int64)
            luma = np.asarray(image.convert("L"), np.float64)
        assert found.sums == tuple(pixels.sum(axis=(0, 1)))
        assert found.squares == tuple((pixels**2).sum(axis=(0, 1)))
        sharpness = ndimage.laplace(luma, mode="mirror").var()
        assert found.measures[measures.SHARPNESS] / measures.SCALE == pytest.approx(
            sharpness, abs=1e-3
        )
