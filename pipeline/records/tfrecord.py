"""The TFRecord framing: length, masked CRC of the length, payload, masked CRC of the payload.

TensorFlow ends a file that is cut inside a record's header without an error, so the reader here
checks every byte, and it needs no TensorFlow to do so.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from pipeline.errors import DataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_CHUNK = 16 << 20
_CUT_PAYLOAD = "the file ends inside its payload"


class DamageError(DataError):
    """A file of records is cut or altered."""


@dataclass(frozen=True)
class ShardSummary:
    """What identifies a written shard: its number of records, its bytes and their CRC32C."""

    records: int
    bytes: int
    crc32c: str


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Returns `payload` as it stands in a file, between its length and its CRCs."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (length, _FOOTER.pack(_masked_crc(length)), payload, _FOOTER.pack(_masked_crc(payload)))
    )


def payload_of(frame: bytes) -> bytes:
    """Returns the payload of what `frame` returned."""
    return frame[_HEADER.size : -_FOOTER.size]


def write(path: Path, payloads: Iterable[bytes]) -> ShardSummary:
    """Writes `payloads` in the order given and returns what was written.

    The file is flushed to the disk but not renamed: write it into a directory that is not yet
    visible.
    """
    return write_frames(path, map(frame, payloads))


def write_frames(path: Path, frames: Iterable[bytes]) -> ShardSummary:
    """Does what `write` does, of what `frame` has returned."""
    checksum = google_crc32c.Checksum()
    records = size = 0
    with path.open("xb") as file:
        for frame in frames:
            file.write(frame)
            checksum.update(frame)
            records += 1
            size += len(frame)
        file.flush()
        os.fsync(file.fileno())
    return ShardSummary(records, size, checksum.hexdigest().decode())


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Args:
        offset: Where its header begins, in bytes.
        payload: Its payload.
        intact: Whether the payload matches its CRC. What follows can be read either way.
    """

    offset: int
    payload: bytes
    intact: bool


def records(file: BinaryIO, name: object, index: int = 0, offset: int = 0) -> Iterator[Record]:
    """Yields the records of an open file to its end.

    Args:
        file: Open where record `index` begins, which is byte `offset`. It need not be able to seek.
        name: What messages call it.
        index: The number of the first record, for messages.
        offset: Its place, in bytes.

    Raises:
        DamageError: The file is cut, or a header is altered, so that nobody can say where the next
            record begins; the message names file, record and byte.
    """
    while header := _take(file, _HEADER.size):
        length = _length(header, name, index, offset)
        payload, footer = _take(file, length), _take(file, _FOOTER.size)
        if len(payload) < length or len(footer) < _FOOTER.size:
            raise DamageError(_damage(name, index, offset, _CUT_PAYLOAD))
        yield Record(offset, payload, _masked_crc(payload) == _FOOTER.unpack(footer)[0])
        offset += _HEADER.size + length + _FOOTER.size
        index += 1


def offsets(file: BinaryIO, size: int, name: object) -> Iterator[int]:
    """Yields where each record begins, from the headers alone: payloads are passed over.

    Args:
        file: Open at its beginning, and able to seek.
        size: Of the file, in bytes.
        name: What messages call it.

    Raises:
        DamageError: The file is cut, or a header is altered.
    """
    index = offset = 0
    while header := _take(file, _HEADER.size):
        end = offset + _HEADER.size + _length(header, name, index, offset) + _FOOTER.size
        if end > size:
            raise DamageError(_damage(name, index, offset, _CUT_PAYLOAD))
        yield offset
        file.seek(end)
        offset = end
        index += 1


def read(path: Path) -> Iterator[bytes]:
    """Yields the payloads of the file at `path`, each checked against its CRC.

    Raises:
        DamageError: The file is cut or altered; the message names file, record and byte.
    """
    with path.open("rb") as file:
        for index, record in enumerate(records(file, path)):
            if not record.intact:
                raise DamageError(
                    _damage(path, index, record.offset, "its payload does not match its CRC")
                )
            yield record.payload


def summarize(path: Path) -> ShardSummary:
    """Reads the file at `path` once, checking it, and returns its summary.

    Raises:
        DamageError: The file is cut or altered.
    """
    checksum = google_crc32c.Checksum()
    records = size = 0
    for payload in read(path):
        length = struct.pack("<Q", len(payload))
        checksum.update(length + _FOOTER.pack(_masked_crc(length)))
        checksum.update(payload)
        checksum.update(_FOOTER.pack(_masked_crc(payload)))
        records += 1
        size += _HEADER.size + len(payload) + _FOOTER.size
    return ShardSummary(records, size, checksum.hexdigest().decode())


def _take(file: BinaryIO, size: int) -> bytes:
    """Returns the next `size` bytes, or fewer at the end of the file."""
    content = file.read(min(size, _CHUNK))
    if len(content) == size:
        return content
    # In pieces: a length that is altered must not make room for itself.
    pieces = [content]
    size -= len(content)
    while size and (piece := file.read(min(size, _CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _length(header: bytes, name: object, index: int, offset: int) -> int:
    if len(header) < _HEADER.size:
        raise DamageError(_damage(name, index, offset, "the file ends inside its header"))
    length, crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != crc:
        raise DamageError(_damage(name, index, offset, "its length does not match its CRC"))
    return length


def _damage(name: object, index: int, offset: int, what: str) -> str:
    return f"{name}: record {index} at byte {offset} is damaged: {what}; write the shard again"
