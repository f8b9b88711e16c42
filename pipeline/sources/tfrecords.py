"""TFRecord files of `tf.train.Example`s with `image/encoded`: one, a pattern, or a folder of them."""

import glob
import hashlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.records import manifest, tfrecord
from pipeline.sources import base, records, uris
from pipeline.sources.base import SPLITS, Source
from pipeline.sources.records import Layout, Part

# `data.tfrecord`, `cifar10-train.tfrecord-00000-of-00001`, `data_tfrecord-00000-of-00001` …
_NAMED = re.compile(r"(^|[-_.])tfrecords?([-_.]|$)", re.IGNORECASE)
# … and `train-00000-of-00010`; other formats are numbered likewise, behind their own suffix.
_NUMBERED = re.compile(r"[^.]+-[0-9]{5}-of-[0-9]{5}")
_SPLIT_FOLDER = "Split-"

_PART_RECORDS = 128
_PART_BYTES = 16 << 20
_THREADS = 4
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Shard:
    """A file, and the split that its name says its images are in."""

    path: str
    split: str | None
    bad: str | None = None


@dataclass(frozen=True)
class _Scan:
    """What is in a file.

    Args:
        parts: Its records.
        labels: Index and name of the class of its images.
        usable: How many images have both.
        features: The names of the features of one record without an image.
        damage: What is wrong with the file, or None.
        summary: Its records, bytes and CRC32C.
        sha256: Of its bytes.
    """

    parts: tuple[Part, ...]
    labels: frozenset[tuple[int | None, str]]
    usable: int
    features: tuple[str, ...]
    damage: str | None
    summary: tfrecord.ShardSummary
    sha256: str


def is_named_so(name: str) -> bool:
    """Returns whether a file of this name holds records."""
    plain = name[: -len(records.ZIPPED)] if name.lower().endswith(records.ZIPPED) else name
    return bool(_NAMED.search(plain) or _NUMBERED.fullmatch(plain))


