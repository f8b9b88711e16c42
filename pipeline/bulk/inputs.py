"""What a bulk job reads: images by file or by record, listed once, and cut into shards.

The listing is a file of one line of JSON per shard. Whoever works on a shard reads its line alone, so
that neither the process that hands out the work nor its messages grow with the number of images.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pipeline.errors import DataError, UsageError
from pipeline.records import tfrecord
from pipeline.records.images import RULES
from pipeline.sources import digits, folder, manifest_file, records, spans, tfrecords, uris
from pipeline.sources import tfds as tfds_source
from pipeline.sources.base import Reference

VANISHED, UNREADABLE = "vanished", "unreadable"

# Files behind URIs that are fetched at once.
_FETCHED = 8
# Records of one entry of the listing: where a shard may begin.
_PART = 128
_UNLABELLED = {"label": None, "text": None, "group": None, "names": ()}

# A file as [path, stamp], or [name, stamp, code] where it cannot be used, as a bad line of a manifest.
_File = list[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One image.

    Args:
        key: Its path, URI, or `path#number` of a record.
        image: The bytes of the image file.
        bad: Why there are none, a code such as `"vanished"`; empty where there are.
    """

    key: str
    image: bytes
    bad: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """A line of the listing.

    Args:
        number: Of the shard, from 0.
        offset: Where its line begins in the file, in bytes.
        length: Of its line, in bytes.
        rows: How many images it has.
    """

    number: int
    offset: int
    length: int
    rows: int


@dataclass(frozen=True)
class Listing:
    """All that a job reads.

    Args:
        shards: In order.
        sha256: Of names, sizes and times of change; changes when what is to be read does.
        notices: Lines that a person should see.
        location: The file or folder on this machine that all of it lies in, of a manifest itself;
            None where it lies behind URIs.
    """

    shards: tuple[Shard, ...]
    sha256: str
    notices: tuple[str, ...]
    location: Path | None = None

    @property
    def rows(self) -> int:
        """The number of images."""
        return sum(shard.rows for shard in self.shards)


def write(data: str, size: int, file: BinaryIO) -> Listing:
    """Lists what `data` names into `file`.

    Nothing is asked of classes: a folder may have any depth, and rows and records need no label.
    Files count by name, size and time of change, those behind URIs by name.

    Args:
        data: A folder of images, a manifest (`.csv`, `.tsv`, `.jsonl`) with a column `path`,
            TFRecord files of Examples with `image/encoded` as a file, a pattern, a folder or an
            Examples artifact, `tfds:NAME`, or `"digits"`. Paths may be URIs, and hold `{SPAN}`.
        size: The number of images of a shard; of records it may be more, as far as they have to be
            read in one go.
        file: Open for writing.

    Raises:
        UsageError: There is no such data, or no image in it.
    """
    path = uris.local(data)
    if path != digits.NAME and not path.startswith(tfds_source.PREFIX):
        path = spans.resolve(path).path
    root, notices, entries = _opened(data, path)
    digest = hashlib.sha256()
    shards = []
    offset = 0
    for number, (kind, members, rows) in enumerate(_grouped(entries, size)):
        content = {"root": root, kind: members}
        line = json.dumps(content).encode() + b"\n"
        file.write(line)
        digest.update(line)
        shards.append(Shard(number, offset, len(line), rows))
        offset += len(line)
    if not shards:
        raise UsageError("; ".join((f"data {data!r}: found no images", *notices)))
    return Listing(tuple(shards), digest.hexdigest(), tuple(notices), _location(path, root))


def line_of(listing: Path, shard: Shard) -> bytes:
    """Returns the line of a shard."""
    with listing.open("rb") as file:
        file.seek(shard.offset)
        return file.read(shard.length)


def rows(line: bytes) -> Iterator[Row]:
    """Yields the images of a shard in order, those that cannot be read with a code.

    Raises:
        DataError: The folder that they were in is gone, or their file system fails.
    """
    content = json.loads(line)
    if "digits" in content:
        for key in content["digits"]:
            yield Row(key, digits.fetch(key) or b"")
    elif "records" in content:
        for fields in content["records"]:
            part = records.Part(**{**_without_stamp(fields), "layout": _layout(fields["layout"])})
            for reference, image in records.read(part):
                yield Row(reference.name, image, reference.bad or "")
    else:
        for row in _fetched(content["files"]):
            if row.bad in (VANISHED, UNREADABLE) and not _is_mounted(content["root"]):
                raise DataError(
                    f"data {content['root']!r}: the folder is gone, or empty now; when it is there "
                    "again, the same command goes on"
                )
            yield row


def _location(path: str, root: str) -> Path | None:
    return None if path == digits.NAME else uris.plain(root or path)


def _opened(data: str, path: str) -> tuple[str, list[str], Iterable[tuple[str, Any, int]]]:
    """Returns the folder that all lies in, what to say, and entries: kind, content, images."""
    if path == digits.NAME:
        stamp = digits.source().digest()
        keys = [reference.name for part in digits.source().parts for reference in part]
        return "", [f"{data}: of {stamp}"], (("digits", key, 1) for key in keys)
    if path.startswith(tfds_source.PREFIX):
        source = tfds_source.source(path)
        notices = list(source.notices + source.damaged)
        return str(source.location or ""), notices, _of_parts(source.parts)
    path = path if uris.is_uri(path) else str(Path(path))
    if uris.has_wildcards(path):
        if found := uris.matching(path):
            return "", [], _of_records(found)
        raise UsageError(f"data {data!r}: no file matches this pattern")
    if uris.is_file(path):
        if PurePosixPath(path).suffix.lower() in manifest_file.EXTENSIONS:
            return _of_manifest(path)
        if tfrecords.is_named_so(path.rpartition("/")[2]):
            return "", [], _of_records([path])
        raise UsageError(
            f"data {data!r}: a file; expected a folder of images, a manifest "
            f"({', '.join(manifest_file.EXTENSIONS)}) or TFRecord files"
        )
    return _of_folder(data, path)


