"""What waits on the disk for its turn, and the small values that stand for it.

The parts of a source are listed in one file, so that neither the job nor the process that hands it
out grows with the number of images; records wait for their shard.
"""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.records import tfrecord
from pipeline.records.duplicates import Candidate

_PARTS = "parts"


def list_parts(folder: Path, parts: Iterable[Any]) -> list[tuple[int, int]]:
    """Writes the parts of a source into the spool; returns the offset and length of each."""
    places = []
    offset = 0
    with (folder / _PARTS).open("xb") as file:
        for part in parts:
            length = file.write(pickle.dumps(part, protocol=5))
            places.append((offset, length))
            offset += length
    return places


def part(folder: Path, place: tuple[int, int]) -> Any:
    """Returns the part of a source that lies at an offset of the list, so many bytes long."""
    offset, length = place
    with (folder / _PARTS).open("rb") as file:
        file.seek(offset)
        return pickle.loads(file.read(length))


def pack(candidate: Candidate) -> bytes:
    """Returns the candidate as bytes, which Beam passes on without looking inside.

    Beam's own encoding of text knows no file names that are no text.
    """
    return pickle.dumps(tuple(candidate), protocol=5)


def unpack(packed: bytes) -> Candidate:
    """Returns what `pack` was given."""
    return Candidate(*pickle.loads(packed))


def frame(candidate: Candidate) -> bytes:
    """Returns the record of the candidate, framed as in a TFRecord file."""
    with Path(candidate.file).open("rb") as file:
        file.seek(candidate.offset)
        return file.read(candidate.length)


def payload(candidate: Candidate) -> bytes:
    """Returns the record of the candidate: a serialized `tf.train.Example`."""
    return tfrecord.payload_of(frame(candidate))
