"""The Beam pipeline of StatisticsGen: one pass over the records, in which images are decoded once.

Only statistics are shuffled between workers, and they stay small.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import apache_beam as beam

from pipeline import files
from pipeline.beam import accumulators, execution, parallel
from pipeline.beam.accumulators import Batch, ExampleStatistics
from pipeline.beam.arrival import require_written
from pipeline.beam.reporter import Reporter
from pipeline.orchestration.artifact import Context
from pipeline.records import manifest, protos, tfrecord

_BATCH_EXAMPLES = 64
_BATCH_BYTES = 4 << 20


def run(
    root: Path,
    contents: manifest.Manifest,
    destination: Path,
    context: Context,
    known: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Writes `Split-<name>/FeatureStats.pb` below `destination` for each split with examples.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        destination: Directory of the ExampleStatistics artifact.
        context: Its progress receives the number of examples done.
        known: Further statistics of the encoded images of each split, by name.
    """
    root, destination = root.absolute(), destination.absolute()
    shards = [
        (name, str(root / shard.file))
        for name, split in contents.splits.items()
        for shard in split.shards
    ]
    with execution.pipeline(context, contents.examples, destination, [root]) as running:
        (
            running.pipeline
            | "List shards" >> beam.Create(shards)
            | "Spread" >> running.spread()
            | "Read" >> beam.FlatMap(batches)
            | "Measure"
            >> parallel.spread(accumulators.summarize_batch, running.processes, running.reporter)
            | "Count" >> beam.Map(_count, running.reporter)
            | "Combine" >> beam.CombinePerKey(accumulators.merged)
            | "Write" >> beam.MapTuple(functools.partial(write, destination, known or {}))
        )
    require_written(
        _path(destination, name) for name, split in contents.splits.items() if split.examples
    )


def batches(shard: tuple[str, str]) -> Iterator[Batch]:
    """Yields the payloads of a shard, some at a time, with the name of the split."""
    split, path = shard
    batch: list[bytes] = []
    size = 0
    for payload in tfrecord.read(Path(path)):
        batch.append(payload)
        size += len(payload)
        if len(batch) == _BATCH_EXAMPLES or size >= _BATCH_BYTES:
            yield split, batch
            batch, size = [], 0
    if batch:
        yield split, batch


def write(
    destination: Path,
    known: Mapping[str, Mapping[str, float]],
    split: str,
    found: ExampleStatistics,
) -> None:
    """Writes the statistics of one split as a binary proto."""
    message = found.to_proto(split, known.get(split))
    content = message.SerializeToString(deterministic=True)
    files.write_bytes(_path(destination, split), content)


def _path(destination: Path, split: str) -> Path:
    return destination / f"Split-{split}" / protos.STATISTICS


def _count(
    found: tuple[str, ExampleStatistics], reporter: Reporter
) -> tuple[str, ExampleStatistics]:
    # Behind the work, which may be done in another process.
    reporter.tick(found[1].examples)
    return found
