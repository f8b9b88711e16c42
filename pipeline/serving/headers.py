"""What the header of an image file says, read inside the graph: kind, size and orientation.

TensorFlow decodes pixels and nothing else, so everything here works on the bytes. What is missing
or damaged counts as absent: the decoder has the last word on whether a file is an image.
"""

from typing import NamedTuple

import tensorflow as tf

# The kinds of files, as branches of `tf.switch_case`.
UNKNOWN, JPEG, PNG, GIF, BMP, WEBP = range(6)
UPRIGHT = 1

_ORIENTATION = 0x0112
# The types of whole numbers, but for single bytes without a sign, which Pillow takes for text.
_SHORT, _LONG, _SIGNED_BYTE, _SIGNED_SHORT, _SIGNED_LONG, _DIRECTORY = 3, 4, 6, 8, 9, 13
_ENTRY = 12
_LITTLE = (b"II\x2a\0", b"II\0\x2a")
_BIG = (b"MM\0\x2a", b"MM\x2a\0")
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_IN_XMP = r'tiff:Orientation(?:="|>)([0-9])'

_APP1, _START_OF_SCAN = 0xFFE1, 0xFFDA
# These, and what lies between the last two, stand alone, without a length.
_TEM, _RST0, _EOI = 0xFF01, 0xFFD0, 0xFFD9
# Real files have some dozens of segments, large PNG files some thousands; hostile ones no end.
_MOST_SEGMENTS = 2_000
_MOST_CHUNKS = 20_000


class Header(NamedTuple):
    """What a file says of itself, all scalars.

    Args:
        kind: `UNKNOWN`, `JPEG`, ..., int32.
        height: Pixels before the picture is turned, int64; 0 where the file does not say.
        width: Pixels before the picture is turned, int64; 0 where the file does not say.
        orientation: How it is to be turned, by the EXIF standard, 1 to 8, int32.
    """

    kind: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    orientation: tf.Tensor


class _Found(NamedTuple):
    height: tf.Tensor
    width: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor


def read(encoded: tf.Tensor) -> Header:
    """Returns the header of a file.

    The orientation is that of EXIF, in APP1 of JPEG, `eXIf` of PNG and `EXIF` of WebP, and where
    it has none, `tiff:Orientation` of XMP: what Pillow looks at, and so ingest. What lies in text
    of PNG is not read ("Raw profile type exif" and compressed XMP).

    Args:
        encoded: Scalar string.

    Raises:
        tf.errors.InvalidArgumentError: It begins as a JPEG, but has no size.

    Reference:
        - CIPA DC-008 (Exif 2.32), section 4.6.4; TIFF 6.0, section 2; ITU-T T.81, annex B;
          W3C PNG, third edition, sections 5 and 11; RFC 9649, section 2
    """
    # The zero behind the end is what is read where bytes are missing.
    data = tf.io.decode_raw(tf.strings.join([encoded, b"\0"]), tf.uint8)
    kind = _kind(encoded)
    found = tf.switch_case(
        kind,
        {
            UNKNOWN: _nothing,
            JPEG: lambda: _jpeg(encoded),
            PNG: lambda: _png(encoded, data),
            GIF: lambda: _nothing(_number(data, 8, 2, True), _number(data, 6, 2, True)),
            BMP: lambda: _bmp(data),
            WEBP: lambda: _webp(encoded, data),
        },
    )
    return Header(kind, found.height, found.width, _orientation(found.exif, found.xmp))


def _kind(encoded: tf.Tensor) -> tf.Tensor:
    tests = {
        JPEG: _starts(encoded, b"\xff\xd8\xff"),
        PNG: _starts(encoded, b"\x89PNG\r\n\x1a\n"),
        GIF: _starts(encoded, b"GIF8"),
        BMP: _starts(encoded, b"BM"),
        WEBP: _starts(encoded, b"RIFF") & _starts(encoded, b"WEBP", 8),
    }
    return tf.add_n([tf.cast(test, tf.int32) * kind for kind, test in tests.items()])


def _nothing(height: tf.Tensor | int = 0, width: tf.Tensor | int = 0) -> _Found:
    empty = tf.constant(b"")
    return _Found(tf.cast(height, tf.int64), tf.cast(width, tf.int64), empty, empty)