def among(files: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Returns the files of records in a folder, and in the folders `Split-<name>` in it.

    Args:
        files: What is in the folder, as `uris.files_below` returns it.
    """
    return [
        parts
        for parts in files
        if is_named_so(parts[-1])
        and (len(parts) == 1 or (len(parts) == 2 and parts[0].startswith(_SPLIT_FOLDER)))
    ]


def of_files(data: str, paths: list[str]) -> Source:
    """Returns the images in files of records.

    All files are read once, to count their records and to find the classes.

    Args:
        data: What the person gave: one of the files, or a pattern.
        paths: The files.

    Raises:
        UsageError: There are no images or too few classes in them.
    """
    # Of a pattern, the folder above its wildcards.
    *folders, file = data.split("/")
    plain = [part for part in folders if part and not glob.has_magic(part)]
    name = file.partition(".")[0] if not glob.has_magic(file) else "".join(plain[-1:])
    shards = [_shard(path) for path in paths]
    return _source(data, name or "records", shards, _scans(shards))


def of_folder(root: str, files: list[tuple[str, ...]]) -> Source:
    """Returns the images in the files of records in a folder.

    Where the folder has a manifest of ExampleGen, the files are compared with it: it tells of what
    is missing at the end of a file, too.

    Args:
        root: Path or URI of the folder.
        files: What is in it, as `uris.files_below` returns it.

    Raises:
        UsageError: There are no images or too few classes in the files, or the manifest is none.
    """
    paths = {"/".join(parts): uris.join(root, "/".join(parts)) for parts in among(files)}
    shards = [_shard(path) for path in paths.values()]
    scans = _scans(shards)
    classes: tuple[str, ...] = ()
    if (manifest.FILE_NAME,) in files:
        contents = _manifest(uris.join(root, manifest.FILE_NAME))
        classes = contents.classes
        known = {s.file: s for split in contents.splits.values() for s in split.shards}
        scans = [
            _compared(scan, path, known.get(name))
            for (name, path), scan in zip(paths.items(), scans, strict=True)
        ]
        for name in known.keys() - paths.keys():
            shards.append(_shard(uris.join(root, name)))
            scans.append(_missing(shards[-1], known[name]))
    name = root.rstrip("/").rpartition("/")[2] if uris.is_uri(root) else Path(root).absolute().name
    return _source(root, name, shards, scans, classes)


def split_of(path: str) -> str | None:
    """Returns what the folder or the name of a file calls its split, or None."""
    *_, folder, name = ("", *path.split("/"))
    if folder.startswith(_SPLIT_FOLDER):
        return folder.removeprefix(_SPLIT_FOLDER).lower()
    words = re.split(r"[-_.]", name.lower())
    # The name of the data set comes first, and may be a word of these.
    return next((word for word in reversed(words) if word in SPLITS), None)


def _shard(path: str) -> _Shard:
    found = split_of(path)
    if found is None or found in SPLITS:
        return _Shard(path, SPLITS.get(found))
    return _Shard(path, None, "unknown_split")


def _source(
    data: str,
    name: str,
    shards: list[_Shard],
    scans: list[_Scan],
    classes: tuple[str, ...] = (),
) -> Source:
    labels = frozenset().union(*(scan.labels for scan in scans))
    found = _class_order(labels)
    classes += tuple(text for text in found if text not in classes)
    damaged = tuple(scan.damage for scan in scans if scan.damage)
    if not any(scan.usable for scan in scans):
        raise UsageError(f"data {data!r}: found no image with a class; {_why(scans, damaged)}")
    base.require_two(data, classes, f"at least two under {Layout().text!r} or {Layout().label!r}")
    splits = {shard.split for shard, scan in zip(shards, scans, strict=True) if scan.usable}
    parts = [part for scan in scans for part in scan.parts]
    if len(splits) == 1:
        # All images in one split: that says nothing.
        parts, splits = [replace(part, split=None) for part in parts], {None}
    return Source(
        name=name,
        classes=classes,
        total=sum(part.count + bool(part.lost) for part in parts),
        parts=tuple(parts),
        read=records.read,
        digest=_Digest(
            tuple((s.path, s.split, scan.sha256) for s, scan in zip(shards, scans, strict=True))
        ),
        splits=base.in_order(splits),
        damaged=damaged,
    )


@dataclass(frozen=True)
class _Digest:
    """The digest of files that have been read already."""

    files: tuple[tuple[str, str | None, str], ...]

    def __call__(self) -> str:
        return hashlib.sha256(repr(self.files).encode()).hexdigest()


def _why(scans: list[_Scan], damaged: tuple[str, ...]) -> str:
    if damaged:
        return damaged[0]
    features = next((scan.features for scan in scans if scan.features), ())
    if not features:
        return f"expected examples with {Layout().image!r} and {Layout().text!r}"
    advice = "; what TFDS prepared is given as tfds:FOLDER" if "image" in features else ""
    return (
        f"found the features {', '.join(map(ascii, features[:10]))}; "
        f"expected {Layout().image!r}{advice}"
    )


def _class_order(labels: frozenset[tuple[int | None, str]]) -> tuple[str, ...]:
    """Returns the class names by their index, where each name has one and each index one name."""
    texts = {text for _, text in labels}
    indices = {index for index, _ in labels}
    if None not in indices and len(texts) == len(indices) == len(labels):
        return tuple(text for _, text in sorted(labels))
    return base.class_order(texts)


def _scans(shards: list[_Shard]) -> list[_Scan]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_scan, shards))


def _scan(shard: _Shard) -> _Scan:
    """Reads a file to its end, or to where it is damaged."""
    offsets, sizes, labels = [], [], set()
    features: tuple[str, ...] = ()
    usable = 0
    damage = None
    try:
        with uris.opened(shard.path) as stored:
            tee = _Tee(stored)
            file = records.unzipped(shard.path, io.BufferedReader(tee, _CHUNK))
            try:
                for record in records.records(file, shard.path):
                    offsets.append(record.offset)
                    sizes.append(len(record.payload))
                    described = records.describe(record, Layout())
                    features = features or described.features
                    if described.text:
                        labels.add((described.label, described.text))
                        usable += not (described.bad or shard.bad)
            except tfrecord.DamageError as error:
                damage = str(error)
            tee.drain()
    except (uris.BadFileError, OSError) as error:
        raise UsageError(f"data {shard.path!r}: cannot be read ({error})") from None
    summary = tfrecord.ShardSummary(len(offsets), tee.size, tee.crc32c.hexdigest().decode())
    parts = tuple(_parts(shard, offsets, sizes))
    scan = _Scan(parts, frozenset(labels), usable, features, None, summary, tee.sha256.hexdigest())
    return scan if damage is None else _damaged(scan, shard.path, damage)


def _parts(shard: _Shard, offsets: list[int], sizes: list[int]) -> Iterator[Part]:
    zipped = shard.path.lower().endswith(records.ZIPPED)
    first = 0
    while first < len(offsets):
        # A zipped file can only be read from its beginning.
        count = len(offsets) if zipped else _fitting(sizes, first)
        yield Part(
            path=shard.path,
            prefix=shard.path,
            first=first,
            offset=0 if zipped else offsets[first],
            count=count,
            split=shard.split,
            bad=shard.bad,
        )
        first += count


def _fitting(sizes: list[int], first: int) -> int:
    """Returns how many records from `first` on make a part."""
    totals = itertools.accumulate(sizes[first : first + _PART_RECORDS])
    return max(1, sum(1 for total in totals if total <= _PART_BYTES))


def _damaged(scan: _Scan, path: str, damage: str) -> _Scan:
    """Returns the scan of a file with an entry more, for what is lost."""
    lost = f"{path}#{scan.summary.records}"
    parts = scan.parts or (Part(path, path, 0, 0, 0),)
    last = replace(parts[-1], lost=lost)
    return replace(scan, parts=(*parts[:-1], last), damage=damage)


def _manifest(path: str) -> manifest.Manifest:
    try:
        return manifest.Manifest.model_validate_json(uris.read(path))
    except (ValidationError, uris.BadFileError):
        raise UsageError(
            f"data {path!r}: not a manifest of ExampleGen, which it stands in the place of; "
            "remove it, or name the files by a pattern"
        ) from None


def _compared(scan: _Scan, path: str, entry: manifest.Shard | None) -> _Scan:
    """Returns the scan with what the manifest says against it."""
    if scan.damage:
        return scan
    if entry is None:
        return _damaged(scan, path, f"{path}: not in {manifest.FILE_NAME}")
    found = scan.summary
    if (found.records, found.bytes, found.crc32c) == (entry.records, entry.bytes, entry.crc32c):
        return scan
    return _damaged(
        scan,
        path,
        f"{path}: found {found.records} records, {found.bytes} bytes, CRC32C {found.crc32c}; "
        f"{manifest.FILE_NAME} says {entry.records}, {entry.bytes}, {entry.crc32c}",
    )


def _missing(shard: _Shard, entry: manifest.Shard) -> _Scan:
    scan = _Scan((), frozenset(), 0, (), None, tfrecord.ShardSummary(0, 0, ""), "")
    damage = f"{shard.path}: missing; {manifest.FILE_NAME} says {entry.records} records are in it"
    return _damaged(scan, shard.path, damage)


class _Tee(io.RawIOBase):
    """Computes digests of all that is read of a file, as it is stored."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.sha256 = hashlib.sha256()
        self.crc32c: Any = google_crc32c.Checksum()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self.sha256.update(content)
        self.crc32c.update(content)
        self.size += len(content)
        return len(content)

    def drain(self) -> None:
        """Reads what is left of the file."""
        buffer = memoryview(bytearray(_CHUNK))
        while self.readinto(buffer):
            pass
