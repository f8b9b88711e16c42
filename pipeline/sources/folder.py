"""A folder tree: `ROOT/CLASS/IMAGE`, or `ROOT/SPLIT/CLASS/IMAGE`."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.errors import UsageError
from pipeline.sources import base, listing, uris
from pipeline.sources.base import SPLITS, Reference, Source

# Also of formats that are not read: such files are then quarantined and counted, not passed over.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif", ".avifs", ".heic", ".heif", ".ico", ".tga", ".jxl"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx"),
)

_ENDING = re.compile(r"\.[a-z0-9]{1,10}")
_SHOWN = 10


def source(root: str, files: list[tuple[str, ...]]) -> Source:
    """Returns the images among `files`.

    Args:
        root: Path or URI of a folder.
        files: What is in it, as `uris.files_below` returns it.

    Raises:
        UsageError: There are no images or too few classes, or a folder stands beside those of
            splits and is none.
    """
    images = [file for file in files if file[-1].lower().endswith(EXTENSIONS)]
    depth = _depth(root, images)
    references = [
        Reference(
            uris.join(root, "/".join(file)), file[depth], SPLITS[file[0].lower()] if depth else None
        )
        for file in images
        if len(file) > depth + 1
    ]
    notices = _notices(root, files, images, depth)
    if not references:
        expected = f"expected {root}/CLASS/IMAGE or {root}/SPLIT/CLASS/IMAGE, such as cat/1.jpg"
        raise UsageError("; ".join((f"data {root!r}: found no images", expected, *notices)))
    name = root.rstrip("/").rpartition("/")[2] if uris.is_uri(root) else Path(root).absolute().name
    classes = tuple(sorted({reference.text for reference in references}))
    base.require_two(root, classes, "a folder for each of at least two")
    return replace(listing.source(name, references, classes), notices=notices)


def _depth(root: str, images: list[tuple[str, ...]]) -> int:
    """Returns which folder of an image is its class: 1 below folders of splits, else 0."""
    folders = {file[0] for file in images if len(file) > 1}
    splits = {folder for folder in folders if folder.lower() in SPLITS}
    others = sorted(folders - splits)
    if not others:
        return 1 if splits else 0
    # A class may be called "train" or "test", but hardly both where one holds folders in turn.
    nested = {SPLITS[file[0].lower()] for file in images if len(file) > 2 and file[0] in splits}
    if "train" in nested and len({SPLITS[folder.lower()] for folder in splits}) > 1:
        raise UsageError(
            f"data {root!r}: the folder {others[0]!r} holds images and stands beside the splits "
            f"{', '.join(sorted(splits))}, but is none; move it elsewhere, or call it train, val "
            "or test; if all of these are classes, name the images in a manifest"
        )
    return 0


def _notices(
    root: str, files: list[tuple[str, ...]], images: list[tuple[str, ...]], depth: int
) -> tuple[str, ...]:
    """Returns what a person should know of the files that are not read."""
    notices = left_out(root, files, images)
    if loose := [file for file in images if len(file) <= depth + 1]:
        lie = "1 image lies" if len(loose) == 1 else f"{len(loose)} images lie"
        first = "/".join(loose[0])
        notices.append(f"{root}: {lie} outside a folder of a class, the first is {first!r}")
    return tuple(notices)


def left_out(root: str, files: list[tuple[str, ...]], images: list[tuple[str, ...]]) -> list[str]:
    """Returns a line that counts the files that are no images by their names; none where all are.

    Args:
        root: Path or URI of a folder.
        files: What is in it, as `uris.files_below` returns it.
        images: Those of them that are images.
    """
    others = Counter(map(_ending, {*files} - {*images}))
    if count := others.total():
        kinds = sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))
        shown = [f"{number} {ending}" for ending, number in kinds[:_SHOWN]]
        if rest := sum(number for _, number in kinds[_SHOWN:]):
            shown.append(f"{rest} others")
        left = "1 file is" if count == 1 else f"{count} files are"
        return [f"{root}: {left} left out: {', '.join(shown)}"]
    return []


def _ending(file: tuple[str, ...]) -> str:
    ending = PurePosixPath(file[-1]).suffix.lower()
    return ending if _ENDING.fullmatch(ending) else "without ending"