def _jpeg(encoded: tf.Tensor) -> _Found:
    """Walks from marker to marker as far as the first scan, over junk that lies between them."""
    end = tf.cast(tf.strings.length(encoded), tf.int64)
    padded = tf.strings.join([encoded, b"\0\0\0\0"])

    def step(at: tf.Tensor, done: tf.Tensor, found: _Found) -> tuple:
        here = tf.io.decode_raw(tf.strings.substr(padded, at, 4), tf.uint16, little_endian=False)
        marker, length = tf.unstack(tf.cast(here, tf.int64), 2)
        is_marker = (marker > 0xFF00) & (marker < 0xFFFF)
        has_body = is_marker & (marker != _TEM) & ((marker < _RST0) | (marker > _EOI))
        # Most segments are something else; to cut one out costs more than to look at its marker.
        found = tf.cond(
            marker == _APP1,
            lambda: _app1(_part(encoded, at + 4, length - 2), found),
            lambda: found,
        )
        # Junk and fill bytes are skipped one by one, an escaped 0xFF with its zero.
        alone = tf.where(is_marker | (marker == 0xFF00), two, one)
        onward = at + tf.where(has_body, 2 + length, alone)
        return onward, (marker == _START_OF_SCAN) | (onward >= end), found

    one, two = tf.constant(1, tf.int64), tf.constant(2, tf.int64)
    shape = tf.cast(tf.image.extract_jpeg_shape(encoded), tf.int64)
    found = tf.while_loop(
        lambda at, done, found: ~done,
        step,
        (two, tf.constant(False), _nothing()),
        maximum_iterations=_MOST_SEGMENTS,
    )[2]
    return found._replace(height=shape[0], width=shape[1])


def _app1(segment: tf.Tensor, found: _Found) -> _Found:
    is_exif = _starts(segment, _EXIF) & (found.exif == b"")
    is_xmp = _starts(segment, _XMP) & (found.xmp == b"")
    return found._replace(
        exif=tf.where(is_exif, segment, found.exif), xmp=tf.where(is_xmp, segment, found.xmp)
    )


