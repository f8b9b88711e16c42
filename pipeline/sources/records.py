"""Reads images out of TFRecord files of `tf.train.Example`, part by part."""

import contextlib
import gzip
import itertools
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError

from pipeline.records import examples, tfrecord
from pipeline.records.example_proto import example_class
from pipeline.sources import uris
from pipeline.sources.base import Reference

ZIPPED = ".gz"
DAMAGED = "shard_damaged"

# What a gzip stream that is cut or altered raises.
_BAD_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Layout:
    """Where an Example keeps what belongs to an image.

    Args:
        image: Feature of the bytes of the image file.
        label: Feature of the index of its class; None where nobody asks for classes.
        text: Feature of the name of its class, or None.
        group: Feature of its group, or None.
        names: The class names by index, where Examples know only the index; else empty.
    """

    image: str = examples.IMAGE
    label: str | None = examples.LABEL
    text: str | None = examples.TEXT
    group: str | None = examples.GROUP
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Some records of a file, one after the other.

    Args:
        path: Path or URI of the file.
        prefix: What the names of its images begin with.
        first: The number that the name of the first one ends with.
        offset: Where it begins in the file, in bytes; 0 where the file is zipped.
        count: How many there are.
        split: The split that all of them are in, or None.
        bad: Reason code of why none of them can be used, or None.
        lost: Name of what is lost behind them, or None.
        layout: Where an Example keeps what belongs to an image.
    """

    path: str
    prefix: str
    first: int
    offset: int
    count: int
    split: str | None = None
    bad: str | None = None
    lost: str | None = None
    layout: Layout = Layout()


@dataclass(frozen=True, slots=True)
class Described:
    """What a record says of an image.

    Args:
        image: The bytes of the image file, if there are any.
        text: The name of its class; empty where it has none.
        label: The index of its class, or None.
        group: Its group, or None.
        bad: Reason code of why it cannot be used, or None.
        features: The names of all features, where there is no image.
    """

    image: bytes = b""
    text: str = ""
    label: int | None = None
    group: str | None = None
    bad: str | None = None
    features: tuple[str, ...] = ()


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Opens the file at `path`, unzipped where its name says so.

    Raises:
        BadFileError: There is no such file, or it cannot be read.
    """
    with uris.opened(path) as file:
        yield unzipped(path, file)


def unzipped(path: str, file: BinaryIO) -> BinaryIO:
    """Returns the open file, to be read through gzip where its name says so."""
    return gzip.GzipFile(fileobj=file) if path.lower().endswith(ZIPPED) else file


def records(
    file: BinaryIO, path: str, index: int = 0, offset: int = 0
) -> Iterator[tfrecord.Record]:
    """Yields the records of an open file.

    Raises:
        DamageError: The file is cut or altered, zipped or not.
    """
    try:
        yield from tfrecord.records(file, path, index, offset)
    except _BAD_GZIP as error:
        raise tfrecord.DamageError(f"{path}: the gzip stream is damaged: {error}") from None


def read(part: Part) -> Iterator[tuple[Reference, bytes]]:
    """Yields the images of a part; `part.count` of them, and one for what is lost."""
    done, reason = 0, DAMAGED
    try:
        with opened(part.path) as file:
            if part.offset:
                file.seek(part.offset)
            found = records(file, part.path, part.first, part.offset)
            for record in itertools.islice(found, part.count):
                described = describe(record, part.layout)
                reference = Reference(
                    f"{part.prefix}#{part.first + done}",
                    described.text,
                    part.split,
                    described.group,
                    part.bad or described.bad,
                )
                yield reference, b"" if reference.bad else described.image
                done += 1
    except tfrecord.DamageError:
        pass  # What is behind the damage follows as damaged.
    except (uris.BadFileError, OSError):
        reason = "unreadable"
    for index in range(part.first + done, part.first + part.count):
        yield Reference(f"{part.prefix}#{index}", "", part.split, bad=reason), b""
    if part.lost:
        yield Reference(part.lost, "", part.split, bad=DAMAGED), b""


def describe(record: tfrecord.Record, layout: Layout) -> Described:
    """Returns what a record says of an image, or why it cannot be used."""
    if not record.intact:
        return Described(bad="record_damaged")
    try:
        feature = example_class().FromString(record.payload).features.feature
    except DecodeError:
        return Described(bad="not_an_example")
    images, labels = _values(feature, layout.image, bytes), _values(feature, layout.label, int)
    texts, groups = _values(feature, layout.text, bytes), _values(feature, layout.group, bytes)
    if not images:
        return Described(bad="no_image", features=tuple(sorted(feature)))
    if max(map(len, (images, labels, texts, groups))) > 1:
        return Described(bad="several_values")
    if layout.label is None:
        return Described(images[0])
    try:
        text = texts[0].decode() if texts else ""
    except UnicodeDecodeError:
        return Described(bad="not_utf8")
    label = labels[0] if labels else None
    if layout.names:
        text = layout.names[label] if label in range(len(layout.names)) else ""
    elif not text and label is not None:
        text = str(label)
    if not text or (label is not None and label < 0):
        return Described(images[0], label=label, bad="no_label")
    group = os.fsdecode(groups[0]) if groups else ""
    return Described(images[0], text, label, group or None)


def _values(feature: Any, name: str | None, kind: type) -> list[Any]:
    """Returns the values of a feature, of which there are none where it has another type."""
    if name is None or name not in feature:
        return []
    found = feature[name]
    return list(found.bytes_list.value if kind is bytes else found.int64_list.value)


def fetch(path: str, index: int, layout: Layout) -> bytes | None:
    """Returns the image of record `index` of the file at `path`, or None where there is none."""
    try:
        with opened(path) as file:
            if not (path.lower().endswith(ZIPPED) or uris.is_uri(path)):
                # Many times faster than to read what is before it.
                offsets = tfrecord.offsets(file, Path(path).stat().st_size, path)
                offset = next(itertools.islice(offsets, index, None), None)
                if offset is None:
                    return None
                file.seek(offset)
                index = 0
            found = next(itertools.islice(records(file, path), index, None), None)
    except (tfrecord.DamageError, uris.BadFileError, OSError):
        return None
    return describe(found, layout).image or None if found else None
