"""The Beam pipeline of ExampleGen: normalise, compare, split, write in an order that never changes.

Images are decoded once. Their bytes go to a spool on the disk at once, and only what is known of
them is shuffled between workers; the shards are assembled from the spool.
"""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.pvalue import AsDict, TaggedOutput

from pipeline import files
from pipeline.beam import execution
from pipeline.orchestration.artifact import Progress
from pipeline.records import duplicates, examples, images, manifest, tfrecord
from pipeline.records.duplicates import Candidate
from pipeline.sources import Reference, Source

_COUNTER = "ingest"
_QUARANTINE = "quarantine"
_DUPLICATE = "duplicate"
_SHARD = "shard"
_PLACES = 1 << 32
_SHARD_BYTES = 128 << 20


@dataclass(frozen=True)
class Ingested:
    """What came of the images of a source.

    Args:
        contents: The manifest of what was written.
        quarantined: Name, class, SHA-256 and reason of each image that cannot be used.
        duplicates: Name, class and SHA-256 of each image that was dropped, and what was kept.
    """

    contents: manifest.Manifest
    quarantined: list[dict[str, str]]
    duplicates: list[dict[str, str]]


@dataclass(frozen=True)
class Spooled:
    """Where the bytes of an image wait for their shard."""

    file: str
    offset: int
    length: int


def run(source: Source, parameters: Any, destination: Path, progress: Progress) -> Ingested:
    """Writes the images of `source` below `destination`.

    The bytes of every shard depend on the images and the parameters alone: an image goes to the
    split and the shard that the SHA-256 of its pixels names, and a shard is sorted by it.

    Args:
        source: The images.
        parameters: Those of ExampleGen.
        destination: Directory of the Examples artifact.
        progress: Receives the number of images done.
    """
    spool = destination / f".spool-{uuid.uuid4().hex}"
    spool.mkdir()
    results = spool / "results.json"
    with execution.pipeline(progress, _COUNTER, source.total) as pipeline:
        normalized = (
            pipeline
            | "List" >> beam.Create(source.parts)
            | "Spread" >> beam.Reshuffle()
            | "Normalize" >> beam.ParDo(Normalize(source, spool)).with_outputs(main="good")
        )
        compared = (
            normalized.good
            | "Gather equal pixels" >> beam.GroupByKey()
            | "Compare" >> beam.ParDo(Compare(parameters.splits)).with_outputs(main="kept")
        )
        counts = (
            compared.kept
            | "Sizes" >> beam.Map(lambda kept: (kept[0], kept[1][1].length))
            | "Size of splits" >> beam.CombinePerKey(sum)
            | "Shards of splits"
            >> beam.MapTuple(lambda split, size: (split, parameters.shards or shards_for(size)))
        )
        shards = (
            compared.kept
            | "Choose shards" >> beam.Map(_with_shard, AsDict(counts))
            | "Gather shards" >> beam.GroupByKey()
            | "Write shards" >> beam.Map(write_shard, spool, destination)
        )
        (
            (
                shards | "Written" >> beam.Map(_result, _SHARD),
                normalized[_QUARANTINE] | "Bad" >> beam.Map(_result, _QUARANTINE),
                compared[_QUARANTINE] | "Conflicts" >> beam.Map(_result, _QUARANTINE),
                compared[_DUPLICATE] | "Duplicates" >> beam.Map(_result, _DUPLICATE),
            )
            | "Join results" >> beam.Flatten()
            | "Collect results" >> beam.combiners.ToList()
            | "Write results" >> beam.Map(lambda found: files.write_json(results, found))
        )
    found: dict[str, list[Any]] = {_SHARD: [], _QUARANTINE: [], _DUPLICATE: []}
    for kind, entry in json.loads(results.read_text()):
        found[kind].append(json.loads(entry))
    shutil.rmtree(spool)
    return Ingested(
        _manifest(source, parameters.splits, found[_SHARD]),
        sorted(found[_QUARANTINE], key=lambda entry: entry["name"]),
        sorted(found[_DUPLICATE], key=lambda entry: entry["name"]),
    )


