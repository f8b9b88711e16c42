"""From the bytes of any image file to the bytes that are stored, or a reason why not.

What is stored is a JPEG or PNG that TensorFlow decodes inside the served graph to exactly the
upright picture that a person sees.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from hashlib import sha256

# What is read, under Pillow's names.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
STORED_FORMATS = ("jpeg", "png")
# Pillow calls a JPEG with further pictures behind it MPO.
_JPEG = ("JPEG", "MPO")

_ORIENTATION = 0x0112
# Of the values that are defined, 1 means upright; what is not defined turns nothing.
_TURNED = range(2, 9)
_PNG_GREY, _PNG_RGB = 0, 2
# Pillow hashes 32 by 32 pixels; twice that many are enough to begin with.
_HASHED = (64, 64)


@dataclass(frozen=True)
class Rules:
    """What is refused, and how the rest is stored.

    Args:
        background: RGB behind transparent pixels.
        short_side: Larger pictures are shrunk to so many pixels on their shorter side; None
            leaves them as they are. Nothing is ever enlarged.
        jpeg_quality: Of JPEG files that are written, 1 to 95.
        max_pixels: The greatest number of pixels.
        max_side: The greatest height and width, in pixels.
        max_bytes: The greatest size of the file.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    short_side: int | None = None
    jpeg_quality: int = 95
    max_pixels: int = 64_000_000
    max_side: int = 30_000
    max_bytes: int = 64 << 20


RULES = Rules()
# Beyond it Pillow takes every picture for an attack.
MOST_PIXELS = 178_956_970


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
        pixels: SHA-256 of size and RGB pixels: equal for equal pictures.
        perceptual: The 64 bits of the perceptual hash, of which pictures that look alike share
            most (`imagehash.phash`).
        converted: Whether `encoded` differs from the bytes that were given.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    pixels: bytes
    perceptual: int
    converted: bool


def normalize(encoded: bytes, rules: Rules = RULES) -> Image:
    """Decodes `encoded` in full and returns what is stored of it.

    An upright RGB JPEG and an 8-bit RGB or grey PNG are stored byte for byte. Everything else is
    converted: turned upright as EXIF says, CMYK, palettes and 16 bits brought to 8-bit RGB or
    grey, transparency laid over the background, of an animation the first frame, and what is too
    large shrunk; from a lossless format to PNG, from a lossy one to JPEG.

    Args:
        encoded: A JPEG, PNG, GIF, BMP or WebP file.
        rules: What is refused, and how the rest is stored.

    Raises:
        BadImageError: It cannot be used; the message is `empty`, `too_many_bytes`,
            `not_an_image`, `format_<name>`, `too_many_pixels`, `too_long`, `damaged` or
            `not_decodable_by_tensorflow`.
    """
    if not encoded:
        raise BadImageError("empty")
    if len(encoded) > rules.max_bytes:
        raise BadImageError("too_many_bytes")
    image = _decode(encoded, rules)
    small = rules.short_side is None or min(image.size) <= rules.short_side
    as_it_is = small and _is_stored_as_it_is(image, encoded)
    picture = image if as_it_is else _upright(image, rules.background)
    lossy = image.format in _JPEG or _is_lossy_webp(encoded)
    if not small:
        picture = _shrink(picture, rules.short_side)
    stored = encoded if as_it_is else _encode(picture, lossy, rules.jpeg_quality)
    _require_tensorflow(stored, picture.height, picture.width)
    size = struct.pack("<II", picture.height, picture.width)
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    return Image(
        encoded=stored,
        format="jpeg" if lossy else "png",
        height=picture.height,
        width=picture.width,
        pixels=sha256(size + rgb.tobytes()).digest(),
        perceptual=_perceptual(picture),
        converted=not as_it_is,
    )


def _decode(encoded: bytes, rules: Rules):
    """Returns the file as Pillow's image, its pixels and its EXIF data decoded."""
    from PIL import Image as pillow

    try:
        # Pillow warns of what it tolerates; here it is tolerated, or refused by name.
        with (
            warnings.catch_warnings(action="ignore"),
            pillow.open(io.BytesIO(encoded), formats=FORMATS) as image,
        ):
            if image.width * image.height > rules.max_pixels:
                raise BadImageError("too_many_pixels")
            if max(image.size) > rules.max_side:
                raise BadImageError("too_long")
            image.load()
            image.getexif()
            return image
    except BadImageError:
        raise
    except pillow.UnidentifiedImageError:
        raise BadImageError(_other_format(encoded)) from None
    except pillow.DecompressionBombError:
        raise BadImageError("too_many_pixels") from None
    # Decoders raise whatever it may be on files that are cut or altered.
    except Exception:  # noqa: BLE001
        raise BadImageError("damaged") from None


def _other_format(encoded: bytes) -> str:
    """Returns the reason for what is no image of the formats that are read."""
    from PIL import Image as pillow

    try:
        with warnings.catch_warnings(action="ignore"), pillow.open(io.BytesIO(encoded)) as image:
            return f"format_{str(image.format).lower()}"
    # The readers of rare formats raise whatever it may be.
    except Exception:  # noqa: BLE001
        return "not_an_image"


def _is_stored_as_it_is(image, encoded: bytes) -> bool:
    """Whether TensorFlow's decoder, which knows no EXIF, sees what a person sees."""
    if image.getexif().get(_ORIENTATION) in _TURNED:
        return False
    if image.format in _JPEG:
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


def _shrink(picture, short_side: int):
    from PIL import Image as pillow

    scale = short_side / min(picture.size)
    size = tuple(max(short_side, round(side * scale)) for side in picture.size)
    return picture.resize(size, pillow.Resampling.LANCZOS)


def _perceptual(picture) -> int:
    import imagehash  # imports scipy
    from PIL import Image as pillow

    if min(picture.size) > max(_HASHED):
        # The hash looks at low frequencies alone, so nearly nothing is lost and much is saved.
        picture = picture.resize(_HASHED, pillow.Resampling.BOX, reducing_gap=1.0)
    return int(str(imagehash.phash(picture)), 16)


def _encode(picture, lossy: bool, quality: int) -> bytes:
    buffer = io.BytesIO()
    if lossy:
        picture.convert("RGB").save(buffer, "JPEG", quality=quality)
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
