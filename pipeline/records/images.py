"""Decides whether the bytes of a file are an image that can be trained on and served."""

import io
import warnings

# Names under which TensorFlow's `decode_image` takes what Pillow recognises.
FORMATS = {"BMP": "bmp", "GIF": "gif", "JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}


class BadImageError(Exception):
    """The bytes are no image that can be used; the message is a stable reason code."""


def inspect(encoded: bytes) -> tuple[str, int, int]:
    """Decodes `encoded` in full, with Pillow and with TensorFlow.

    Pillow alone lets pass what TensorFlow's decoder, which is the one that is served, refuses,
    and the other way round; `Image.verify` notices no truncation at all.

    Returns:
        The format, the height and the width in pixels.

    Raises:
        BadImageError: It cannot be used; the message is `empty`, `not_an_image`, `too_large`,
            `damaged`, `format_<name>` or `not_decodable_by_tensorflow`.
    """
    import tensorflow as tf
    from PIL import Image

    if not encoded:
        raise BadImageError("empty")
    try:
        # Pillow warns of what it tolerates; here it is tolerated, or refused by name.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded)) as image:
            name, (width, height) = image.format or "unknown", image.size
            if name not in FORMATS:
                raise BadImageError(f"format_{name.lower()}")
            if width * height > Image.MAX_IMAGE_PIXELS:
                raise BadImageError("too_large")
            image.load()
    except Image.UnidentifiedImageError:
        raise BadImageError("not_an_image") from None
    except Image.DecompressionBombError:
        raise BadImageError("too_large") from None
    except (OSError, SyntaxError, ValueError, EOFError):
        raise BadImageError("damaged") from None
    try:
        tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        raise BadImageError("not_decodable_by_tensorflow") from None
    return FORMATS[name], height, width
