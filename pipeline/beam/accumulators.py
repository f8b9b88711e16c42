"""Statistics of examples that can be taken in any order and merged, and their protos.

All sums are of integers and all counts are kept in buckets with fixed edges, so that the result is
the same, byte for byte, however the work was divided. What is kept does not grow with the number
of examples.
"""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.beam import measures
from pipeline.records import examples, protos
from pipeline.records.example_proto import example_class

# Name of a split, and some of its serialized examples.
Batch = tuple[str, list[bytes]]

_INT = statistics_pb2.FeatureNameStatistics.INT
_FLOAT = statistics_pb2.FeatureNameStatistics.FLOAT
_STRING = statistics_pb2.FeatureNameStatistics.STRING
_BYTES = statistics_pb2.FeatureNameStatistics.BYTES

# Strings of which there are few different ones, so that each is counted.
_CATEGORIES = (examples.FORMAT, examples.TEXT)

_DERIVER = "image_measures"

# One bucket for each of 0 to 3, then four for every doubling, to beyond what an int64 can hold; and
# the same below zero.
_UPWARDS = (0, 1, 2, 3, *(lead << power for power in range(62) for lead in (4, 5, 6, 7)))
_WIDE_EDGES = (*(-edge for edge in reversed(_UPWARDS[1:])), *_UPWARDS)
# Of what lies between 0 and 255: steps of 8.
_LEVEL_EDGES = tuple(range(0, 264 * measures.SCALE, 8 * measures.SCALE))


@dataclass
class Moments:
    """Count, sum, sum of squares, zeros, least and greatest of integers."""

    count: int = 0
    total: int = 0
    squares: int = 0
    zeros: int = 0
    least: float = math.inf
    greatest: float = -math.inf

    def add(self, value: int) -> None:
        """Takes in one value."""
        self.count += 1
        self.total += value
        self.squares += value * value
        self.zeros += value == 0
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)

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
        return math.sqrt(measures.variance(self.count, self.total, self.squares))


@dataclass
class FeatureStatistics:
    """What has been seen of one feature.

    Args:
        kind: Its type in TensorFlow Metadata; `FLOAT` stands for whole thousandths.
        edges: Of the buckets of numbers, in the unit of the values.
        values: How many values the examples have that have any.
        sizes: The values themselves where they are numbers, else their lengths in bytes.
        buckets: How many numbers lie from one edge to the next, by the index of the lower edge.
        categories: How often each string was seen, where they are counted.
    """

    kind: int
    edges: tuple[int, ...] = _WIDE_EDGES
    values: Moments = field(default_factory=Moments)
    sizes: Moments = field(default_factory=Moments)
    buckets: Counter[int] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)

    def add_number(self, value: int) -> None:
        """Takes in one number."""
        self.sizes.add(value)
        self.buckets[bisect.bisect_right(self.edges, value) - 1] += 1

    def merge(self, other: "FeatureStatistics") -> None:
        """Takes in what `other` has seen."""
        self.values.merge(other.values)
        self.sizes.merge(other.sizes)
        self.buckets.update(other.buckets)
        self.categories.update(other.categories)

    def fill(self, proto: statistics_pb2.FeatureNameStatistics, examples_seen: int) -> None:
        """Writes the statistics into the proto of the feature."""
        proto.type = self.kind
        if self.kind in (_INT, _FLOAT):
            self._fill_numbers(proto.num_stats)
            common = proto.num_stats.common_stats
        elif self.kind == _STRING:
            common = proto.string_stats.common_stats
            proto.string_stats.avg_length = self.sizes.mean
            if self.categories:
                _fill_ranks(proto.string_stats, self.categories)
        else:
            common = proto.bytes_stats.common_stats
            proto.bytes_stats.avg_num_bytes = self.sizes.mean
            proto.bytes_stats.min_num_bytes = self.sizes.least
            proto.bytes_stats.max_num_bytes = self.sizes.greatest
            proto.bytes_stats.max_num_bytes_int = int(self.sizes.greatest)
        common.num_non_missing = self.values.count
        common.num_missing = examples_seen - self.values.count
        common.min_num_values, common.max_num_values = self.values.least, self.values.greatest
        common.avg_num_values = self.values.mean
        common.tot_num_values = self.values.total

    def _fill_numbers(self, stats: statistics_pb2.NumericStatistics) -> None:
        scale = measures.SCALE if self.kind == _FLOAT else 1
        stats.mean, stats.std_dev = self.sizes.mean / scale, self.sizes.deviation / scale
        stats.num_zeros = self.sizes.zeros
        stats.min, stats.max = self.sizes.least / scale, self.sizes.greatest / scale
        histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        for index in range(min(self.buckets), max(self.buckets) + 1):
            histogram.buckets.add(
                low_value=self.edges[index] / scale,
                high_value=self.edges[index + 1] / scale,
                sample_count=self.buckets[index],
            )


def _fill_ranks(stats: statistics_pb2.StringStatistics, counts: Counter[str]) -> None:
    stats.unique = len(counts)
    for rank, (value, frequency) in enumerate(_ranked(counts)):
        stats.top_values.add(value=value, frequency=frequency)
        stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=value, sample_count=frequency
        )


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


