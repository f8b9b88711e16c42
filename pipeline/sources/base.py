"""What a source of images is: it says what there is without reading it, and reads it part by part.

A part is small and can be sent to another process or machine, so that any Beam worker can read it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

# Names of splits in folders, manifests and data sets, and the split that each of them means.
SPLITS = {
    "train": "train",
    "training": "train",
    "eval": "eval",
    "val": "eval",
    "valid": "eval",
    "validation": "eval",
    "dev": "eval",
    "test": "test",
    "testing": "test",
}

PART = 64

# What is greater is not even taken into memory; ExampleGen's own limit is lower.
MAX_BYTES = 1 << 30

# Shorter than what `int` refuses for its length.
_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Reference:
    """One image of a source, without its bytes.

    Args:
        name: Identifies it to a person: a path, a URI, or `digits/0017`.
        text: The name of its class; empty where the source gives none.
        split: The split that the source puts it in (`train`, `eval` or `test`), or None.
        group: What must not be torn apart by a split, such as a patient or a camera, or None.
        bad: Reason code of why it cannot be used, known without looking at its bytes, or None.
    """

    name: str
    text: str
    split: str | None = None
    group: str | None = None
    bad: str | None = None


@dataclass(frozen=True)
class Source:
    """A collection of labelled images.

    Args:
        name: A short name of the data set, such as `photos` or `cifar10`.
        classes: The class names in label order.
        total: How many images there are, bad ones included.
        parts: What `read` takes, each some ten to some thousand images.
        read: Yields each image of a part with its bytes. What cannot be read comes with a `bad`
            reference and no bytes; nothing is left out and nothing is raised because of what an
            image contains. Can be sent to another process.
        digest: Returns what changes when any image or label changes; never by time stamps.
        splits: The splits that the source itself puts its images in; empty where it puts none.
        notices: Lines that a person should see before the images are read.
        span: The span that was read; 0 where the source has none.
        version: The version of the span; 0 where the source has none.
        damaged: One line for each file that is cut or damaged, so that nobody can say how many
            images are lost.
        location: The file or folder on this machine that all of it lies in; None where it lies
            behind URIs or in this package.
    """

    name: str
    classes: tuple[str, ...]
    total: int
    parts: tuple[Any, ...]
    read: Callable[[Any], Iterator[tuple[Reference, bytes]]]
    digest: Callable[[], str]
    splits: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    span: int = 0
    version: int = 0
    damaged: tuple[str, ...] = ()
    location: Path | None = None


def in_parts(references: list[Reference], size: int = PART) -> tuple[tuple[Reference, ...], ...]:
    """Returns the references in runs of `size`."""
    return tuple(
        tuple(references[start : start + size]) for start in range(0, len(references), size)
    )


def class_order(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns the different class names in label order: integers by value, others sorted."""
    found = set(texts)
    if all(_INTEGER.fullmatch(text) for text in found):
        return tuple(sorted(found, key=lambda text: (int(text), text)))
    return tuple(sorted(found))


def require_two(data: str, classes: tuple[str, ...], expected: str) -> None:
    """Raises UsageError when there are fewer than two classes.

    Args:
        data: What the person gave.
        classes: Those found.
        expected: What would be right.
    """
    if len(classes) < 2:
        found = f"found one class, {classes[0]!r}" if classes else "found no class"
        raise UsageError(f"data {data!r}: {found}; expected {expected}")


def own_splits(
    references: list[Reference],
) -> tuple[list[Reference], tuple[str, ...]]:
    """Returns the references, and the splits that the source itself puts its images in.

    Where all images are in one split, that says nothing, and it is taken away.
    """
    found = {reference.split for reference in references if not reference.bad}
    if len(found) == 1 and found != {None}:
        return [replace(reference, split=None) for reference in references], ()
    return references, in_order(found)


def in_order(splits: Iterable[str | None]) -> tuple[str, ...]:
    """Returns the different splits in the order train, eval, test, without None."""
    found = set(splits)
    return tuple(name for name in dict.fromkeys(SPLITS.values()) if name in found)
