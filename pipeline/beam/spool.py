"""Records that wait on the disk for their shard, and the small bytes that stand for them."""

import pickle
from pathlib import Path

from pipeline.records import tfrecord
from pipeline.records.duplicates import Candidate


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
