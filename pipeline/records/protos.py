"""Reading and writing the TensorFlow Metadata protos of statistics, schema and anomalies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact
from pipeline.records import examples

M = TypeVar("M", bound=Message)

SCHEMA = "schema.pbtxt"
STATISTICS = "FeatureStats.pb"
ANOMALIES = "SchemaDiff.pb"
CLASSES = "classes.json"

CHANNELS = ("red", "green", "blue")

# Statistics of our own on `image/encoded`, beside those that TensorFlow Data Validation knows.
CHANNEL_MEAN = "pipeline/channel_mean/"
CHANNEL_STD = "pipeline/channel_std/"
SUPPORTED_FRACTION = "pipeline/supported_image_fraction"
LEAKED_EXACT = "pipeline/leaked_exact"
LEAKED_NEAR = "pipeline/leaked_near"

# What TensorFlow Data Validation calls the statistic of formats, and what has none.
FORMATS = "image_format_histogram"
UNKNOWN_FORMAT = "UNKNOWN"


def read_binary(path: Path, message_type: type[M]) -> M:
    """Returns the message in the binary file `path`.

    Raises:
        DataError: It is missing, or holds no such message.
    """
    try:
        return message_type.FromString(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the component that writes it again") from None
    except DecodeError:
        raise DataError(f"{path}: not a {message_type.DESCRIPTOR.full_name}") from None


def parse_schema(path: Path) -> schema_pb2.Schema:
    """Returns the schema in the text file `path`.

    Raises:
        DataError: It cannot be read or is no schema; the message names the file and the line.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a schema") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a schema: not text in UTF-8") from None
    except text_format.ParseError as error:
        place = f"{path}:{error.GetLine()}" if error.GetLine() else f"{path}"
        said = str(error).removeprefix(f"{error.GetLine()}:{error.GetColumn()} : ")
        raise DataError(f"{place}: not a schema: {' '.join(said.split())}") from None


def read_schema(artifact: Artifact) -> schema_pb2.Schema:
    """Returns the schema of a Schema artifact.

    Raises:
        DataError: It is missing, or no schema.
    """
    path = artifact.uri / SCHEMA
    if not path.exists():
        raise DataError(f"{path}: missing; run SchemaGen again")
    return parse_schema(path)


def read_statistics(artifact: Artifact) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Returns the statistics of each split of an ExampleStatistics artifact.

    Splits without examples have none.

    Raises:
        DataError: A file holds no statistics.
    """
    found = {}
    for split in json.loads(artifact.properties["split_names"]):
        path = artifact.uri / f"Split-{split}" / STATISTICS
        if path.exists():
            message = read_binary(path, statistics_pb2.DatasetFeatureStatisticsList)
            if len(message.datasets) != 1:
                raise DataError(f"{path}: {len(message.datasets)} datasets; expected 1")
            found[split] = message.datasets[0]
    return found


def class_names(artifact: Artifact) -> tuple[str, ...]:
    """Returns the names of all classes of an ExampleStatistics artifact, in the order of labels.

    Some may have no examples. Of an artifact that does not list them, nothing is known.

    Raises:
        DataError: The list is damaged.
    """
    path = artifact.uri / CLASSES
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except ValueError:
        raise DataError(f"{path}: not JSON; run StatisticsGen again") from None


def features(
    dataset: statistics_pb2.DatasetFeatureStatistics,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    """Returns the statistics of each feature by its name."""
    return {feature.path.step[0]: feature for feature in dataset.features}


def custom(
    feature: statistics_pb2.FeatureNameStatistics,
) -> dict[str, statistics_pb2.CustomStatistic]:
    """Returns the statistics of a feature that TensorFlow Metadata has no field for, by name."""
    return {statistic.name: statistic for statistic in feature.custom_stats}


def common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    """Returns what is known of a feature of any type: in how many examples it is, and so on."""
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def frequencies(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, int]:
    """Returns how often each value of a string feature was seen."""
    buckets = feature.string_stats.rank_histogram.buckets
    return {bucket.label: round(bucket.sample_count) for bucket in buckets}


def histogram(
    feature: statistics_pb2.FeatureNameStatistics,
) -> dict[tuple[float, float], float]:
    """Returns how many values lie in each bucket of the standard histogram."""
    return {
        (bucket.low_value, bucket.high_value): bucket.sample_count
        for found in feature.num_stats.histograms
        if found.type == statistics_pb2.Histogram.STANDARD
        for bucket in found.buckets
    }


def channel_moments(
    artifact: Artifact, split: str = "train"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of red, green and blue over all pixels of a split.

    Args:
        artifact: ExampleStatistics.
        split: Name of the split.

    Returns:
        Three means and three standard deviations, in units of 0 to 255.

    Raises:
        DataError: The statistics of the split are missing or do not have them.
    """
    dataset = read_statistics(artifact).get(split)
    image = features(dataset).get(examples.IMAGE) if dataset is not None else None
    known: Mapping[str, statistics_pb2.CustomStatistic] = custom(image) if image else {}
    try:
        means, deviations = (
            tuple(known[prefix + channel].num for channel in CHANNELS)
            for prefix in (CHANNEL_MEAN, CHANNEL_STD)
        )
    except KeyError:
        raise DataError(
            f"{artifact.uri}: no channel moments of the split {split!r}; it has no images, or "
            "StatisticsGen has to run again"
        ) from None
    return means, deviations


def classes(schema: schema_pb2.Schema, feature: str) -> tuple[str, ...]:
    """Returns the values that the schema allows for the string `feature`, in their order.

    Raises:
        DataError: The schema does not list them.
    """
    for entry in schema.feature:
        if entry.name == feature and entry.string_domain.value:
            return tuple(entry.string_domain.value)
    raise DataError(f"schema: the feature {feature!r} has no list of values; run SchemaGen again")
