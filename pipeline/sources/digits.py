"""The embedded data: 1,797 scans of handwritten digits, shipped inside scikit-learn."""

import functools
import io
from collections.abc import Iterator
from importlib import metadata

from pipeline.sources.base import Reference, Source, in_parts

NAME = "digits"


def source() -> Source:
    """Returns the digits as 8 by 8 grey PNG files."""
    _, targets = _arrays()
    references = [
        Reference(f"{NAME}/{index:04}", str(target)) for index, target in enumerate(targets)
    ]
    return Source(
        name=NAME,
        classes=tuple(str(digit) for digit in range(10)),
        total=len(references),
        parts=in_parts(references),
        read=_read,
        digest=_digest,
    )


def _digest() -> str:
    return f"scikit-learn {metadata.version('scikit-learn')}"


@functools.cache
def _arrays():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images * (255 / 16)).round().astype("uint8"), data.target


def fetch(name: str) -> bytes | None:
    """Returns the bytes of the digit `name`, or None where there is none of that name."""
    _, _, number = name.rpartition("/")
    if not number.isdecimal() or int(number) >= len(_arrays()[1]):
        return None
    ((_, encoded),) = _read((Reference(name, ""),))
    return encoded


def _read(part: tuple[Reference, ...]) -> Iterator[tuple[Reference, bytes]]:
    from PIL import Image

    images, _ = _arrays()
    for reference in part:
        buffer = io.BytesIO()
        Image.fromarray(images[int(reference.name.rpartition("/")[2])]).save(buffer, "PNG")
        yield reference, buffer.getvalue()
