"""SchemaGen: what examples have to look like: what a person says, or the training split suggests."""

import uuid
from collections.abc import Collection
from pathlib import Path

from google.protobuf import text_format

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import LocalPath, parameters
from pipeline.records import examples, images, protos

OUTPUTS = {"schema": "Schema"}

_BASIS = "train"

# What is put into the schema, for a person to change there.
_MIN_SUPPORTED_IMAGES = 0.95
_MAX_CATEGORY_DRIFT = 0.1
_MAX_NUMBER_DRIFT = 0.1
_MIN_EXAMPLES = 1

_HEADER = """\
# A Schema of TensorFlow Metadata, inferred from the training split. A copy that you keep (parameter
# schema_gen.file) and edit is what every later run is held against.
"""


@parameters
class Parameters:
    """Where the schema comes from.

    Args:
        file: A text file that holds the schema. Where there is none yet, the schema that is
            inferred is written to it, to be edited and kept. By default it is inferred anew
            whenever the data have changed.
    """

    file: LocalPath | None = None


def check(parameters: Parameters) -> None:
    """Raises DataError when the file is no schema, UsageError when it cannot be written."""
    if parameters.file is None:
        return
    if parameters.file.exists():
        load(parameters.file)
    else:
        files.require_writable(parameters.file.parent, "schema_gen.file")


def external(parameters: Parameters) -> str | None:
    """Returns a digest of the file."""
    if parameters.file is None:
        return None
    if parameters.file.is_file():
        return files.sha256_file(parameters.file)
    # It has to be written, whatever was inferred before.
    return f"not there yet: {uuid.uuid4().hex}"


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `schema.pbtxt`, a text `Schema` proto."""
    path = outputs["schema"].uri / protos.SCHEMA
    if parameters.file is not None and parameters.file.exists():
        schema = load(parameters.file)
        # As it is, with the comments of whoever edited it.
        files.write_bytes(path, parameters.file.read_bytes())
        return _outcome(schema, f", from {parameters.file}")
    statistics = protos.read_statistics(inputs["statistics"])
    if _BASIS not in statistics:
        raise DataError(f"no statistics of the split {_BASIS!r}, from which the schema is inferred")
    schema = infer(statistics[_BASIS], protos.class_names(inputs["statistics"]))
    text = _HEADER + text_format.MessageToString(schema)
    files.write_text(path, text)
    if parameters.file is None:
        return _outcome(schema, "")
    files.write_text(parameters.file, text)
    context.say(f"the schema is written to {parameters.file}: edit it, and it is used from now on")
    return _outcome(schema, f", written to {parameters.file}")


def _outcome(schema, where: str) -> Outcome:
    classes = protos.classes(schema, examples.TEXT)
    return Outcome(f"{len(schema.feature)} features, {len(classes)} classes{where}")


def load(path: Path):
    """Returns the `Schema` that a person keeps in the file `path`.

    Raises:
        DataError: It is no schema, or one that does not list the classes.
    """
    schema = protos.parse_schema(path)
    try:
        protos.classes(schema, examples.TEXT)
    except DataError:
        raise DataError(
            f"{path}: the feature {examples.TEXT!r} has no string_domain; expected the classes"
        ) from None
    return schema


def infer(dataset, classes: Collection[str] = ()):
    """Returns the schema that the statistics of the training split suggest.

    A feature that every example has is asked for, once; the classes are those that there should be
    and those that were seen; formats are those that can be decoded, seen or not. What is derived
    from an image is not asked for. Classes, formats and numbers may move only so far from span to
    span.

    Args:
        dataset: `DatasetFeatureStatistics` of the training split.
        classes: The names of all classes, with and without examples; none where nobody knows.

    Returns:
        A `Schema` proto.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

    kinds = {
        statistics_pb2.FeatureNameStatistics.INT: schema_pb2.INT,
        statistics_pb2.FeatureNameStatistics.FLOAT: schema_pb2.FLOAT,
        statistics_pb2.FeatureNameStatistics.STRING: schema_pb2.BYTES,
        statistics_pb2.FeatureNameStatistics.BYTES: schema_pb2.BYTES,
    }
    schema = schema_pb2.Schema()
    schema.dataset_constraints.min_examples_count = _MIN_EXAMPLES
    for name, statistics in protos.features(dataset).items():
        feature = schema.feature.add(name=name, type=kinds[statistics.type])
        derived = statistics.HasField("validation_derived_source")
        if derived:
            feature.lifecycle_stage = schema_pb2.VALIDATION_DERIVED
            feature.validation_derived_source.CopyFrom(statistics.validation_derived_source)
        else:
            _require(feature, protos.common(statistics))
        _limit(feature, statistics, classes)
        if derived or name in (examples.HEIGHT, examples.WIDTH):
            feature.drift_comparator.jensen_shannon_divergence.threshold = _MAX_NUMBER_DRIFT
        if name in (examples.LABEL, examples.TEXT):
            feature.not_in_environment.append("SERVING")
    schema.default_environment.extend(["TRAINING", "SERVING"])
    return schema


def _require(feature, common) -> None:
    """Says how often the feature has to be there: everywhere, if it is; and once in an example."""
    feature.presence.min_count = 1
    if not common.num_missing:
        feature.presence.min_fraction = 1.0
    feature.value_count.min = feature.value_count.max = 1


def _limit(feature, statistics, classes: Collection[str]) -> None:
    """Says which values the feature may have."""
    match feature.name:
        case examples.IMAGE:
            feature.image_domain.minimum_supported_image_fraction = _MIN_SUPPORTED_IMAGES
        case examples.TEXT:
            feature.string_domain.value.extend(sorted({*classes, *protos.frequencies(statistics)}))
        case examples.FORMAT:
            feature.string_domain.value.extend(images.STORED_FORMATS)
        case examples.LABEL:
            feature.int_domain.min = 0
            feature.int_domain.max = max(int(statistics.num_stats.max), len(classes) - 1)
            feature.int_domain.is_categorical = True
        case examples.HEIGHT | examples.WIDTH:
            feature.int_domain.min = 1
    if feature.name in (examples.TEXT, examples.FORMAT):
        feature.drift_comparator.infinity_norm.threshold = _MAX_CATEGORY_DRIFT
