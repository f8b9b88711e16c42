"""The Beam pipeline of ExampleGen: read, compare, split, write in an order that never changes.

Images are decoded once. Their bytes go to a spool on the disk at once, and only what is known of
them is shuffled between workers; the shards are assembled from the spool.
"""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from pipeline import files
from pipeline.beam import execution, lookalikes, parallel, reading, spool, writing
from pipeline.beam.arrival import require_written
from pipeline.beam.reporter import Reporter
from pipeline.orchestration.artifact import Context
from pipeline.records import duplicates, images, manifest
from pipeline.sources import Source

_SEEN = "seen"
_QUARANTINE = "quarantine"
_DUPLICATE = "duplicate"
_OVERLAP = "overlap"
_LEAK = "leak"
_SHARD = "shard"
_HASHES = "hashes"


# Results travel as JSON in ASCII: Beam's own encoding of text knows no file names that are no text.


@dataclass(frozen=True)
class Plan:
    """How images are read, compared and written.

    Args:
        shares: The share of each split.
        keep_splits: Whether images stay in the splits that the source puts them in.
        clean: Whether copies are dropped and contradictions quarantined, or only reported.
        rules: What is refused, and how the rest is stored.
        shards: Files per split; None for one for every 128 MiB begun.
        near: Bits in which the hashes of pictures that look alike may differ; None to seek none.
        drop_near: Bits up to which such pictures are dropped after a look at their pixels, or None.
    """

    shares: dict[str, float]
    keep_splits: bool = True
    clean: bool = True
    rules: images.Rules = images.RULES
    shards: int | None = None
    near: int | None = None
    drop_near: int | None = None

    @property
    def distance(self) -> int | None:
        """Bits in which the hashes of linked pictures may differ."""
        return max((d for d in (self.near, self.drop_near) if d is not None), default=None)


@dataclass(frozen=True)
class Ingested:
    """What came of the images of a source.

    Args:
        contents: The manifest of what was written.
        seen: How many images of each class were read.
        quarantined: Name, class, SHA-256 and reason of each image that cannot be used.
        duplicates: Name, class and SHA-256 of each image that was dropped, and what was kept.
        overlaps: Pairs of kept images that are equal or look alike.
        leakage: For each split beside train how many of its images have an equal picture
            (`exact`) or one that looks alike (`near`) in train.
    """

    contents: manifest.Manifest
    seen: Counter[str]
    quarantined: list[dict[str, Any]]
    duplicates: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]
    leakage: dict[str, dict[str, int]]


def run(source: Source, plan: Plan, destination: Path, context: Context) -> Ingested:
    """Writes the images of `source` below `destination`.

    The bytes of every shard depend on the images and the plan alone: an image goes to the shard
    that the SHA-256 of its pixels names, and a shard is sorted by it.

    Args:
        source: The images.
        plan: How they are read, compared and written.
        destination: Directory of the Examples artifact.
        context: Its progress receives the number of images done.
    """
    destination = destination.absolute()
    folder = destination / f".spool-{uuid.uuid4().hex}"
    folder.mkdir()
    results = folder / "results.json"
    reader = reading.Reader(
        source.read, source.classes, plan.rules, plan.shares, plan.keep_splits, folder
    )
    with execution.pipeline(context, source.total, folder, _needed(source)) as running:
        read = (
            running.pipeline
            | "List" >> beam.Create(spool.list_parts(folder, source.parts))
            | "Spread" >> running.spread()
            | "Read" >> parallel.spread(reader, running.processes, running.reporter)
            | "Sort out" >> beam.FlatMap(_sort_out, running.reporter).with_outputs(main="good")
        )
        compared = (
            read.good
            | "Gather equal pixels" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMap(_compare, plan.clean).with_outputs(main="kept")
        )
        kept, settled = compared.kept, ()
        if plan.distance is not None:
            found = lookalikes.find(
                read[_HASHES], kept, plan.near, plan.drop_near, running.reporter
            )
            settled = (found | "Alike" >> beam.FlatMap(_settled),)
            if plan.drop_near is not None:
                kept = kept | "Drop" >> beam.Filter(_stays, AsSingleton(found))
        branches = (
            writing.shards(kept, plan.shards, folder, destination) | _as("Written", _SHARD),
            read[_SEEN] | _as("Seen", _SEEN),
            read[_QUARANTINE] | _as("Bad", _QUARANTINE),
            compared[_QUARANTINE] | _as("Conflicts", _QUARANTINE),
            compared[_DUPLICATE] | _as("Duplicates", _DUPLICATE),
            compared[_OVERLAP] | _as("Overlaps", _OVERLAP),
            compared[_LEAK] | _as("Leaks", _LEAK),
            *settled,
        )
        (
            branches
            | "Join results" >> beam.Flatten()
            | "Collect results" >> beam.combiners.ToList()
            | "Write results" >> beam.Map(lambda found: files.write_json(results, found))
        )
    require_written([results])
    collected = _Collected(json.loads(results.read_text()))
    shutil.rmtree(folder, ignore_errors=True)  # a worker that was given up may still be writing
    return Ingested(
        contents=_manifest(source, plan.shares, collected[_SHARD]),
        seen=sum((Counter(seen) for seen in collected[_SEEN]), Counter()),
        quarantined=collected.by_name(_QUARANTINE),
        duplicates=collected.by_name(_DUPLICATE),
        overlaps=collected.by_name(_OVERLAP),
        leakage=_leakage(plan.shares, collected[_LEAK]),
    )


