"""Where images come from: the embedded digits, or a folder tree.

A source lists references to its images without reading them, and reads one by its reference, so
that a Beam worker anywhere can do the reading.
"""

import functools
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline import files
from pipeline.errors import UsageError

DIGITS = "digits"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")

# Names of first-level folders that mean splits and not classes.
_SPLITS = {"train": "train", "eval": "eval", "val": "eval", "validation": "eval", "test": "test"}


@dataclass(frozen=True)
class Reference:
    """One image of a source, not yet read.

    Args:
        name: Identifies it to a person: a path, or `digits/0017`.
        text: The name of its class.
        split: The split that the source puts it in, or None to split by content.
    """

    name: str
    text: str
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """A collection of labelled images.

    Args:
        classes: The class names in label order.
        references: The images.
        read: Returns the encoded image of a reference; can be sent to another process.
    """

    classes: tuple[str, ...]
    references: tuple[Reference, ...]
    read: Callable[[Reference], bytes]


def open_source(data: str) -> Source:
    """Returns the source that `data` names.

    Args:
        data: `"digits"`, or the path of a folder: `ROOT/CLASS/IMAGE` or `ROOT/SPLIT/CLASS/IMAGE`.

    Raises:
        UsageError: There is no such folder, or there are no images or too few classes in it.
    """
    return _digits() if data == DIGITS else _folder(Path(data))


def content_digest(data: str) -> str:
    """Returns a digest that changes when an image of the source changes; never by time stamps."""
    if data == DIGITS:
        return f"scikit-learn {metadata.version('scikit-learn')}"
    root = Path(data)
    digest = hashlib.sha256()
    for reference in _folder(root).references:
        digest.update(files.sha256_file(Path(reference.name)).encode())
        digest.update(os.fsencode(f"  {reference.name}\n"))
    return digest.hexdigest()


@functools.cache
def _digit_arrays():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images * (255 / 16)).round().astype("uint8"), data.target


def _digits() -> Source:
    _, targets = _digit_arrays()
    return Source(
        classes=tuple(str(digit) for digit in range(10)),
        references=tuple(
            Reference(f"digits/{index:04}", str(target)) for index, target in enumerate(targets)
        ),
        read=_read_digit,
    )


def _read_digit(reference: Reference) -> bytes:
    from PIL import Image

    images, _ = _digit_arrays()
    buffer = io.BytesIO()
    Image.fromarray(images[int(reference.name.rpartition("/")[2])]).save(buffer, "PNG")
    return buffer.getvalue()


def _folder(root: Path) -> Source:
    if not root.is_dir():
        raise UsageError(
            f"data {str(root)!r}: no such folder; expected {DIGITS!r} or a folder CLASS/IMAGE"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if folders and all(path.name.lower() in _SPLITS for path in folders):
        by_split = [(_SPLITS[path.name.lower()], path) for path in folders]
    else:
        by_split = [(None, root)]
    references = tuple(
        Reference(str(path), folder.name, split)
        for split, parent in by_split
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and folder.name[0] != "."
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not references:
        raise UsageError(
            f"data {str(root)!r}: found no images; expected {root}/CLASS/IMAGE or "
            f"{root}/SPLIT/CLASS/IMAGE with {', '.join(EXTENSIONS)}"
        )
    classes = tuple(sorted({reference.text for reference in references}))
    if len(classes) < 2:
        raise UsageError(
            f"data {str(root)!r}: found one class, {classes[0]!r}; expected a folder for each of "
            "at least two"
        )
    return Source(classes, references, _read_file)


def _read_file(reference: Reference) -> bytes:
    return Path(reference.name).read_bytes()
