"""What sources share that name the file of each image: a folder tree, or a manifest."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace

from pipeline.sources import base, uris
from pipeline.sources.base import Reference, Source


def source(name: str, references: list[Reference], classes: tuple[str, ...]) -> Source:
    """Returns the source of `references`, whose names are paths or URIs of image files.

    Args:
        name: A short name of the data set.
        references: In a fixed order. Of those that are bad, no file is read.
        classes: The class names in label order.
    """
    references, splits = base.own_splits(references)
    return Source(
        name=name,
        classes=classes,
        total=len(references),
        parts=base.in_parts(references),
        read=read,
        digest=functools.partial(_digest, references),
        splits=splits,
    )


def read(part: tuple[Reference, ...]) -> Iterator[tuple[Reference, bytes]]:
    """Yields the files that the names of `part` are paths of."""
    paths = [reference.name for reference in part if not reference.bad]
    contents = uris.over(_bytes_or_reason, paths)
    for reference in part:
        content = b"" if reference.bad else next(contents)
        if isinstance(content, str):
            yield replace(reference, bad=content), b""
        else:
            yield reference, content


def _bytes_or_reason(path: str) -> bytes | str:
    try:
        return uris.read(path)
    except uris.BadFileError as error:
        return str(error)


def _digest(references: list[Reference]) -> str:
    digest = hashlib.sha256()
    for part in base.in_parts(references):
        paths = [reference.name for reference in part if not reference.bad]
        contents = uris.over(uris.sha256, paths)
        for reference in part:
            content = "" if reference.bad else next(contents)
            # Every field, so that an edit of the manifest counts; `repr` keeps them apart.
            digest.update(f"{content}  {reference!r}\n".encode())
    return digest.hexdigest()
