"""A folder tree: `ROOT/CLASS/IMAGE`, or `ROOT/SPLIT/CLASS/IMAGE`."""

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline import files
from pipeline.errors import UsageError
from pipeline.sources.base import SPLITS, Reference, Source, in_parts

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


def source(root: Path) -> Source:
    """Returns the images below `root`.

    Raises:
        UsageError: There is no such folder, or there are no images or too few classes in it.
    """
    if not root.is_dir():
        raise UsageError(
            f"data {str(root)!r}: no such folder; expected 'digits' or a folder CLASS/IMAGE"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if folders and all(path.name.lower() in SPLITS for path in folders):
        by_split = [(SPLITS[path.name.lower()], path) for path in folders]
    else:
        by_split = [(None, root)]
    references = [
        Reference(str(path), folder.name, split)
        for split, parent in by_split
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and folder.name[0] != "."
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    ]
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
    return Source(
        name=root.absolute().name,
        classes=classes,
        total=len(references),
        parts=in_parts(references),
        read=read,
        digest=functools.partial(_digest, references),
        splits=tuple(dict.fromkeys(split for split, _ in by_split if split)),
    )


def read(part: tuple[Reference, ...]) -> Iterator[tuple[Reference, bytes]]:
    """Yields the files that the names of `part` are paths of."""
    for reference in part:
        try:
            yield reference, Path(reference.name).read_bytes()
        except OSError:
            yield replace(reference, bad="unreadable"), b""


def _digest(references: list[Reference]) -> str:
    digest = hashlib.sha256()
    for reference in references:
        digest.update(files.sha256_file(Path(reference.name)).encode())
        digest.update(os.fsencode(f"  {reference.name}\n"))
    return digest.hexdigest()
