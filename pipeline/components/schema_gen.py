"""SchemaGen: what examples have to look like, inferred from those of the training split."""

from google.protobuf import text_format

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import parameters
from pipeline.records import examples, images, protos

OUTPUTS = {"schema": "Schema"}

_BASIS = "train"


@parameters
class Parameters:
    """SchemaGen has no parameters."""


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `schema.pbtxt`, a text `Schema` proto."""
    statistics = protos.read_statistics(inputs["statistics"])
    if _BASIS not in statistics:
        raise DataError(f"no statistics of the split {_BASIS!r}, from which the schema is inferred")
    schema = infer(statistics[_BASIS])
    files.write_text(outputs["schema"].uri / protos.SCHEMA, text_format.MessageToString(schema))
    classes = protos.classes(schema, examples.TEXT)
    return Outcome(f"{len(schema.feature)} features, {len(classes)} classes")


def infer(dataset):
    """Returns the schema that the statistics of the training split suggest.

    Every feature has to be present once in every example; the classes are those that were seen;
    formats are those that can be decoded, seen or not.

    Args:
        dataset: `DatasetFeatureStatistics` of the training split.

    Returns:
        A `Schema` proto.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

    kinds = {
        statistics_pb2.FeatureNameStatistics.INT: schema_pb2.INT,
        statistics_pb2.FeatureNameStatistics.STRING: schema_pb2.BYTES,
        statistics_pb2.FeatureNameStatistics.BYTES: schema_pb2.BYTES,
    }
    schema = schema_pb2.Schema()
    for name, statistics in protos.features(dataset).items():
        feature = schema.feature.add(name=name, type=kinds[statistics.type])
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        feature.value_count.min = feature.value_count.max = 1
        match name:
            case examples.TEXT:
                seen = (bucket.label for bucket in statistics.string_stats.rank_histogram.buckets)
                feature.string_domain.value.extend(sorted(seen))
            case examples.FORMAT:
                feature.string_domain.value.extend(images.STORED_FORMATS)
            case examples.LABEL:
                feature.int_domain.min = 0
                feature.int_domain.max = int(statistics.num_stats.max)
                feature.int_domain.is_categorical = True
            case examples.HEIGHT | examples.WIDTH:
                feature.int_domain.min = 1
        if name in (examples.LABEL, examples.TEXT):
            feature.not_in_environment.append("SERVING")
    schema.default_environment.extend(["TRAINING", "SERVING"])
    return schema
