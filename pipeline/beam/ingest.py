"""The Beam pipeline of ExampleGen: check, split, shard, write in an order that never changes."""

import functools
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipeline import files
from pipeline.beam import execution
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Progress
from pipeline.records import examples, images, manifest, tfrecord
from pipeline.records.sources import Reference, Source

_COUNTER = "ingest"
_REJECTED = "rejected"
_PLACES = 1 << 32


def run(
    source: Source, parameters: Any, destination: Path, progress: Progress
) -> tuple[manifest.Manifest, list[dict[str, str]]]:
    """Writes the images of `source` below `destination`.

    The bytes of every shard depend on the images and the parameters alone: an image goes to the
    split and the shard that its own SHA-256 names, and a shard is sorted by it. Only references
    are shuffled between workers, never images.

    Args:
        source: The images.
        parameters: Those of ExampleGen.
        destination: Directory of the Examples artifact.
        progress: Receives the number of images done.

    Returns:
        The manifest of what was written, and name and reason of each image that was not.

    Raises:
        DataError: An image changed while it was read.
    """
    results = destination / f".results-{uuid.uuid4().hex}"
    # Every image is read twice: to check it, and to write it.
    with execution.pipeline(progress, _COUNTER, 2 * len(source.references)) as pipeline:
        checked = (
            pipeline
            | "List" >> beam.Create(source.references)
            | "Spread" >> beam.Reshuffle()
            | "Check" >> beam.ParDo(Check(source, parameters)).with_outputs(_REJECTED, main="good")
        )
        summaries = (
            checked.good
            | "Gather shards" >> beam.GroupByKey()
            | "Write shards" >> beam.Map(write_shard, source, parameters.shards, destination)
        )
        (
            (summaries, checked[_REJECTED])
            | "Join results" >> beam.Flatten()
            | "Collect results" >> beam.combiners.ToList()
            | "Write results" >> beam.Map(lambda found: files.write_json(results, found))
        )
    entries = _take_results(results)
    rejected = sorted((e for e in entries if "reason" in e), key=lambda entry: entry["name"])
    shards = sorted((e for e in entries if "file" in e), key=lambda entry: entry["file"])
    return _manifest(source, parameters, shards), rejected


class Check(beam.DoFn):
    """Reads and decodes the image of each reference, and decides where it goes.

    Yields `((split, shard), (key, label, reference))`, and the tag `rejected` for images that
    cannot be used, as `{"name", "reason"}`.
    """

    def __init__(self, source: Source, parameters: Any):
        self._read = source.read
        self._labels = {text: label for label, text in enumerate(source.classes)}
        self._parameters = parameters

    def process(self, reference: Reference) -> Iterator[Any]:
        """Yields what becomes of one reference."""
        execution.tick(_COUNTER)
        try:
            encoded = self._read(reference)
            images.inspect(encoded)
        except images.BadImageError as error:
            yield beam.pvalue.TaggedOutput(
                _REJECTED, {"name": reference.name, "reason": str(error)}
            )
            return
        key = hashlib.sha256(encoded).hexdigest()
        split = reference.split or assign_split(key, self._parameters.splits)
        shard = int(key[8:16], 16) % self._parameters.shards
        yield (split, shard), (key, self._labels[reference.text], reference)


def assign_split(key: str, splits: dict[str, float]) -> str:
    """Returns the split of the image whose SHA-256 is `key`: the same in every run.

    Args:
        key: Hexadecimal digest.
        splits: The share of each split, in order; together 1.
    """
    place = int(key[:8], 16) / _PLACES
    for name, share in splits.items():
        place -= share
        if place < 0:
            return name
    return name  # rounding left a sliver behind the last


def write_shard(
    element: tuple[tuple[str, int], Iterable[tuple[str, int, Reference]]],
    source: Source,
    shards: int,
    destination: Path,
) -> dict[str, Any]:
    """Writes one shard, sorted by key, and returns its entry for the manifest."""
    (split, shard), members = element
    counts: Counter[str] = Counter()
    name = f"Split-{split}/data_tfrecord-{shard:05}-of-{shards:05}"
    path = destination / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # A runner may try a bundle twice, or twice at once.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    ordered = sorted(members, key=lambda member: (member[0], member[2].name))
    payloads = map(functools.partial(_payload, source=source, counts=counts), ordered)
    summary = tfrecord.write(temporary, payloads)
    temporary.replace(path)
    return {
        "file": name,
        "split": split,
        "records": summary.records,
        "bytes": summary.bytes,
        "crc32c": summary.crc32c,
        "class_counts": dict(counts),
    }


def _payload(member: tuple[str, int, Reference], source: Source, counts: Counter[str]) -> bytes:
    key, label, reference = member
    encoded = source.read(reference)
    format_, height, width = images.inspect(encoded)
    example = examples.ImageExample(
        encoded, format_, height, width, label, reference.text, reference.name
    )
    if example.key != key:
        raise DataError(f"{reference.name}: changed while it was read; run again")
    counts[reference.text] += 1
    execution.tick(_COUNTER)
    return examples.serialize(example)


def _manifest(source: Source, parameters: Any, shards: list[dict[str, Any]]) -> manifest.Manifest:
    splits = {}
    for name in parameters.splits:
        own = [entry for entry in shards if entry["split"] == name]
        counts: Counter[str] = Counter()
        for entry in own:
            counts.update(entry["class_counts"])
        splits[name] = manifest.Split(
            shards=tuple(
                manifest.Shard(**{key: entry[key] for key in manifest.Shard.model_fields})
                for entry in own
            ),
            class_counts={text: counts[text] for text in source.classes},
        )
    return manifest.Manifest(classes=source.classes, splits=splits)


def _take_results(path: Path) -> list[dict[str, Any]]:
    """Returns the results that the pipeline left in `path`, and removes the file."""
    entries = json.loads(path.read_text())
    path.unlink()
    return entries