class Normalize(beam.DoFn):
    """Reads, decodes and normalises the image of each reference, and spools its bytes.

    Yields `(pixels, (Candidate, Spooled))`, and to the tag `quarantine` what cannot be used.
    """

    def __init__(self, source: Source, spool: Path):
        self._read = source.read
        self._labels = {text: label for label, text in enumerate(source.classes)}
        self._spool = spool
        self._file: BinaryIO

    def start_bundle(self) -> None:
        """Opens a spool file of this bundle's own."""
        self._file = (self._spool / uuid.uuid4().hex).open("xb")

    def finish_bundle(self) -> None:
        """Closes the spool file; its images are readable from now on."""
        self._file.close()

    def process(self, part: Any) -> Iterator[Any]:
        """Yields what becomes of each image of a part."""
        for reference, encoded in self._read(part):
            execution.tick(_COUNTER)
            yield from self._normalize(reference, encoded)

    def _normalize(self, reference: Reference, encoded: bytes) -> Iterator[Any]:
        try:
            if reference.bad:
                raise images.BadImageError(reference.bad)
            image = images.normalize(encoded)
        except images.BadImageError as error:
            digest = sha256(encoded).hexdigest()
            entry = duplicates.entry(reference.name, reference.text, digest, str(error))
            yield TaggedOutput(_QUARANTINE, json.dumps(entry))
            return
        candidate = Candidate(
            name=reference.name,
            text=reference.text,
            label=self._labels[reference.text],
            split=reference.split,
            pixels=image.pixels,
            digest=sha256(encoded).hexdigest(),
            format=image.format,
            height=image.height,
            width=image.width,
        )
        place = Spooled(self._file.name, self._file.tell(), len(image.encoded))
        self._file.write(image.encoded)
        yield image.pixels, (candidate, place)


class Compare(beam.DoFn):
    """Decides between images of equal pixels, and gives each that is kept its split.

    Yields `(split, (Candidate, Spooled))`, and to the tags `quarantine` and `duplicate` the rest.
    """

    def __init__(self, splits: dict[str, float]):
        self._splits = splits

    def process(self, element: tuple[str, Iterable[tuple[Candidate, Spooled]]]) -> Iterator[Any]:
        """Yields what becomes of all images of one picture."""
        pixels, members = element
        places = dict(members)
        decision = duplicates.decide(list(places))
        for candidate in decision.kept:
            split = candidate.split or assign_split(pixels, self._splits)
            yield split, (candidate, places[candidate])
        for entry in decision.conflicting:
            yield TaggedOutput(_QUARANTINE, json.dumps(entry))
        for entry in decision.dropped:
            yield TaggedOutput(_DUPLICATE, json.dumps(entry))


def assign_split(pixels: str, splits: dict[str, float]) -> str:
    """Returns the split of the image whose pixels have this SHA-256: the same in every run.

    Args:
        pixels: Hexadecimal digest.
        splits: The share of each split, in order; together 1.
    """
    place = int(pixels[:8], 16) / _PLACES
    for name, share in splits.items():
        place -= share
        if place < 0:
            return name
    return name  # rounding left a sliver behind the last


def shards_for(size: int) -> int:
    """Returns the number of shards for so many bytes: one for every 128 MiB begun."""
    return max(1, -(-size // _SHARD_BYTES))


def _result(entry: str, kind: str) -> tuple[str, str]:
    # JSON in ASCII: Beam cannot encode file names that are no text.
    return kind, entry


def _with_shard(
    kept: tuple[str, tuple[Candidate, Spooled]], counts: dict[str, int]
) -> tuple[tuple[str, int, int], tuple[Candidate, Spooled]]:
    split, (candidate, place) = kept
    # Bits of the digest that `assign_split` does not look at.
    shard = int(candidate.pixels[8:16], 16) % counts[split]
    return (split, shard, counts[split]), (candidate, place)


def write_shard(
    element: tuple[tuple[str, int, int], Iterable[tuple[Candidate, Spooled]]],
    spool: Path,
    destination: Path,
) -> str:
    """Writes one shard, sorted by the digest of the pixels; returns its entry, as JSON."""
    (split, shard, shards), members = element
    ordered = sorted(members, key=lambda member: (member[0].pixels, member[0].name))
    name = f"Split-{split}/data_tfrecord-{shard:05}-of-{shards:05}"
    path = destination / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # A runner may try a bundle twice, or twice at once.
    temporary = spool / f"shard-{uuid.uuid4().hex}"
    summary = tfrecord.write(temporary, (_payload(*member) for member in ordered))
    temporary.replace(path)
    counts = Counter(candidate.text for candidate, _ in ordered)
    entry = {"file": name, "split": split, "class_counts": counts, **asdict(summary)}
    return json.dumps(entry)


def _payload(candidate: Candidate, place: Spooled) -> bytes:
    with Path(place.file).open("rb") as file:
        file.seek(place.offset)
        encoded = file.read(place.length)
    return examples.serialize(
        examples.ImageExample(
            encoded=encoded,
            format=candidate.format,
            height=candidate.height,
            width=candidate.width,
            label=candidate.label,
            text=candidate.text,
            filename=candidate.name,
        )
    )


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
