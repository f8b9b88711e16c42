"""What a source of images is: it says what there is without reading it, and reads it part by part.

A part is small and can be sent to another process or machine, so that any Beam worker can read it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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


def in_parts(references: list[Reference], size: int = PART) -> tuple[tuple[Reference, ...], ...]:
    """Returns the references in runs of `size`."""
    return tuple(
        tuple(references[start : start + size]) for start in range(0, len(references), size)
    )
