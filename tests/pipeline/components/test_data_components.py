"""StatisticsGen, SchemaGen and ExampleValidator, each on what the one before wrote."""

import json

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipeline.components import example_validator, schema_gen, statistics_gen
from pipeline.errors import DataError
from pipeline.records import examples, manifest, protos, tfrecord
from tests.pipeline import builders


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    source = builders.image_folder(folder / "images", images=40)
    written, _ = builders.examples(folder / "examples", source)
    return written


@pytest.fixture(scope="module")
def statistics(ingested, tmp_path_factory):
    written = builders.artifact(tmp_path_factory.mktemp("statistics"))
    statistics_gen.run(
        {"examples": ingested},
        {"statistics": written},
        statistics_gen.Parameters(),
        builders.CONTEXT,
    )
    return written


@pytest.fixture(scope="module")
def schema(statistics, tmp_path_factory):
    written = builders.artifact(tmp_path_factory.mktemp("schema"))
    schema_gen.run(
        {"statistics": statistics}, {"schema": written}, schema_gen.Parameters(), builders.CONTEXT
    )
    return written


def test_statistics_count_what_was_ingested(ingested, statistics):
    contents = manifest.load(ingested.uri)
    found = protos.read_statistics(statistics)
    assert {name: dataset.num_examples for name, dataset in found.items()} == {
        name: split.examples for name, split in contents.splits.items()
    }
    features = protos.features(found["train"])
    assert features[examples.HEIGHT].num_stats.mean == 12
    labels = {v.value: v.frequency for v in features[examples.TEXT].string_stats.top_values}
    assert labels == contents.splits["train"].class_counts


def test_statistics_of_records_that_were_cut_are_refused(ingested, tmp_path):
    import shutil

    root = shutil.copytree(ingested.uri, tmp_path / "examples")
    shard = next((root / "Split-train").iterdir())
    records = list(tfrecord.read(shard))
    shard.unlink()
    tfrecord.write(shard, records[:-1])
    with pytest.raises(DataError, match=shard.name):
        statistics_gen.run(
            {"examples": builders.artifact(root, **ingested.properties)},
            {"statistics": builders.artifact(tmp_path / "out")},
            statistics_gen.Parameters(),
            builders.CONTEXT,
        )


def test_the_schema_lists_the_classes_and_asks_for_every_feature(schema):
    found = protos.read_schema(schema)
    assert protos.classes(found, examples.TEXT) == ("cat", "dog")
    assert {feature.name for feature in found.feature} == {
        examples.IMAGE,
        examples.FILENAME,
        examples.KEY,
        examples.FORMAT,
        examples.HEIGHT,
        examples.WIDTH,
        examples.LABEL,
        examples.TEXT,
    }
    assert all(feature.presence.min_fraction == 1 for feature in found.feature)
    labels = next(feature for feature in found.feature if feature.name == examples.LABEL)
    assert list(labels.not_in_environment) == ["SERVING"]


def _validate(statistics, schema, folder, **parameters):
    written = builders.artifact(folder)
    outcome = example_validator.run(
        {"statistics": statistics, "schema": schema},
        {"anomalies": written},
        example_validator.Parameters(**parameters),
        builders.CONTEXT,
    )
    found = {
        split: protos.read_binary(
            written.uri / f"Split-{split}" / "SchemaDiff.pb", anomalies_pb2.Anomalies
        )
        for split in ("train", "eval", "test")
    }
    return outcome, found, json.loads(written.properties["blessed"])


def test_good_data_have_no_anomalies(statistics, schema, tmp_path):
    outcome, found, blessed = _validate(statistics, schema, tmp_path)
    assert outcome.refusal is None
    assert blessed == {"train": 1, "eval": 1, "test": 1}
    assert not any(anomalies.anomaly_info for anomalies in found.values())


def test_too_few_examples_stop_the_run(statistics, schema, tmp_path):
    outcome, found, blessed = _validate(statistics, schema, tmp_path, min_examples=30)
    assert "eval: 7 examples; expected at least 30" in outcome.refusal
    assert blessed == {"train": 1, "eval": 0, "test": 0}
    reasons = found["eval"].dataset_anomaly_info.reason
    assert [reason.type for reason in reasons] == [
        anomalies_pb2.AnomalyInfo.DATASET_LOW_NUM_EXAMPLES
    ]


def test_a_class_that_the_schema_does_not_know_stops_the_run(statistics, schema, tmp_path):
    edited = protos.read_schema(schema)
    for feature in edited.feature:
        if feature.name == examples.TEXT:
            feature.string_domain.value.remove("dog")
    other = builders.artifact(tmp_path / "schema")
    (other.uri / "schema.pbtxt").write_text(text_format.MessageToString(edited))
    outcome, found, _ = _validate(statistics, other, tmp_path / "out")
    assert "train: image/class/text: found dog; expected cat" in outcome.refusal
    reason = found["train"].anomaly_info[examples.TEXT].reason[0]
    assert reason.type == anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES


def test_numbers_out_of_range_and_missing_features_are_anomalies(schema):
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=10)
    label = dataset.features.add()
    label.path.step.append(examples.LABEL)
    label.num_stats.common_stats.num_non_missing = 8
    label.num_stats.common_stats.min_num_values = 1
    label.num_stats.common_stats.max_num_values = 2
    label.num_stats.min, label.num_stats.max = -1, 7
    found = example_validator.anomalies(dataset, protos.read_schema(schema), 1)
    kinds = anomalies_pb2.AnomalyInfo.Type
    assert {kinds.Name(reason.type) for reason in found.anomaly_info[examples.LABEL].reason} == {
        "INT_TYPE_SMALL_INT",
        "INT_TYPE_BIG_INT",
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
        "INVALID_FEATURE_SHAPE",
    }
    missing = found.anomaly_info[examples.HEIGHT].reason[0]
    assert kinds.Name(missing.type) == "SCHEMA_MISSING_COLUMN"


def test_a_damaged_schema_is_named(tmp_path):
    broken = builders.artifact(tmp_path)
    with pytest.raises(DataError, match=r"schema.pbtxt: missing"):
        protos.read_schema(broken)
    (tmp_path / "schema.pbtxt").write_text("feature {")
    with pytest.raises(DataError, match=r"schema.pbtxt: not a schema"):
        protos.read_schema(broken)
    with pytest.raises(DataError, match="has no list of values"):
        protos.classes(schema_pb2.Schema(), examples.TEXT)
