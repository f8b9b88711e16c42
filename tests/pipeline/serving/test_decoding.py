import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.records import images
from pipeline.serving import decoding, headers
from tests.pipeline import builders

_ORIENTATIONS = range(1, 9)
_SCALAR = tf.TensorSpec([], tf.string)


@tf.function(input_signature=[_SCALAR], autograph=False)
def _header(encoded):
    header = headers.read(encoded)
    return header, decoding.refusal(encoded, header)


@tf.function(input_signature=[_SCALAR], autograph=False)
def _pixels(encoded):
    return decoding.pixels(encoded, headers.read(encoded))


def _opened(encoded):
    return Image.open(io.BytesIO(encoded))


def _ingested(encoded):
    """The upright pixels that ingest sees, which it may store with loss."""
    rules = images.Rules()
    picture = images._upright(images._decode(encoded, rules), rules.background)
    return np.asarray(picture.convert("RGB"))


def _exif(orientation, endian):
    exif = Image.Exif()
    exif[0x010F] = "a maker"  # the tag is not the first one
    exif[0x0112] = orientation
    exif.endian = endian
    return exif


def _picture(format_, **options):
    return builders.encode(builders.noise(1, 5, 7), format_, **options)


@pytest.mark.parametrize("orientation", _ORIENTATIONS)
def test_pictures_are_turned_as_pillow_turns_them(orientation):
    pixels = builders.noise(0, 5, 7)
    wanted = Image.fromarray(pixels)
    wanted.getexif()[0x0112] = orientation
    found = decoding.turn(tf.constant(pixels), tf.constant(orientation))
    np.testing.assert_array_equal(found, ImageOps.exif_transpose(wanted))


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(
    ("format_", "options"),
    [("JPEG", {"subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {})],
    ids=["jpeg", "png", "lossless webp", "webp"],
)
def test_the_orientation_is_found_in_every_format(format_, options, endian):
    for orientation in _ORIENTATIONS:
        file = _picture(format_, exif=_exif(orientation, endian), **options)
        header, reason = _header(file)
        assert (header.orientation, reason) == (orientation, b"")
        assert (header.height, header.width) == (5, 7)
        difference = np.abs(_pixels(file).numpy().astype(int) - _ingested(file))
        # TensorFlow's inverse transform of JPEG is the fast one.
        assert difference.max() <= (8 if format_ == "JPEG" else 0)


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_the_orientation_of_xmp_is_taken_where_exif_has_none(format_):
    assert _header(_picture(format_, xmp=_XMP))[0].orientation == 6
    both = _picture(format_, xmp=_XMP, exif=_exif(3, "<"))
    assert _header(both)[0].orientation == 3
    for file in (_picture(format_, xmp=_XMP), both):
        assert _pixels(file).shape == _ingested(file).shape


def _top_down(bmp):
    height = struct.unpack_from("<i", bmp, 22)[0]
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:]


@pytest.mark.parametrize(
    "file",
    [
        _picture("JPEG", progressive=True),
        builders.encode(builders.noise(1, 300, 7)[..., 0], "JPEG"),
        _picture("GIF"),
        _picture("BMP"),
        _top_down(_picture("BMP")),
        builders.encode(builders.noise(1, 5, 300), "WEBP", lossless=True),
        builders.encode(np.zeros((5, 7, 4), np.uint8), "WEBP"),
    ],
    ids=["progressive", "grey", "gif", "bmp", "top-down bmp", "lossless webp", "clear webp"],
)
def test_the_size_is_read_without_decoding(file):
    header, reason = _header(file)
    assert (header.width, header.height) == _opened(file).size
    assert (header.orientation, reason) == (1, b"")


def _png_of(width, height):
    file = bytearray(_picture("PNG"))
    file[16:24] = struct.pack(">II", width, height)
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    return bytes(file)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", b"empty"),
        (b"<html>", b"not_an_image"),
        (_png_of(60_000, 60_000), b"too_many_pixels"),
        (_png_of(40_000, 1), b"too_long"),
        (b"\xff\xd8\xff".ljust((64 << 20) + 1, b"\0"), b"too_many_bytes"),
    ],
    ids=["empty", "page", "bomb", "long", "large"],
)
def test_what_ingest_refuses_is_refused_before_it_is_decoded(file, reason):
    if reason == b"too_many_bytes":
        header = headers.Header(*map(tf.constant, (headers.JPEG, 1, 1, 1)))
        assert decoding.refusal(tf.constant(file), header) == reason
    else:
        assert _header(file)[1] == reason
    with pytest.raises(images.BadImageError, match=reason.decode()):
        images.normalize(file)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixels_becomes_what_ingest_makes_of_it(mode):
    rgba = np.random.default_rng(0).integers(0, 256, (9, 8, 4), np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(rgba[..., 0].astype(np.uint16) * 257)
    elif mode == "PA":
        picture = Image.fromarray(rgba).quantize(16)  # a palette with transparent entries
    else:
        picture = Image.fromarray(rgba).convert(mode)
    for format_ in {"RGB": ("PNG", "BMP", "WEBP"), "CMYK": ("JPEG",)}.get(mode, ("PNG",)):
        buffer = io.BytesIO()
        picture.save(buffer, format_, **({"lossless": True} if format_ == "WEBP" else {}))
        wanted = _ingested(buffer.getvalue()).astype(int)
        # Of CMYK the conversion is TensorFlow's own.
        allowed = 12 if mode == "CMYK" else 0
        assert np.abs(_pixels(buffer.getvalue()).numpy() - wanted).mean() <= allowed


def test_bmp_with_a_palette_has_its_colours():
    picture = Image.fromarray(builders.noise(0, 9, 8)).quantize(200)
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    np.testing.assert_array_equal(_pixels(buffer.getvalue()), picture.convert("RGB"))


_WITH_EXIF = _picture("JPEG", exif=_exif(6, "<"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), min_size=1, max_size=4))
@example([(30, 6)])  # a byte with a sign
@example([(30, 13)])  # the place of a directory
@example([(30, 1)])
def test_damaged_exif_turns_as_far_as_pillow_reads_it(changes):
    start = _WITH_EXIF.index(b"Exif\0\0")
    file = bytearray(_WITH_EXIF)
    for place, value in changes:
        file[start + place] = value
    file = bytes(file)
    try:
        found = int(_header(file)[0].orientation)
    except tf.errors.InvalidArgumentError:
        return  # the row gets an error
    assert found in _ORIENTATIONS
    try:
        with warnings.catch_warnings(action="ignore"), _opened(file) as image:
            wanted = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001  Pillow's reader raises whatever it may be
        return
    if wanted is not None:  # what lies behind the damage is not always read
        assert found == (wanted if wanted in _ORIENTATIONS else 1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_bytes_whatever_stop_or_crash_the_reader(data):
    file = data.draw(
        st.sampled_from(
            [_WITH_EXIF, *map(_picture, ("PNG", "WEBP", "GIF", "BMP")), b"\xff\xd8\xff"]
        )
    )
    file = bytearray(
        file[: data.draw(st.integers(0, len(file)))] + data.draw(st.binary(max_size=40))
    )
    for _ in range(data.draw(st.integers(0, 4)) if file else 0):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        header, _ = _header(bytes(file))
    except tf.errors.InvalidArgumentError:
        return
    assert header.orientation in _ORIENTATIONS
    assert header.height >= 0 and header.width >= 0


# What the graph cannot decode though ingest can, and the other way round.
_OTHERWISE = {
    "hopper_rle8.bmp": "not_decodable",
    "badcrc.png": "not_decodable",
    "png_decompression_dos.png": "",
}


def test_odd_images_are_seen_as_ingest_sees_them(real_images):
    folder = real_images / "odd_images"
    for row in json.loads((folder / "manifest.json").read_text()):
        name, file = row["file"], (folder / row["file"]).read_bytes()
        try:
            reason = _header(file)[1].numpy().decode()
            found = None if reason else _pixels(file).numpy().astype(int)
        except tf.errors.InvalidArgumentError:
            reason, found = "not_decodable", None
        try:
            images.normalize(file)
            is_good = True
        except images.BadImageError:
            is_good = False
        if name in _OTHERWISE:
            assert (reason, is_good) == (_OTHERWISE[name], _OTHERWISE[name] != ""), name
        else:
            assert (reason == "") == is_good, name
        if is_good and found is not None:
            wanted = _ingested(file)
            assert found.shape == wanted.shape, name
            lossy = name.lower().endswith(".jpg") and "named" not in name
            assert np.abs(found - wanted).mean() <= (1.5 if lossy else 0), name
