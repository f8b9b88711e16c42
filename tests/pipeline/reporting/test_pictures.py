import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.errors import DataError
from pipeline.reporting import pictures
from tests.pipeline import builders


def _pixels(thumbnail):
    head, _, code = thumbnail.source.partition(",")
    assert head == f"data:image/{'png' if thumbnail.tiny else 'jpeg'};base64"
    with Image.open(io.BytesIO(base64.b64decode(code))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _halves(left=(250, 10, 10), right=(10, 10, 250), size=(60, 100)):
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:, : size[1] // 2], pixels[:, size[1] // 2 :] = left, right
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_is_shrunk_and_keeps_its_shape_and_colours(kind):
    found = pictures.thumbnail(builders.encode(_halves(size=(300, 600)), kind))
    pixels = _pixels(found)
    assert pixels.shape == (72, 144, 3)
    assert (found.width, found.height, found.partial) == (600, 300, False)
    np.testing.assert_allclose(pixels[:, 5], [[250, 10, 10]] * 72, atol=25)
    np.testing.assert_allclose(pixels[:, -5], [[10, 10, 250]] * 72, atol=25)


def test_tiny_pictures_are_neither_enlarged_nor_blurred():
    pixels = builders.noise(1, 8, 8)
    found = pictures.thumbnail(builders.encode(pixels))
    assert found.tiny
    np.testing.assert_array_equal(_pixels(found), pixels)


def test_a_turned_picture_is_shown_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the left
    found = pictures.thumbnail(builders.encode(_halves(size=(50, 100)), "JPEG", exif=exif))
    assert (found.width, found.height) == (50, 100)
    pixels = _pixels(found)
    assert pixels.shape == (100, 50, 3)
    assert pixels[10, 25, 0] > 200
    assert pixels[90, 25, 0] < 60


def test_transparent_pixels_are_white():
    picture = np.zeros((20, 20, 4), np.uint8)
    assert _pixels(pictures.thumbnail(builders.encode(picture))).min() > 250


def test_sixteen_bits_are_not_clipped():
    picture = np.full((20, 20), 0x4000, np.uint16)
    assert abs(_pixels(pictures.thumbnail(builders.encode(picture))).mean() - 64) < 3


def test_of_a_cut_picture_the_rest_is_shown_and_pillow_is_as_strict_as_before():
    whole = builders.encode(builders.noise(1, 200, 200), "JPEG")
    found = pictures.thumbnail(whole[: len(whole) // 2])
    assert found.partial
    pixels = _pixels(found)
    assert pixels[:50].std() > 20 > pixels[-30:].std()
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert not pictures.thumbnail(whole).partial


def _png(width, height, data):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        b"",
        b"<html>not found</html>",
        builders.encode(builders.noise(1), "JPEG")[:30],
        _png(9000, 9000, zlib.compress(bytes(1000))),
        _png(60_000, 60_000, b""),
        _png(10, 10, b"garbage"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    ],
    ids=["none", "empty", "html", "head only", "too large", "bomb", "garbage", "program"],
)
def test_what_cannot_be_drawn_is_no_picture(encoded):
    assert pictures.thumbnail(encoded) is None


@pytest.mark.parametrize("seed", range(40))
def test_altered_files_never_raise(seed):
    generator = np.random.default_rng(seed)
    kind = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "ICO", "PPM"][seed % 8]
    encoded = np.frombuffer(builders.encode(builders.noise(seed, 40, 40), kind), np.uint8).copy()
    places = generator.integers(0, len(encoded), 12)
    encoded[places] = generator.integers(0, 256, 12)
    found = pictures.thumbnail(encoded.tobytes())
    assert found is None or max(_pixels(found).shape) <= pictures.SIDE


def test_originals_are_fetched_once_and_not_at_all_after_a_failure():
    asked = []

    def fetch(name):
        asked.append(name)
        if name == "far":
            raise DataError("no network")
        return builders.encode(builders.noise(1)) if name == "near" else None

    look = pictures.Originals(fetch)
    assert look("near") is look("near") is not None
    assert look("gone") is look("gone") is None
    assert look.failure is None
    assert look("far") is None
    assert look.failure == "no network"
    assert look("other") is None
    assert look("near") is not None
    assert asked == ["near", "gone", "far"]
