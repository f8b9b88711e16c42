"""Statistics of image examples in one pass: an accumulator that Beam can merge, and its proto."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apache_beam as beam
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline import files
from pipeline.beam import execution
from pipeline.orchestration.artifact import Progress
from pipeline.records import examples, manifest, tfrecord
from pipeline.records.examples import ImageExample

_COUNTER = "statistics"
_BYTES = "encoded bytes"


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
class ImageStatistics:
    """What has been seen of the examples of one split."""

    examples: int = 0
    numbers: dict[str, Moments] = field(
        default_factory=lambda: {
            name: Moments() for name in (examples.HEIGHT, examples.WIDTH, examples.LABEL, _BYTES)
        }
    )
    strings: dict[str, Counter] = field(
        default_factory=lambda: {name: Counter() for name in (examples.FORMAT, examples.TEXT)}
    )

    def add(self, example: ImageExample) -> None:
        """Takes in one example."""
        self.examples += 1
        self.numbers[examples.HEIGHT].add(example.height)
        self.numbers[examples.WIDTH].add(example.width)
        self.numbers[examples.LABEL].add(example.label)
        self.numbers[_BYTES].add(len(example.encoded))
        self.strings[examples.FORMAT][example.format] += 1
        self.strings[examples.TEXT][example.text] += 1

    def merge(self, other: "ImageStatistics") -> None:
        """Takes in what `other` has seen."""
        self.examples += other.examples
        for name, moments in other.numbers.items():
            self.numbers[name].merge(moments)
        for name, counter in other.strings.items():
            self.strings[name].update(counter)

    def to_proto(self, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
        """Returns the statistics as TensorFlow Data Validation writes them."""
        collection = statistics_pb2.DatasetFeatureStatisticsList()
        dataset = collection.datasets.add(name=split, num_examples=self.examples)
        feature_type = statistics_pb2.FeatureNameStatistics
        for name in (examples.HEIGHT, examples.WIDTH, examples.LABEL):
            feature = dataset.features.add(type=feature_type.INT)
            feature.path.step.append(name)
            moments = self.numbers[name]
            numeric = feature.num_stats
            self._common(numeric.common_stats)
            numeric.mean, numeric.std_dev = moments.mean, moments.deviation
            numeric.num_zeros = moments.zeros
            if moments.count:
                numeric.min, numeric.max = moments.least, moments.greatest
        for name in (examples.FORMAT, examples.TEXT):
            feature = dataset.features.add(type=feature_type.STRING)
            feature.path.step.append(name)
            self._fill_string(feature.string_stats, self.strings[name])
        feature = dataset.features.add(type=feature_type.BYTES)
        feature.path.step.append(examples.IMAGE)
        moments = self.numbers[_BYTES]
        self._common(feature.bytes_stats.common_stats)
        feature.bytes_stats.avg_num_bytes = moments.mean
        if moments.count:
            feature.bytes_stats.min_num_bytes = moments.least
            feature.bytes_stats.max_num_bytes = moments.greatest
        return collection

    def _common(self, common: statistics_pb2.CommonStatistics) -> None:
        common.num_non_missing = common.tot_num_values = self.examples
        common.min_num_values = common.max_num_values = min(self.examples, 1)
        common.avg_num_values = float(min(self.examples, 1))

    def _fill_string(self, stats: statistics_pb2.StringStatistics, counter: Counter) -> None:
        self._common(stats.common_stats)
        stats.unique = len(counter)
        ranked = sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))
        if ranked:
            stats.avg_length = sum(len(v) * n for v, n in ranked) / counter.total()
        for value, frequency in ranked:
            stats.top_values.add(value=value, frequency=frequency)
        for rank, (value, frequency) in enumerate(ranked):
            stats.rank_histogram.buckets.add(
                low_rank=rank, high_rank=rank, label=value, sample_count=frequency
            )


class CombineStatistics(beam.CombineFn):
    """Combines `ImageExample`s into `ImageStatistics`."""

    def create_accumulator(self) -> ImageStatistics:
        """Returns statistics of nothing."""
        return ImageStatistics()

    def add_input(self, accumulator: ImageStatistics, element: ImageExample) -> ImageStatistics:
        """Takes in one example."""
        accumulator.add(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[ImageStatistics]) -> ImageStatistics:
        """Merges partial statistics."""
        merged = ImageStatistics()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: ImageStatistics) -> ImageStatistics:
        """Returns the statistics themselves."""
        return accumulator


def run(root: Path, contents: manifest.Manifest, destination: Path, progress: Progress) -> None:
    """Writes `Split-<name>/FeatureStats.pb` below `destination` for each split.

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


def write(destination: Path, split: str, found: ImageStatistics) -> None:
    """Writes the statistics of one split as a binary proto."""
    content = found.to_proto(split).SerializeToString(deterministic=True)
    files.write_bytes(destination / f"Split-{split}" / "FeatureStats.pb", content)


def _read(shard: tuple[str, str]) -> Iterator[tuple[str, ImageExample]]:
    split, path = shard
    for payload in tfrecord.read(Path(path)):
        execution.tick(_COUNTER)
        yield split, examples.parse(payload)
