"""From the bytes of any image file to the bytes that are stored, or a reason why not.

What is stored is a JPEG or PNG that TensorFlow decodes inside the served graph to exactly the
upright picture that a person sees.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from hashlib import sha256

# What is read, under Pillow's names. MPO is a JPEG with further pictures behind it.
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "WEBP")
STORED_FORMATS = ("jpeg", "png")

JPEG_QUALITY = 95
MAX_PIXELS = 64_000_000
MAX_BYTES = 64 << 20

_ORIENTATION = 0x0112
_UPRIGHT = 1
_PNG_GREY, _PNG_RGB = 0, 2
_WHITE = (255, 255, 255)


class BadImageError(Exception):
    """The bytes are no image that can be used; the message is a stable reason code."""


@dataclass(frozen=True)
class Image:
    """An image as it is stored.

    Args:
        encoded: A JPEG or PNG file, upright, RGB or grey, 8 bits per channel.
        format: `"jpeg"` or `"png"`.
        height: Pixels.
        width: Pixels.
        pixels: SHA-256 of size and RGB pixels, in hexadecimal: equal for equal pictures.
        converted: Whether `encoded` differs from the bytes that were given.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    pixels: str
    converted: bool


def normalize(
    encoded: bytes,
    *,
    background: tuple[int, int, int] = _WHITE,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Image:
    """Decodes `encoded` in full and returns what is stored of it.

    An upright RGB JPEG and an 8-bit RGB or grey PNG are stored byte for byte. Everything else is
    converted: turned upright as EXIF says, CMYK, palettes and 16 bits brought to 8-bit RGB or
    grey, transparency laid over `background`, of an animation the first frame; from a lossless
    format to PNG, from a lossy one to JPEG of quality 95.

    Args:
        encoded: A JPEG, PNG, GIF, BMP or WebP file.
        background: RGB behind transparent pixels.
        max_pixels: The greatest number of pixels.
        max_bytes: The greatest size of the file.

    Raises:
        BadImageError: It cannot be used; the message is `empty`, `too_many_bytes`,
            `not_an_image`, `format_<name>`, `too_many_pixels`, `damaged` or
            `not_decodable_by_tensorflow`.
    """
    from PIL import Image as pillow

    if not encoded:
        raise BadImageError("empty")
    if len(encoded) > max_bytes:
        raise BadImageError("too_many_bytes")
    try:
        # Pillow warns of what it tolerates; here it is tolerated, or refused by name.
        with warnings.catch_warnings(action="ignore"), pillow.open(io.BytesIO(encoded)) as image:
            if image.format not in FORMATS:
                raise BadImageError(f"format_{str(image.format).lower()}")
            if image.width * image.height > max_pixels:
                raise BadImageError("too_many_pixels")
            image.load()
            as_it_is = _is_stored_as_it_is(image, encoded)
            picture = image.convert("RGB") if as_it_is else _upright(image, background)
            lossy = image.format in ("JPEG", "MPO") or _is_lossy_webp(encoded)
    except pillow.UnidentifiedImageError:
        raise BadImageError("not_an_image") from None
    except pillow.DecompressionBombError:
        raise BadImageError("too_many_pixels") from None
    # Pillow's decoders raise these, and more, on files that are cut or altered.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error):
        raise BadImageError("damaged") from None
    stored = encoded if as_it_is else _encode(picture, lossy)
    _require_tensorflow(stored, picture.height, picture.width)
    size = struct.pack("<II", picture.height, picture.width)
    return Image(
        encoded=stored,
        format="jpeg" if lossy else "png",
        height=picture.height,
        width=picture.width,
        pixels=sha256(size + picture.convert("RGB").tobytes()).hexdigest(),
        converted=not as_it_is,
    )


def _is_stored_as_it_is(image, encoded: bytes) -> bool:
    """Whether TensorFlow's decoder, which knows no EXIF, sees what a person sees."""
    if image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode == "RGB"
    if image.format == "PNG":
        # Of the header: Pillow gives 16 bits of colour as 8 without a word.
        depth, colour = encoded[24], encoded[25]
        still = not getattr(image, "is_animated", False)
        opaque = "transparency" not in image.info
        return depth == 8 and colour in (_PNG_GREY, _PNG_RGB) and still and opaque
    return False


def _upright(image, background: tuple[int, int, int]):
    """Returns the first frame as an upright opaque picture of 8 bits, RGB or grey."""
    from PIL import Image as pillow
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # `convert` would clip 16 bits at 255.
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        opaque = pillow.new("RGBA", image.size, (*background, 255))
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encode(picture, lossy: bool) -> bytes:
    buffer = io.BytesIO()
    if lossy:
        picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def _is_lossy_webp(encoded: bytes) -> bool:
    """Whether the first frame of a WebP file is of the lossy kind."""
    if encoded[8:12] != b"WEBP":
        return False
    position = 12
    while position + 8 <= len(encoded):
        name, size = struct.unpack_from("<4sI", encoded, position)
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        if name == b"ANMF":
            position += 8 + 16  # into the frame, behind its place and duration
        else:
            position += 8 + size + size % 2
    return False


def _require_tensorflow(encoded: bytes, height: int, width: int) -> None:
    """Refuses what the decoder that is served refuses, or sees differently."""
    import tensorflow as tf

    try:
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        raise BadImageError("not_decodable_by_tensorflow") from None
    if tuple(pixels.shape) != (height, width, 3):
        raise BadImageError("not_decodable_by_tensorflow")
