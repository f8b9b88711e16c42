import hashlib
import io
import json
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.records import images
from pipeline.training.preprocessing import decode
from tests.pipeline import builders


def served(encoded):
    """The pixels that the graph which is served sees."""
    return decode(tf.constant(encoded)).numpy()


def turned(pixels, orientation, format_="JPEG"):
    """Encodes pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return builders.encode(pixels, format_, exif=exif, quality=95)


def jpeg(pixels):
    return builders.encode(pixels, "JPEG", quality=95)


@pytest.mark.parametrize(
    "encoded",
    [
        jpeg(builders.noise(0)),
        builders.encode(builders.noise(0)),
        builders.encode(builders.noise(0)[..., 0]),
        turned(builders.noise(0), 1),
        builders.encode(builders.noise(0), "JPEG", progressive=True),
    ],
    ids=["jpeg", "png", "grey png", "orientation 1", "progressive"],
)
def test_what_can_be_served_as_it_is_is_stored_byte_for_byte(encoded):
    image = images.normalize(encoded)
    assert (image.encoded, image.converted) == (encoded, False)
    assert (image.height, image.width) == (12, 10)
    assert image.format in images.STORED_FORMATS


@pytest.mark.parametrize("orientation", [0, 1, 9, 255])
def test_an_orientation_that_turns_nothing_changes_nothing(orientation):
    assert not images.normalize(turned(builders.noise(0), orientation)).converted


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"DDS " + (124).to_bytes(4, "little") + bytes(200), "not_an_image"),
        (b"FTEX" + bytes(60), "not_an_image"),
        (builders.encode(builders.noise(0), "TIFF"), "format_tiff"),
        (builders.encode(builders.noise(0), "PPM"), "format_ppm"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "format_eps"),
    ],
)
def test_what_is_another_format_is_named_and_not_decoded(encoded, reason):
    with pytest.raises(images.BadImageError, match=f"^{reason}$"):
        images.normalize(encoded)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_pictures_are_turned_upright(orientation, format_):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 250  # one bright corner
    image = images.normalize(turned(pixels, orientation, format_))
    assert image.converted
    corner = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    found = served(image.encoded)
    assert found.shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    bright = np.argwhere(found[..., 0] > 200).mean(axis=0)
    middle = np.array(found.shape[:2]) / 2
    assert tuple((bright > middle).astype(int)) == corner[orientation]


def test_transparency_is_laid_over_the_background():
    pixels = np.full((4, 4, 4), 200, np.uint8)  # 200 of 255 opaque, over white: 212
    pixels[:2, :, 3] = 0
    encoded = builders.encode(pixels)
    image = images.normalize(encoded)
    assert served(image.encoded)[:, 0, 0].tolist() == [255, 255, 212, 212]
    over_black = images.normalize(encoded, images.Rules(background=(0, 0, 0)))
    assert served(over_black.encoded)[:2].max() == 0


def test_palettes_and_one_bit_pictures_keep_their_colours():
    picture = Image.fromarray(builders.noise(0)).quantize(16)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    image = images.normalize(buffer.getvalue())
    np.testing.assert_array_equal(served(image.encoded), np.asarray(picture.convert("RGB")))
    bits = Image.fromarray(builders.noise(0)[..., 0]).convert("1")
    buffer = io.BytesIO()
    bits.save(buffer, "PNG")
    image = images.normalize(buffer.getvalue())
    np.testing.assert_array_equal(served(image.encoded)[..., 0], np.asarray(bits.convert("L")))


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    image = images.normalize(buffer.getvalue())
    assert (image.format, image.converted) == ("png", True)
    np.testing.assert_array_equal(served(image.encoded)[..., 0], values >> 8)


def _png_of_sixteen_bit_colour(values):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bit_colour_is_brought_to_eight_bits():
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3))
    image = images.normalize(_png_of_sixteen_bit_colour(values))
    assert image.converted
    assert image.encoded[24] == 8
    np.testing.assert_array_equal(served(image.encoded), values >> 8)


def test_lossless_sources_become_png_and_lossy_ones_jpeg():
    pixels = builders.noise(0)
    for format_, options, stored in (
        ("BMP", {}, "png"),
        ("GIF", {}, "png"),
        ("WEBP", {"lossless": True}, "png"),
        ("WEBP", {"quality": 90}, "jpeg"),
    ):
        image = images.normalize(builders.encode(pixels, format_, **options))
        assert (image.format, image.converted) == (stored, True), format_
        if stored == "png" and format_ != "GIF":
            np.testing.assert_array_equal(served(image.encoded), pixels)
    cmyk = builders.encode(builders.noise(0, 32, 32), "JPEG")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(cmyk)).convert("CMYK").save(buffer, "JPEG")
    image = images.normalize(buffer.getvalue())
    assert (image.format, image.converted) == ("jpeg", True)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_stored(format_):
    frames = [Image.fromarray(np.full((6, 8, 3), value, np.uint8)) for value in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format_, save_all=True, append_images=frames[1:], lossless=True)
    image = images.normalize(buffer.getvalue())
    assert image.format == "png"
    assert np.abs(served(image.encoded).astype(int) - 40).max() <= 2


def test_equal_pictures_have_equal_digests_whatever_their_file():
    pixels = builders.noise(0)
    digests = {
        images.normalize(encoded).pixels
        for encoded in (
            builders.encode(pixels),
            builders.encode(pixels, compress_level=0),
            builders.encode(pixels, "BMP"),
            builders.encode(pixels, "WEBP", lossless=True),
        )
    }
    assert len(digests) == 1
    other = {images.normalize(builders.encode(p)).pixels for p in (pixels.transpose(1, 0, 2),)}
    assert not digests & other
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    assert (
        images.normalize(builders.encode(grey)).pixels
        == images.normalize(builders.encode(pixels[..., 0])).pixels
    )


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not_an_image"),
        (builders.encode(builders.noise(0, 64, 64), "JPEG")[:-200], "damaged"),
        (builders.encode(builders.noise(0, 64, 64), "PNG")[:-200], "damaged"),
        (builders.encode(builders.noise(0), "TIFF"), "format_tiff"),
    ],
)
def test_what_cannot_be_used_has_a_stable_reason(encoded, reason):
    with pytest.raises(images.BadImageError) as caught:
        images.normalize(encoded)
    assert str(caught.value) == reason


def test_limits_are_kept():
    encoded = builders.encode(builders.noise(0))
    with pytest.raises(images.BadImageError, match="too_many_pixels"):
        images.normalize(encoded, images.Rules(max_pixels=119))
    assert images.normalize(encoded, images.Rules(max_pixels=120))
    with pytest.raises(images.BadImageError, match="too_many_bytes"):
        images.normalize(encoded, images.Rules(max_bytes=len(encoded) - 1))


_SEEDS = [
    builders.encode(builders.noise(0, 16, 16), format_)
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "WEBP")
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    st.integers(0, 1 << 16),
)
def test_no_damage_of_any_kind_raises_anything_else(encoded, edits, cut):
    damaged = bytearray(encoded)
    for position, value in edits:
        damaged[position % len(damaged)] = value
    damaged = bytes(damaged[: len(damaged) - cut % 40])
    try:
        image = images.normalize(damaged)
    except images.BadImageError:
        return
    assert served(image.encoded).shape == (image.height, image.width, 3)


def test_real_odd_files_are_stored_or_refused_by_the_rule(real_images):
    """A file is stored exactly if Pillow decodes it and TensorFlow decodes what would be stored."""
    folder = real_images / "odd_images"
    listed = json.loads((folder / "manifest.json").read_text())
    assert len(listed) == 38
    for entry in listed:
        encoded = (folder / entry["file"]).read_bytes()
        assert hashlib.sha256(encoded).hexdigest() == entry["sha256"]
        try:
            image = images.normalize(encoded)
        except images.BadImageError as error:
            undecodable = str(error) == "not_decodable_by_tensorflow"
            assert undecodable != (not entry["pillow_decodes"]), entry["file"]
            assert not (undecodable and entry["tf_decode_image_decodes"]), entry["file"]
            continue
        assert entry["pillow_decodes"], entry["file"]
        assert served(image.encoded).shape == (image.height, image.width, 3), entry["file"]
        assert image.converted == (image.encoded != encoded)
        again = images.normalize(image.encoded)
        assert not again.converted, entry["file"]


def test_real_photos_are_stored_byte_for_byte(real_images):
    for path in sorted((real_images / "photos" / "glass").glob("*.jpg"))[:5]:
        encoded = path.read_bytes()
        image = images.normalize(encoded)
        assert (image.encoded, image.height, image.width) == (encoded, 512, 384)
