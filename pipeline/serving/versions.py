"""The versions of a model on disk, by TF Serving's rules. Needs no TensorFlow."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, UsageError

SAVED_MODEL = "saved_model.pb"

# TF Serving looks into `assets.extra` for warmup requests and leaves the rest of it alone.
WARMUP = "assets.extra/tf_serving_warmup_requests"
RECORD = "assets.extra/pushed.json"

# TF Serving's version numbers are of 64 bits; a greater number is a name like any other.
GREATEST = 2**63 - 1


def number_of(name: str) -> int | None:
    """Returns the version number that a directory called `name` has for TF Serving, or None."""
    if not (name.isascii() and name.isdecimal()):
        return None
    return int(name) if int(name) <= GREATEST else None


def versions(base: Path) -> list[int]:
    """Returns the version numbers below `base`, lowest first.

    As in TF Serving, directories whose names are no whole numbers are none, and a number counts
    whether or not its directory is complete.
    """
    if not base.is_dir():
        return []
    numbers = (number_of(path.name) for path in base.iterdir() if path.is_dir())
    return sorted(number for number in numbers if number is not None)


def resolve(model: Path) -> Path:
    """Returns the directory of the SavedModel that `model` means.

    Args:
        model: A directory with a `saved_model.pb`, or one of version directories, of which the
            highest that is complete is taken.

    Raises:
        UsageError: There is none.
    """
    if not model.is_dir():
        raise UsageError(f"model {str(model)!r}: no such directory; `run` makes one")
    for candidate in (model, *(model / str(number) for number in reversed(versions(model)))):
        if (candidate / SAVED_MODEL).is_file():
            return candidate
    raise UsageError(
        f"model {str(model)!r}: found no {SAVED_MODEL} in it, nor in a directory of it that is "
        "named by a version number"
    )


def content(model: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a SavedModel by its relative path, sorted.

    The warmup requests and the record of the push are not part of the model.
    """
    names = (name for name in files.tree_listing(model) if name not in (WARMUP, RECORD))
    return {name: files.sha256_file(model / name) for name in names}


def digest_of(content: Mapping[str, str]) -> str:
    """Returns one SHA-256 over the names and the digests that `content` returned."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(content.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def digest(model: Path) -> str:
    """Returns one SHA-256 over the names and contents of the files of a SavedModel."""
    return digest_of(content(model))


def record(version: Path) -> dict[str, Any]:
    """Returns what was written down when `version` was pushed; nothing of one put there by hand.

    Raises:
        DataError: The record is damaged.
    """
    path = version / RECORD
    try:
        return parse_record(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except FileNotFoundError:
        return {}


def parse_record(text: str, source: str) -> dict[str, Any]:
    """Returns the record that `text` holds.

    Raises:
        DataError: It holds none; `source` is what the message calls it.
    """
    try:
        found = json.loads(text)
    except ValueError:
        raise DataError(f"{source}: not JSON; expected the record of a push") from None
    if not isinstance(found, dict):
        raise DataError(f"{source}: {type(found).__name__}; expected the record of a push")
    return found