def _needed(source: Source) -> list[Path]:
    return [source.location] if source.location else []


def _as(label: str, kind: str) -> beam.PTransform:
    """Marks results with their kind."""
    return label >> beam.Map(lambda entry: (kind, entry))


def _sort_out(part: reading.Part, reporter: Reporter) -> Iterator[Any]:
    reporter.tick(part.seen.total())
    for candidate in part.candidates:
        yield candidate.pixels, spool.pack(candidate)
    for entry in part.quarantined:
        yield TaggedOutput(_QUARANTINE, json.dumps(entry))
    yield TaggedOutput(_SEEN, json.dumps(part.seen))
    yield TaggedOutput(_HASHES, part.hashes)


def _compare(gathered: tuple[bytes, Iterable[bytes]], clean: bool) -> Iterator[Any]:
    """Yields what becomes of all images of one picture."""
    candidates = [spool.unpack(packed) for packed in gathered[1]]
    decision = duplicates.decide(candidates, clean=clean)
    yield from map(spool.pack, decision.kept)
    for tag, entries in (
        (_QUARANTINE, decision.conflicting),
        (_DUPLICATE, decision.dropped),
        (_OVERLAP, decision.overlaps),
        (_LEAK, [(split, duplicates.EXACT, 1) for split in duplicates.leaked(decision.kept)]),
    ):
        for entry in entries:
            yield TaggedOutput(tag, json.dumps(entry))


def _settled(found: lookalikes.Found) -> Iterator[tuple[str, str]]:
    for kind, entries in (
        (_DUPLICATE, found.dropped),
        (_OVERLAP, found.overlaps),
        (_LEAK, [(split, duplicates.NEAR, count) for split, count in found.leaks.items()]),
    ):
        for entry in entries:
            yield kind, json.dumps(entry)


def _stays(packed: bytes, found: lookalikes.Found) -> bool:
    candidate = spool.unpack(packed)
    return (candidate.file, candidate.offset) not in found.gone


class _Collected:
    """The results of all branches, by their kind."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self._entries: dict[str, list[Any]] = {}
        for kind, entry in pairs:
            self._entries.setdefault(kind, []).append(json.loads(entry))

    def __getitem__(self, kind: str) -> list[Any]:
        return self._entries.get(kind, [])

    def by_name(self, kind: str) -> list[dict[str, Any]]:
        return sorted(self[kind], key=lambda entry: (entry["name"], json.dumps(entry)))


def _leakage(splits: Iterable[str], found: list[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    counts = {
        split: {duplicates.EXACT: 0, duplicates.NEAR: 0}
        for split in splits
        if split != duplicates.TRAIN
    }
    for split, kind, count in found:
        counts[split][kind] += count
    return counts


def _manifest(
    source: Source, splits: Iterable[str], entries: list[dict[str, Any]]
) -> manifest.Manifest:
    found = {}
    for name in splits:
        own = sorted((e for e in entries if e["split"] == name), key=lambda entry: entry["file"])
        counts = sum((Counter(entry["class_counts"]) for entry in own), Counter())
        found[name] = manifest.Split(
            shards=tuple(
                manifest.Shard(**{key: entry[key] for key in manifest.Shard.model_fields})
                for entry in own
            ),
            class_counts={text: counts[text] for text in source.classes},
        )
    return manifest.Manifest(classes=source.classes, splits=found)
