"""The images of a split where they lie: every shard verified once, every image read by number."""

import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from pipeline.errors import DataError
from pipeline.records import examples, manifest
from pipeline.records.manifest import Manifest, Shard

_HEADER = 12  # bytes in front of a payload: its length and the CRC of that
_FOOTER = 4
_BUFFER = 1 << 20
_JPEG = b"\xff\xd8\xff"
_SPARE_FILES = 256

_ENTRY = np.dtype(
    [
        ("offset", np.int64),
        ("length", np.int64),
        ("label", np.int64),
        ("size", np.int32, (2,)),
        ("jpeg", np.bool_),
    ]
)


class Records:
    """The images of one split, in their stored order, without their pixels.

    The bytes of an image are read when they are asked for, with one call at a known place. They
    are not mapped into memory: a file that is cut while it is mapped kills the process.

    Args:
        files: The shards.
        shard: Index into `files` for each image.
        offsets: Byte at which each image begins in its file.
        lengths: Bytes of each image.
        labels: Class of each image, int64.
        sizes: Height and width of each image, int32 of shape (images, 2).
        jpeg: Whether each image is a JPEG.
    """

    def __init__(
        self,
        files: list[Path],
        shard: np.ndarray,
        offsets: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
        jpeg: np.ndarray,
    ):
        self.labels = labels
        self.sizes = sizes
        self.jpeg = jpeg
        self._files = files
        self._shard, self._offsets, self._lengths = shard, offsets, lengths
        _allow_open_files(len(files))
        self._descriptors = [os.open(path, os.O_RDONLY) for path in files]

    def __len__(self) -> int:
        return len(self.labels)

    def close(self) -> None:
        """Closes the files; nothing can be read afterwards."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def names(self, rows: np.ndarray) -> list[str]:
        """Returns the names of the files that the images `rows` were made from.

        Reads the shards again up to these images: names are wanted so rarely that they are not
        kept.
        """
        found = {}
        for shard in set(self._shard[rows].tolist()):
            wanted = {int(self._offsets[row]) for row in rows if self._shard[row] == shard}
            found.update(((shard, at), name) for at, name in _names(self._files[shard], wanted))
        return [found[int(self._shard[row]), int(self._offsets[row])] for row in rows]

    def encoded(self, rows: np.ndarray) -> np.ndarray:
        """Returns the files of the images `rows` as an array of bytes objects.

        Raises:
            DataError: A shard was cut after it was verified.
        """
        found = np.empty(len(rows), object)
        places = (column[rows].tolist() for column in (self._shard, self._offsets, self._lengths))
        for number, (shard, offset, length) in enumerate(zip(*places, strict=True)):
            content = os.pread(self._descriptors[shard], length, offset)
            if len(content) != length:
                raise DataError(
                    f"{self._files[shard]}: ends inside an image, which it did not when the "
                    "training began; run ExampleGen again"
                )
            found[number] = content
        return found


def open_split(root: Path, contents: Manifest, split: str) -> Records:
    """Reads every shard of a split once, compares it with the manifest, and finds its images.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        split: Name of the split.

    Raises:
        DataError: There is no such split, or a shard is missing, altered, cut or not mentioned;
            the message names it.
    """
    chosen = contents.split(split)
    manifest.verify(root, contents, ())  # no shard that the manifest does not know
    with ThreadPoolExecutor() as pool:
        tables = list(pool.map(lambda shard: _read(root, shard), chosen.shards))
    if any(table is None for table in tables):
        manifest.verify(root, contents, (split,))  # says what is wrong with it
        raise DataError(f"{root}: the split {split!r} does not match its manifest")
    table = np.concatenate(tables)
    labels = table["label"]
    counts = np.bincount(labels[labels >= 0], minlength=len(contents.classes)).tolist()
    if counts != [chosen.class_counts[name] for name in contents.classes]:
        raise DataError(
            f"{root}: the labels of the split {split!r} are not those that its manifest counts; "
            "run ExampleGen again"
        )
    return Records(
        [root / shard.file for shard in chosen.shards],
        np.repeat(np.arange(len(tables)), [len(found) for found in tables]),
        table["offset"],
        table["length"],
        labels,
        table["size"],
        table["jpeg"],
    )


def _read(root: Path, shard: Shard) -> np.ndarray | None:
    """Returns where the images of a shard are, or None where it is not what it should be.

    One CRC over all bytes covers everything that the CRCs of the single records cover.
    """
    path = root / shard.file
    if not path.is_file() or path.stat().st_size != shard.bytes:
        return None
    checksum = google_crc32c.Checksum()
    entries: list[tuple | None] = []
    position = 0
    with path.open("rb", _BUFFER) as file:
        while header := file.read(_HEADER):
            length = int.from_bytes(header[:8], "little")
            end = position + _HEADER + length + _FOOTER
            if end > shard.bytes:
                return None
            body = file.read(length + _FOOTER)
            checksum.update(header)
            checksum.update(body)
            entries.append(_entry(body[:length], position + _HEADER))
            position = end
    if len(entries) != shard.records or checksum.hexdigest().decode() != shard.crc32c:
        return None
    if None in entries:
        raise DataError(
            f"{path}: record {entries.index(None)} is no tf.train.Example of an image with its "
            "label and size; run ExampleGen again"
        )
    return np.array(entries, _ENTRY)


def _names(path: Path, wanted: set[int]) -> Iterator[tuple[int, str]]:
    """Yields the bytes at which the wanted images begin, with their files' names."""
    last, position = max(wanted), 0
    with path.open("rb") as file:
        while position < last:
            file.seek(position)
            length = int.from_bytes(file.read(_HEADER)[:8], "little")
            end = position + _HEADER + length + _FOOTER
            for offset in wanted:
                if position < offset < end:
                    name = examples.parse(file.read(length)).filename
                    yield offset, name or f"byte {offset} of {path.name}"
                    break
            position = end


def _entry(payload: bytes, position: int) -> tuple | None:
    """Returns what is kept of the record whose payload begins at byte `position`, or None."""
    try:
        example = examples.parse(payload)
    except (DecodeError, IndexError, UnicodeDecodeError):
        return None
    offset = position + payload.find(example.encoded)
    size = (example.height, example.width)
    jpeg = example.encoded.startswith(_JPEG)
    return offset, len(example.encoded), example.label, size, jpeg


def _allow_open_files(number: int) -> None:
    """Raises the limit of open files, which is often 1,024, as far as it has to go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + number
    if soft != resource.RLIM_INFINITY and number + _SPARE_FILES > soft:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
