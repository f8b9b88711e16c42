"""A look at a collection of images before any run: classes, counts, splits, sizes, kinds of files."""

import io
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image, UnidentifiedImageError

from pipeline import sources
from pipeline.sources import Reference, Source

# Of so many images the headers are read; of more, of every second, third, ... one.
MOST = 2_000

_BAD = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, UnidentifiedImageError)


@dataclass(frozen=True)
class Survey:
    """What there is.

    Args:
        data: What a person called it, as `--data` takes it.
        name: A short name of the collection.
        total: The number of images.
        counts: Class to the number of images; of `looked` alone where the source does not tell.
        splits: Split of its own to the number of images; empty where it has none. Of `looked`
            alone where the source does not tell.
        counted: Whether `counts` and `splits` are those of all images.
        looked: The number of images whose header was read.
        sizes: Width and height of each of those that could be read, in pixels.
        formats: Pillow's name of a format to the number of such images.
        unreadable: Names of images that are none, among those looked at.
        notices: What a person should see.
    """

    data: str
    name: str
    total: int
    counts: dict[str, int]
    splits: dict[str, int]
    counted: bool
    looked: int
    sizes: list[tuple[int, int]]
    formats: dict[str, int]
    unreadable: list[str]
    notices: tuple[str, ...]

    @property
    def short_sides(self) -> list[int]:
        """The shorter side of each picture, in pixels, in order."""
        return sorted(min(size) for size in self.sizes)

    @property
    def short_side(self) -> int:
        """That of the picture in the middle; 0 where none could be read."""
        return int(median(self.short_sides)) if self.sizes else 0


def look(data: str, most: int = MOST) -> Survey:
    """Returns what a collection of images is like; of images that are files, headers alone are read.

    Args:
        data: What `sources.open_source` takes.
        most: At how many images it looks.

    Raises:
        UsageError: There is no such collection.
        DataError: TensorFlow Datasets cannot prepare it.
    """
    source = sources.open_source(data)
    listed = all(isinstance(part, tuple) and _is_listed(part) for part in source.parts)
    step = -(-source.total // most)
    looked = list(itertools.islice(_headers(source, step, listed), most))
    known = [reference for part in source.parts for reference in part] if listed else []
    references = known or [reference for reference, _ in looked]
    texts = Counter(reference.text for reference in references)
    splits = Counter(reference.split for reference in references if reference.split)
    found = [(reference, header) for reference, header in looked if header is not None]
    return Survey(
        data=data,
        name=source.name,
        total=source.total,
        counts={text: texts[text] for text in source.classes},
        splits={name: splits[name] for name in source.splits},
        counted=listed or step == 1,
        looked=len(looked),
        sizes=[header[1] for _, header in found],
        formats=dict(Counter(header[0] for _, header in found).most_common()),
        unreadable=[reference.name for reference, header in looked if header is None],
        notices=source.notices,
    )


def _is_listed(part: tuple) -> bool:
    return all(isinstance(reference, Reference) for reference in part)


_Header = tuple[str, tuple[int, int]]


def _headers(source: Source, step: int, listed: bool) -> Iterator[tuple[Reference, _Header | None]]:
    """Yields each `step`-th image with its format and size, or None for what is no image."""
    if not listed:
        # Parts are files of records, or so: what is in one cannot be had without reading it.
        for part in source.parts[::step]:
            for reference, content in source.read(part):
                yield reference, None if reference.bad else _header(io.BytesIO(content))
        return
    references = [reference for part in source.parts for reference in part][::step]
    for reference in references:
        if not reference.bad and Path(reference.name).is_file():
            yield reference, _header(reference.name)
        else:
            for read, content in source.read((reference,)):
                yield read, None if read.bad else _header(io.BytesIO(content))


def _header(file: str | io.BytesIO) -> _Header | None:
    with warnings.catch_warnings():
        # Of pictures that are large, which a run refuses by its own limit.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                return str(image.format), image.size
        except _BAD:
            return None