def _of_folder(data: str, path: str) -> tuple[str, list[str], Iterable[tuple[str, Any, int]]]:
    files = uris.files_below(path) if uris.is_uri(path) or uris.is_folder(path) else []
    if not files and not uris.is_folder(path):
        raise UsageError(
            f"data {data!r}: no such folder or file; expected a folder of images, a manifest, "
            f"TFRecord files, tfds:NAME or {digits.NAME!r}"
        )
    if found := tfrecords.among(files):
        return "", [], _of_records([uris.join(path, "/".join(parts)) for parts in found])
    images = [parts for parts in files if parts[-1].lower().endswith(folder.EXTENSIONS)]
    paths = (uris.join(path, "/".join(parts)) for parts in images)
    entries = (("files", [name, _stamp(name)], 1) for name in paths)
    return path, folder.left_out(path, files, images), entries


def _of_manifest(path: str) -> tuple[str, list[str], Iterable[tuple[str, Any, int]]]:
    references = manifest_file.unlabelled(path)
    once = {reference.name: reference for reference in references}
    more = len(references) - len(once)
    rows = "1 row names a file" if more == 1 else f"{more:,} rows name files"
    notices = [f"{path}: {rows} of an earlier row; asked once"] if more else []
    return "", notices, _of_references(once.values())


def _of_references(references: Iterable[Reference]) -> Iterator[tuple[str, _File, int]]:
    for reference in references:
        if reference.bad:
            yield "files", [reference.name, "", reference.bad], 1
        else:
            yield "files", [reference.name, _stamp(reference.name)], 1


def _of_records(paths: list[str]) -> Iterator[tuple[str, Any, int]]:
    for path in paths:
        yield from _of_parts(_parts(path))


def _of_parts(parts: Iterable[records.Part]) -> Iterator[tuple[str, Any, int]]:
    for part in parts:
        unlabelled = replace(part, split=None, layout=replace(part.layout, **_UNLABELLED))
        fields = {**asdict(unlabelled), "stamp": _stamp(part.path)}
        yield "records", fields, part.count + bool(part.lost)


def _parts(path: str) -> Iterator[records.Part]:
    """Yields the records of a file in parts, and after the last one what is lost behind it."""
    offsets, lost = [], None
    jumps = not (path.lower().endswith(records.ZIPPED) or uris.is_uri(path))
    try:
        with records.opened(path) as file:
            if jumps:
                found = tfrecord.offsets(file, Path(path).stat().st_size, path)
            else:
                found = (record.offset for record in records.records(file, path))
            # One by one, so that those before a damage are kept.
            for offset in found:
                offsets.append(offset)  # noqa: PERF402
    except tfrecord.DamageError:
        lost = f"{path}#{len(offsets)}"
    except (uris.BadFileError, OSError) as error:
        raise UsageError(f"data {path!r}: cannot be read ({error})") from None
    # What is zipped can only be read from its beginning.
    size = _PART if not path.lower().endswith(records.ZIPPED) else max(1, len(offsets))
    parts = [
        records.Part(path, path, first, offsets[first], min(size, len(offsets) - first))
        for first in range(0, len(offsets), size)
    ]
    if lost:
        parts = parts or [records.Part(path, path, 0, 0, 0)]
        parts[-1] = replace(parts[-1], lost=lost)
    yield from parts


def _grouped(
    entries: Iterable[tuple[str, Any, int]], size: int
) -> Iterator[tuple[str, list[Any], int]]:
    """Yields runs of entries that together have at least `size` images, the last one fewer."""
    kind, members, count = "", [], 0
    for kind, member, images in entries:
        members.append(member)
        count += images
        if count >= size:
            yield kind, members, count
            members, count = [], 0
    if members:
        yield kind, members, count


def _stamp(path: str) -> str:
    """Returns size and time of change of a local file; nothing where it has none to tell."""
    if uris.is_uri(path):
        return ""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _without_stamp(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "stamp"}


def _layout(fields: dict[str, Any]) -> records.Layout:
    return records.Layout(**{**fields, "names": tuple(fields["names"])})


def _fetched(entries: list[_File]) -> Iterator[Row]:
    """Yields what the files hold, in order, several at once where there are URIs."""
    if not any(uris.is_uri(path) for path, *_ in entries):
        yield from map(_row, entries)
        return
    left = iter(entries)
    with ThreadPoolExecutor(_FETCHED) as pool:
        pending = deque(pool.submit(_row, entry) for entry in islice(left, _FETCHED))
        while pending:
            row = pending.popleft().result()
            pending.extend(pool.submit(_row, entry) for entry in islice(left, 1))
            yield row


def _row(entry: _File) -> Row:
    path, _, *bad = entry
    if bad:
        return Row(path, b"", bad[0])
    try:
        return Row(path, uris.read(path, RULES.max_bytes))
    except uris.BadFileError as error:
        gone = str(error) == UNREADABLE and not _is_there(path)
        return Row(path, b"", VANISHED if gone else str(error))


def _is_there(path: str) -> bool:
    try:
        return uris.is_file(path) if uris.is_uri(path) else bool(Path(path).lstat())
    except (OSError, ValueError):
        return False


def _is_mounted(root: str) -> bool:
    """Whether a local folder holds anything; a place where nothing is mounted does not."""
    if not root or uris.is_uri(root):
        return True
    try:
        return next(Path(root).iterdir(), None) is not None
    except OSError:
        return False
