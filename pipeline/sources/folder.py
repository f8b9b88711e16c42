"""A folder tree: `ROOT/CLASS/IMAGE`, or `ROOT/SPLIT/CLASS/IMAGE`."""

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.sources import base, listing, uris
from pipeline.sources.base import SPLITS, Reference, Source

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


def source(root: str, files: list[tuple[str, ...]]) -> Source:
    """Returns the images among `files`.

    Args:
        root: Path or URI of a folder.
        files: What is in it, as `uris.files_below` returns it.

    Raises:
        UsageError: There are no images or too few classes.
    """
    images = [file for file in files if file[-1].lower().endswith(EXTENSIONS)]
    folders = {file[0].lower() for file in files if len(file) > 1}
    depth = 1 if folders and folders <= SPLITS.keys() else 0
    references = [
        Reference(
            uris.join(root, "/".join(file)), file[depth], SPLITS[file[0].lower()] if depth else None
        )
        for file in images
        if len(file) > depth + 1
    ]
    expected = f"{root}/CLASS/IMAGE or {root}/SPLIT/CLASS/IMAGE with {', '.join(EXTENSIONS)}"
    if not references:
        raise UsageError(f"data {root!r}: found no images; expected {expected}")
    name = root.rstrip("/").rpartition("/")[2] if uris.is_uri(root) else Path(root).absolute().name
    classes = tuple(sorted({reference.text for reference in references}))
    base.require_two(root, classes, "a folder for each of at least two")
    return listing.source(name, references, classes)
