"""Assembles shards from the spool, each with the same bytes every time."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import apache_beam as beam
from apache_beam.pvalue import AsDict, PCollection

from pipeline.beam import spool
from pipeline.records import tfrecord

_SHARD_BYTES = 128 << 20


def shards(kept: PCollection, number: int | None, folder: Path, destination: Path) -> PCollection:
    """Writes the shards of all splits; returns a collection of their entries.

    Args:
        kept: Packed candidates.
        number: Shards per split; None for as many as their size asks for.
        folder: The directory of the spool, on the file system of `destination`.
        destination: Directory of the Examples artifact.
    """
    counts = (
        kept
        | "Sizes" >> beam.Map(_size)
        | "Size of splits" >> beam.CombinePerKey(sum)
        | "Shards of splits"
        >> beam.MapTuple(lambda split, size: (split, number or shards_for(size)))
    )
    return (
        kept
        | "Choose shards" >> beam.Map(_with_shard, AsDict(counts))
        | "Gather shards" >> beam.GroupByKey()
        | "Write shards" >> beam.Map(write, folder, destination)
    )


def shards_for(size: int) -> int:
    """Returns the number of shards for so many bytes: one for every 128 MiB begun."""
    return max(1, -(-size // _SHARD_BYTES))


def _size(packed: bytes) -> tuple[str, int]:
    candidate = spool.unpack(packed)
    return candidate.split, candidate.length


def _with_shard(packed: bytes, counts: dict[str, int]) -> tuple[tuple[str, int, int], bytes]:
    candidate = spool.unpack(packed)
    count = counts[candidate.split]
    # Bits of the digest that the choice of the split does not look at.
    return (candidate.split, int.from_bytes(candidate.pixels[4:8]) % count, count), packed


def write(
    gathered: tuple[tuple[str, int, int], Iterable[bytes]], folder: Path, destination: Path
) -> str:
    """Writes one shard, sorted by the digest of the pixels; returns its entry as JSON.

    Args:
        gathered: The split, the number of the shard and how many there are; its candidates,
            packed.
        folder: Receives the file until it is complete.
        destination: Directory of the Examples artifact.
    """
    (split, shard, count), members = gathered
    ordered = sorted(map(spool.unpack, members), key=lambda candidate: candidate.order)
    name = f"Split-{split}/data_tfrecord-{shard:05}-of-{count:05}"
    path = destination / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # A runner may try a bundle twice, or twice at once.
    temporary = folder / f"shard-{uuid.uuid4().hex}"
    summary = tfrecord.write_frames(temporary, map(spool.frame, ordered))
    temporary.replace(path)
    counts = Counter(candidate.text for candidate in ordered)
    entry = {"file": name, "split": split, "class_counts": counts, **asdict(summary)}
    return json.dumps(entry)
