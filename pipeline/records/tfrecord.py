"""The TFRecord framing: length, masked CRC of the length, payload, masked CRC of the payload.

TensorFlow ends a file that is cut inside a record's header without an error, so the reader here
checks every byte, and it needs no TensorFlow to do so.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from pipeline.errors import DataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


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


def read(path: Path) -> Iterator[bytes]:
    """Yields the payloads of the file at `path`, each checked against its CRC.

    Raises:
        DataError: The file is cut or altered; the message names file, record and byte.
    """
    with path.open("rb") as file:
        index = 0
        while True:
            start = file.tell()
            header = file.read(_HEADER.size)
            if not header:
                return
            if len(header) < _HEADER.size:
                raise DataError(_damage(path, index, start, "the file ends inside its header"))
            length, length_crc = _HEADER.unpack(header)
            if _masked_crc(header[:8]) != length_crc:
                raise DataError(_damage(path, index, start, "its length does not match its CRC"))
            body = file.read(length + _FOOTER.size)
            if len(body) < length + _FOOTER.size:
                raise DataError(_damage(path, index, start, "the file ends inside its payload"))
            payload = body[:length]
            if _masked_crc(payload) != _FOOTER.unpack(body[length:])[0]:
                raise DataError(_damage(path, index, start, "its payload does not match its CRC"))
            yield payload
            index += 1


def summarize(path: Path) -> ShardSummary:
    """Reads the file at `path` once, checking it, and returns its summary.

    Raises:
        DataError: The file is cut or altered.
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


def _damage(path: Path, index: int, offset: int, what: str) -> str:
    return f"{path}: record {index} at byte {offset} is damaged: {what}; write the shard again"