@dataclass
class PictureStatistics:
    """What has been seen of the pictures themselves.

    Args:
        formats: How many there were of each format; of `UNKNOWN`, how many cannot be decoded.
        width: Of the widest, in pixels.
        height: Of the highest, in pixels.
        pixels: How many they have together.
        sums: Of the values of each channel.
        squares: Of the squares of those.
    """

    formats: Counter[str] = field(default_factory=Counter)
    width: int = 0
    height: int = 0
    pixels: int = 0
    sums: tuple[int, ...] = (0, 0, 0)
    squares: tuple[int, ...] = (0, 0, 0)

    def add(self, picture: measures.Picture | None) -> None:
        """Takes in one picture, or one that cannot be decoded."""
        if picture is None:
            self.formats[protos.UNKNOWN_FORMAT] += 1
            return
        self.merge(
            PictureStatistics(
                Counter({picture.format: 1}),
                picture.width,
                picture.height,
                picture.width * picture.height,
                picture.sums,
                picture.squares,
            )
        )

    def merge(self, other: "PictureStatistics") -> None:
        """Takes in what `other` has seen."""
        self.formats.update(other.formats)
        self.width, self.height = max(self.width, other.width), max(self.height, other.height)
        self.pixels += other.pixels
        self.sums = tuple(map(int.__add__, self.sums, other.sums))
        self.squares = tuple(map(int.__add__, self.squares, other.squares))

    def fill(self, proto: statistics_pb2.FeatureNameStatistics) -> None:
        """Writes the statistics into the proto of the encoded image."""
        add = proto.custom_stats.add
        add(name="domain_info", str="image_domain {}")
        add(name="image_max_width", num=self.width)
        add(name="image_max_height", num=self.height)
        formats = add(name=protos.FORMATS).rank_histogram
        for label, count in _ranked(self.formats):
            formats.buckets.add(label=label, sample_count=count)
        if not self.pixels:
            return
        for channel, total, squares in zip(protos.CHANNELS, self.sums, self.squares, strict=True):
            deviation = math.sqrt(measures.variance(self.pixels, total, squares))
            add(name=protos.CHANNEL_MEAN + channel, num=total / self.pixels)
            add(name=protos.CHANNEL_STD + channel, num=deviation)


@dataclass
class ExampleStatistics:
    """What has been seen of the examples of one split."""

    examples: int = 0
    features: dict[str, FeatureStatistics] = field(default_factory=dict)
    derived: dict[str, FeatureStatistics] = field(default_factory=dict)
    pictures: PictureStatistics = field(default_factory=PictureStatistics)

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
            if name not in self.features:
                self.features[name] = FeatureStatistics(kind)
            seen = self.features[name]
            seen.values.add(len(values))
            for value in values:
                if kind == _INT:
                    seen.add_number(value)
                    continue
                seen.sizes.add(len(value))
                if name in _CATEGORIES:
                    seen.categories[value.decode()] += 1
                elif kind == _BYTES:
                    self._add_picture(measures.measure(value))

    def _add_picture(self, picture: measures.Picture | None) -> None:
        self.pictures.add(picture)
        for name, value in picture.measures.items() if picture else ():
            if name not in self.derived:
                levels = name in (measures.BRIGHTNESS, measures.CONTRAST)
                edges = _LEVEL_EDGES if levels else _WIDE_EDGES
                self.derived[name] = FeatureStatistics(_FLOAT, edges)
            self.derived[name].values.add(1)
            self.derived[name].add_number(value)

    def merge(self, other: "ExampleStatistics") -> None:
        """Takes in what `other` has seen."""
        self.examples += other.examples
        for own, others in ((self.features, other.features), (self.derived, other.derived)):
            for name, seen in others.items():
                own.setdefault(name, FeatureStatistics(seen.kind, seen.edges)).merge(seen)
        self.pictures.merge(other.pictures)

    def to_proto(
        self, split: str, known: Mapping[str, float] | None = None
    ) -> statistics_pb2.DatasetFeatureStatisticsList:
        """Returns the statistics as TensorFlow Data Validation writes them.

        Args:
            split: Name of the split.
            known: Further statistics of the encoded image, by name.
        """
        collection = statistics_pb2.DatasetFeatureStatisticsList()
        dataset = collection.datasets.add(name=split, num_examples=self.examples)
        for name, seen in sorted((self.features | self.derived).items()):
            feature = dataset.features.add()
            feature.path.step.append(name)
            seen.fill(feature, self.examples)
            if name in self.derived:
                source = feature.validation_derived_source
                source.deriver_name = _DERIVER
                source.source_path.add(step=[examples.IMAGE])
            elif name == examples.IMAGE:
                self.pictures.fill(feature)
                for statistic, value in sorted((known or {}).items()):
                    feature.custom_stats.add(name=statistic, num=value)
        return collection


def summarize(payloads: Iterable[bytes]) -> ExampleStatistics:
    """Returns the statistics of serialized `tf.train.Example`s; needs no TensorFlow."""
    example = example_class()
    found = ExampleStatistics()
    for payload in payloads:
        found.add(example.FromString(payload))
    return found


def summarize_batch(
    batch: Batch, journal: Path | None = None, deadly: frozenset[str] = frozenset()
) -> tuple[str, ExampleStatistics]:
    """Returns the name of the split and the statistics of some of its examples; `parallel.Work`.

    These have been read and decoded before, so none is expected to kill its reader.
    """
    split, payloads = batch
    return split, summarize(payloads)


def merged(parts: Iterable[ExampleStatistics]) -> ExampleStatistics:
    """Returns the statistics of all examples of `parts` together; these stay as they are."""
    found = ExampleStatistics()
    for part in parts:
        found.merge(part)
    return found
