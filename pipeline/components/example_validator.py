"""ExampleValidator: compares the statistics of each split with the schema, and stops the run."""

import json
from collections.abc import Iterator

from pipeline import files
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Positive, parameters
from pipeline.records import protos

OUTPUTS = {"anomalies": "ExampleAnomalies"}


@parameters
class Parameters:
    """What the data have to satisfy beyond the schema.

    Args:
        min_examples: The least number of examples in each split.
    """

    min_examples: Positive = 1


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/SchemaDiff.pb`, a binary `Anomalies` proto, per split.

    Refuses when there is an anomaly: nothing is trained on data that the schema does not allow.
    """
    schema = protos.read_schema(inputs["schema"])
    statistics = protos.read_statistics(inputs["statistics"])
    artifact = outputs["anomalies"]
    described, blessed = [], {}
    for split in json.loads(inputs["statistics"].properties["split_names"]):
        found = anomalies(statistics.get(split), schema, parameters.min_examples)
        content = found.SerializeToString(deterministic=True)
        files.write_bytes(artifact.uri / f"Split-{split}" / "SchemaDiff.pb", content)
        infos = [*found.anomaly_info.values()]
        if found.dataset_anomaly_info.reason:
            infos.append(found.dataset_anomaly_info)
        blessed[split] = int(not infos)
        described += [f"{split}: {info.description}" for info in infos]
    artifact.properties["blessed"] = json.dumps(blessed)
    if described:
        plural = "anomaly" if len(described) == 1 else "anomalies"
        return Outcome(f"{len(described)} {plural}", refusal="; ".join(described))
    return Outcome(f"no anomalies in {len(blessed)} splits")


def anomalies(dataset, schema, min_examples: int):
    """Returns what in `dataset` the schema does not allow.

    Args:
        dataset: `DatasetFeatureStatistics` of one split, or None when it has no examples.
        schema: `Schema` proto.
        min_examples: The least number of examples.

    Returns:
        An `Anomalies` proto.
    """
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    info_type = anomalies_pb2.AnomalyInfo
    found = anomalies_pb2.Anomalies()
    found.baseline.CopyFrom(schema)
    number = dataset.num_examples if dataset is not None else 0
    if number < min_examples:
        description = f"{number} examples; expected at least {min_examples}"
        _fill(
            found.dataset_anomaly_info,
            info_type.DATASET_LOW_NUM_EXAMPLES,
            "too few examples",
            description,
        )
    if dataset is None:
        return found
    present = protos.features(dataset)
    for feature in schema.feature:
        for kind, short, description in _check(feature, present.get(feature.name), dataset):
            info = found.anomaly_info[feature.name]
            if not info.reason:
                info.path.step.append(feature.name)
            kind_number = info_type.Type.Value(kind)
            _fill(info, kind_number, short, f"{feature.name}: {description}")
    return found


def _fill(info, kind: int, short: str, description: str) -> None:
    info.severity = info.ERROR
    info.short_description = short
    info.description = f"{info.description}; {description}" if info.description else description
    info.reason.add(type=kind, short_description=short, description=description)


def _check(feature, statistics, dataset) -> Iterator[tuple[str, str, str]]:
    """Yields type, short description and description of each anomaly of one feature."""
    if statistics is None:
        yield "SCHEMA_MISSING_COLUMN", "missing", "missing; the schema asks for it"
        return
    common = next(
        getattr(statistics, field).common_stats
        for field in ("num_stats", "string_stats", "bytes_stats")
        if statistics.HasField(field)
    )
    share = common.num_non_missing / dataset.num_examples
    if share < feature.presence.min_fraction:
        yield (
            "FEATURE_TYPE_LOW_FRACTION_PRESENT",
            "missing in some examples",
            f"in {share:.1%} of the examples; expected {feature.presence.min_fraction:.1%}",
        )
    counts = (common.min_num_values, common.max_num_values)
    allowed_counts = (feature.value_count.min, feature.value_count.max)
    if feature.HasField("value_count") and counts != allowed_counts:
        yield (
            "INVALID_FEATURE_SHAPE",
            "unexpected number of values",
            f"{counts[0]} to {counts[1]} values; expected {allowed_counts[0]}",
        )
    if feature.HasField("string_domain"):
        allowed = set(feature.string_domain.value)
        seen = {bucket.label for bucket in statistics.string_stats.rank_histogram.buckets}
        if unexpected := sorted(seen - allowed):
            yield (
                "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
                "unexpected values",
                f"found {', '.join(unexpected)}; expected {', '.join(sorted(allowed))}",
            )
    if feature.HasField("int_domain"):
        least, greatest = int(statistics.num_stats.min), int(statistics.num_stats.max)
        if feature.int_domain.HasField("min") and least < feature.int_domain.min:
            yield (
                "INT_TYPE_SMALL_INT",
                "too small",
                f"found {least}; expected at least {feature.int_domain.min}",
            )
        if feature.int_domain.HasField("max") and greatest > feature.int_domain.max:
            yield (
                "INT_TYPE_BIG_INT",
                "too large",
                f"found {greatest}; expected at most {feature.int_domain.max}",
            )
