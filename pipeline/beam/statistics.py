"""Statistics of examples in one pass: an accumulator that Beam can merge, and its proto."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline import files
from pipeline.beam import execution
from pipeline.orchestration.artifact import Progress
from pipeline.records import examples, manifest, tfrecord

_COUNTER = "statistics"

_INT = statistics_pb2.FeatureNameStatistics.INT
_STRING = statistics_pb2.FeatureNameStatistics.STRING
_BYTES = statistics_pb2.FeatureNameStatistics.BYTES

# Strings of which there are few different ones, so that each is counted.
_CATEGORIES = (examples.FORMAT, examples.TEXT)


@dataclass
class Moments:
    """Count, sum, sum of squares, zeros, least and greatest of a number.

    All sums are of integers, so that the result does not depend on the order of merging.
    """

    count: int = 0
    total: int = 0
    squares: int = 0
    zeros: int = 0
    least: float = math.inf
    greatest: float = -math.inf

    def add(self, value: int) -> None:
        """Takes in one value."""
        self.merge(Moments(1, value, value * value, int(value == 0), value, value))

    def merge(self, other: "Moments") -> None:
        """Takes in what `other` has seen."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.zeros += other.zeros
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)

    @property
    def mean(self) -> float:
        """The arithmetic mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation; 0 of nothing."""
        if not self.count:
            return 0.0
        # Exact in integers: no cancellation between large sums.
        return math.sqrt(self.squares * self.count - self.total**2) / self.count


@dataclass
class FeatureStatistics:
    """What has been seen of one feature.

    Args:
        kind: Its type in TensorFlow Metadata.
        values: How many values the examples have that have any.
        sizes: The values themselves where they are integers, else their lengths in bytes.
        categories: How often each string was seen, where they are counted.
    """

    kind: int
    values: Moments = field(default_factory=Moments)
    sizes: Moments = field(default_factory=Moments)
    categories: Counter = field(default_factory=Counter)

    def merge(self, other: "FeatureStatistics") -> None:
        """Takes in what `other` has seen."""
        self.values.merge(other.values)
        self.sizes.merge(other.sizes)
        self.categories.update(other.categories)

    def fill(self, proto: statistics_pb2.FeatureNameStatistics, examples_seen: int) -> None:
        """Writes the statistics into the proto of the feature."""
        proto.type = self.kind
        if self.kind == _INT:
            numeric = proto.num_stats
            numeric.mean, numeric.std_dev = self.sizes.mean, self.sizes.deviation
            numeric.num_zeros = self.sizes.zeros
            numeric.min, numeric.max = self.sizes.least, self.sizes.greatest
            common = numeric.common_stats
        elif self.kind == _STRING:
            common = proto.string_stats.common_stats
            proto.string_stats.avg_length = self.sizes.mean
            self._fill_categories(proto.string_stats)
        else:
            common = proto.bytes_stats.common_stats
            proto.bytes_stats.avg_num_bytes = self.sizes.mean
            proto.bytes_stats.min_num_bytes = self.sizes.least
            proto.bytes_stats.max_num_bytes = self.sizes.greatest
        common.num_non_missing = self.values.count
        common.num_missing = examples_seen - self.values.count
        common.min_num_values, common.max_num_values = self.values.least, self.values.greatest
        common.avg_num_values = self.values.mean
        common.tot_num_values = self.values.total

    def _fill_categories(self, stats: statistics_pb2.StringStatistics) -> None:
        stats.unique = len(self.categories)
        ranked = sorted(self.categories.items(), key=lambda entry: (-entry[1], entry[0]))
        for rank, (value, frequency) in enumerate(ranked):
            stats.top_values.add(value=value, frequency=frequency)
            stats.rank_histogram.buckets.add(
                low_rank=rank, high_rank=rank, label=value, sample_count=frequency
            )


@dataclass
class ExampleStatistics:
    """What has been seen of the examples of one split."""

    examples: int = 0
    features: dict[str, FeatureStatistics] = field(default_factory=dict)

    def add(self, example: Any) -> None:
        """Takes in one `tf.train.Example`."""
        self.examples += 1
        for name, feature in example.features.feature.items():
            if feature.WhichOneof("kind") == "int64_list":
                kind, values = _INT, feature.int64_list.value
            else:
                kind = _BYTES if name == examples.IMAGE else _STRING
                values = feature.bytes_list.value
            if not values:
                continue
            seen = self.features.setdefault(name, FeatureStatistics(kind))
            seen.values.add(len(values))
            for value in values:
                seen.sizes.add(value if kind == _INT else len(value))
                if name in _CATEGORIES:
                    seen.categories[value.decode()] += 1

    def merge(self, other: "ExampleStatistics") -> None:
        """Takes in what `other` has seen."""
        self.examples += other.examples
        for name, seen in other.features.items():
            self.features.setdefault(name, FeatureStatistics(seen.kind)).merge(seen)

    def to_proto(self, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
        """Returns the statistics as TensorFlow Data Validation writes them."""
        collection = statistics_pb2.DatasetFeatureStatisticsList()
        dataset = collection.datasets.add(name=split, num_examples=self.examples)
        for name, seen in sorted(self.features.items()):
            feature = dataset.features.add()
            feature.path.step.append(name)
            seen.fill(feature, self.examples)
        return collection


class CombineStatistics(beam.CombineFn):
    """Combines `tf.train.Example`s into `ExampleStatistics`."""

    def create_accumulator(self) -> ExampleStatistics:
        """Returns statistics of nothing."""
        return ExampleStatistics()

    def add_input(self, accumulator: ExampleStatistics, element: Any) -> ExampleStatistics:
        """Takes in one example."""
        accumulator.add(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[ExampleStatistics]) -> ExampleStatistics:
        """Merges partial statistics."""
        merged = ExampleStatistics()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: ExampleStatistics) -> ExampleStatistics:
        """Returns the statistics themselves."""
        return accumulator


def run(root: Path, contents: manifest.Manifest, destination: Path, progress: Progress) -> None:
    """Writes `Split-<name>/FeatureStats.pb` below `destination` for each split with examples.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        destination: Directory of the ExampleStatistics artifact.
        progress: Receives the number of examples done.
    """
    shards = [
        (name, str(root / shard.file))
        for name, split in contents.splits.items()
        for shard in split.shards
    ]
    with execution.pipeline(progress, _COUNTER, contents.examples) as pipeline:
        (
            pipeline
            | "List shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_read)
            | "Combine" >> beam.CombinePerKey(CombineStatistics())
            | "Write" >> beam.MapTuple(lambda split, found: write(destination, split, found))
        )


def write(destination: Path, split: str, found: ExampleStatistics) -> None:
    """Writes the statistics of one split as a binary proto."""
    content = found.to_proto(split).SerializeToString(deterministic=True)
    files.write_bytes(destination / f"Split-{split}" / "FeatureStats.pb", content)


def _read(shard: tuple[str, str]) -> Iterator[tuple[str, Any]]:
    from tensorflow.core.example import example_pb2  # imports all of TensorFlow

    split, path = shard
    for payload in tfrecord.read(Path(path)):
        execution.tick(_COUNTER)
        yield split, example_pb2.Example.FromString(payload)