def _png(encoded: tf.Tensor, data: tf.Tensor) -> _Found:
    height, width = _number(data, 20, 4), _number(data, 16, 4)

    def chunk(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length = _number(data, at, 4)
        return length, _part(encoded, at + 4, tf.constant(4, tf.int64)), 12 + length

    def wanted(name: tf.Tensor, body: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return name == b"eXIf", (name == b"iTXt") & _starts(body, _PNG_XMP)

    return _chunks(encoded, data, 8, chunk, wanted)._replace(height=height, width=width)


def _webp(encoded: tf.Tensor, data: tf.Tensor) -> _Found:
    edge = 1 << 14  # both sizes have 14 bits, but for those of the extended format
    lossy = _number(data, 28, 2, True) % edge, _number(data, 26, 2, True) % edge
    packed = _number(data, 21, 4, True)
    lossless = packed // edge % edge + 1, packed % edge + 1
    extended = _number(data, 27, 3, True) + 1, _number(data, 24, 3, True) + 1
    is_lossless, is_extended = _starts(encoded, b"VP8L", 12), _starts(encoded, b"VP8X", 12)
    height, width = (
        tf.where(is_extended, large, tf.where(is_lossless, exact, plain))
        for large, exact, plain in zip(extended, lossless, lossy, strict=True)
    )

    def chunk(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length = _number(data, at + 4, 4, True)
        return length, _part(encoded, at, tf.constant(4, tf.int64)), 8 + length + length % 2

    def wanted(name: tf.Tensor, body: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        del body
        return name == b"EXIF", name == b"XMP "

    return _chunks(encoded, data, 12, chunk, wanted)._replace(height=height, width=width)


def _chunks(encoded: tf.Tensor, data: tf.Tensor, first: int, chunk, wanted) -> _Found:
    """Walks from chunk to chunk to the end of the file.

    Args:
        encoded: The file.
        data: Its bytes.
        first: Where the first chunk begins.
        chunk: Returns the length of the body of the chunk at a place, its name, and how far it is
            to the next one.
        wanted: Returns whether a chunk of a name and body is EXIF, and whether it is XMP.
    """
    end = tf.size(data, tf.int64) - 1

    def step(at: tf.Tensor, found: _Found) -> tuple:
        length, name, onward = chunk(at)
        body = _part(encoded, at + 8, length)
        is_exif, is_xmp = wanted(name, body)
        exif = tf.where(is_exif, body, found.exif)
        xmp = tf.where(is_xmp, body, found.xmp)
        return at + onward, found._replace(exif=exif, xmp=xmp)

    return tf.while_loop(
        lambda at, found: at < end,
        step,
        (tf.constant(first, tf.int64), _nothing()),
        maximum_iterations=_MOST_CHUNKS,
    )[1]


def _bmp(data: tf.Tensor) -> _Found:
    # The height is negative, a two's complement, where the picture is stored from its top.
    height = _number(data, 22, 4, True)
    height = tf.where(height >= 1 << 31, (1 << 32) - height, height)
    return _nothing(height, _number(data, 18, 4, True))


def _orientation(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    in_exif = tf.cond(exif == b"", lambda: tf.constant(0, tf.int64), lambda: _in_exif(exif))
    value = tf.cond((in_exif == 0) & (xmp != b""), lambda: _in_xmp(xmp), lambda: in_exif)
    return tf.cast(tf.where((value >= 1) & (value <= 8), value, UPRIGHT), tf.int32)


def _in_exif(exif: tf.Tensor) -> tf.Tensor:
    """Returns the tag of the first directory of a TIFF structure, 0 where it has none, int64."""
    tiff = tf.strings.regex_replace(exif, r"^(?:Exif\x00\x00)+", "", replace_global=False)
    data = tf.io.decode_raw(tf.strings.join([tiff, b"\0"]), tf.uint8)
    little = tf.reduce_any([_starts(tiff, prefix) for prefix in _LITTLE])
    big = tf.reduce_any([_starts(tiff, prefix) for prefix in _BIG])

    def entry() -> tf.Tensor:
        directory = _number(data, 4, 4, little)
        room = tf.maximum(tf.size(data, tf.int64) - 1 - directory - 2, 0) // _ENTRY
        count = tf.minimum(_number(data, directory, 2, little), room)
        places = directory + 2 + _ENTRY * tf.range(count)
        tags = _number(data, places, 2, little)
        # Where the tag comes twice the last one counts, as it does for Pillow.
        mine = tf.where(tags == _ORIENTATION)[-1:, 0]
        return tf.reduce_sum(_value(data, tf.gather(places, mine), little))

    return tf.cond(little | big, entry, lambda: tf.constant(0, tf.int64))


def _value(data: tf.Tensor, at: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    """Returns the first number of the entry at each place; 0 where it is of another type."""
    kind, count = _number(data, at + 2, 2, little), _number(data, at + 4, 4, little)
    short = (kind == _SHORT) | (kind == _SIGNED_SHORT)
    long = (kind == _LONG) | (kind == _SIGNED_LONG) | (kind == _DIRECTORY)
    byte = kind == _SIGNED_BYTE
    # Up to four bytes stand in the entry, more of them elsewhere.
    four, two, one = (tf.constant(most, tf.int64) for most in (4, 2, 1))
    inline = count <= tf.where(byte, four, tf.where(short, two, one))
    place = tf.where(inline, at + 8, _number(data, at + 8, 4, little))
    large = tf.where(short, _number(data, place, 2, little), _number(data, place, 4, little))
    value = tf.where(byte, _number(data, place, 1), large)
    return tf.where((byte | short | long) & (count > 0), value, 0)


def _in_xmp(xmp: tf.Tensor) -> tf.Tensor:
    found = tf.strings.regex_full_match(xmp, rf"(?s)\C*{_IN_XMP}\C*")

    def number() -> tf.Tensor:
        digit = tf.strings.regex_replace(xmp, rf"(?s)^\C*?{_IN_XMP}\C*$", r"\1")
        return tf.strings.to_number(digit, tf.int64)

    return tf.cond(found, number, lambda: tf.constant(0, tf.int64))


def _starts(encoded: tf.Tensor, prefix: bytes, at: int = 0) -> tf.Tensor:
    # `substr` refuses to begin behind the end.
    start = tf.minimum(at, tf.strings.length(encoded))
    return tf.strings.substr(encoded, start, len(prefix)) == prefix


def _number(
    data: tf.Tensor, at: tf.Tensor | int, count: int, little: tf.Tensor | bool = False
) -> tf.Tensor:
    """Returns the unsigned numbers of `count` bytes at each place, int64, of the shape of `at`."""
    at = tf.convert_to_tensor(at, tf.int64)
    places = at[..., None] + tf.range(count, dtype=tf.int64)
    values = tf.gather(data, tf.clip_by_value(places, 0, tf.size(data, tf.int64) - 1))
    powers = [256**power for power in range(count)]
    weights = tf.where(little, tf.constant(powers, tf.int64), tf.constant(powers[::-1], tf.int64))
    return tf.reduce_sum(tf.cast(values, tf.int64) * weights, -1)


def _part(encoded: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns `length` bytes from `start`, or as many of them as there are."""
    end = tf.cast(tf.strings.length(encoded), tf.int64)
    start = tf.clip_by_value(start, 0, end)
    return tf.strings.substr(encoded, start, tf.clip_by_value(length, 0, end - start))
