"""Reading and writing the TensorFlow Metadata protos of statistics, schema and anomalies."""

import json
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact

M = TypeVar("M", bound=Message)

SCHEMA = "schema.pbtxt"


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


def read_schema(artifact: Artifact) -> schema_pb2.Schema:
    """Returns the schema of a Schema artifact.

    Raises:
        DataError: It is missing, or no schema.
    """
    path = artifact.uri / SCHEMA
    try:
        return text_format.Parse(path.read_text(), schema_pb2.Schema())
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run SchemaGen again") from None
    except text_format.ParseError as error:
        raise DataError(f"{path}: not a schema: {error}") from None


def read_statistics(artifact: Artifact) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Returns the statistics of each split of an ExampleStatistics artifact.

    Splits without examples have none.

    Raises:
        DataError: A file holds no statistics.
    """
    found = {}
    for split in json.loads(artifact.properties["split_names"]):
        path = artifact.uri / f"Split-{split}" / "FeatureStats.pb"
        if path.exists():
            message = read_binary(path, statistics_pb2.DatasetFeatureStatisticsList)
            found[split] = message.datasets[0]
    return found


def features(
    dataset: statistics_pb2.DatasetFeatureStatistics,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    """Returns the statistics of each feature by its name."""
    return {feature.path.step[0]: feature for feature in dataset.features}


def classes(schema: schema_pb2.Schema, feature: str) -> tuple[str, ...]:
    """Returns the values that the schema allows for the string `feature`, in their order.

    Raises:
        DataError: The schema does not list them.
    """
    for entry in schema.feature:
        if entry.name == feature and entry.string_domain.value:
            return tuple(entry.string_domain.value)
    raise DataError(f"schema: the feature {feature!r} has no list of values; run SchemaGen again")
