"""StatisticsGen, SchemaGen and ExampleValidator, each on what the one before wrote."""

import json
import shutil
import types
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipeline import config, files
from pipeline.beam import measures
from pipeline.components import example_gen, example_validator, schema_gen, statistics_gen
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration import graph, runner
from pipeline.orchestration.view import Silent
from pipeline.records import examples, manifest, protos, tfrecord
from tests.pipeline import builders

SPLITS = ("train", "eval", "test")
REAL_FEATURES = {
    examples.IMAGE,
    examples.FILENAME,
    examples.KEY,
    examples.FORMAT,
    examples.HEIGHT,
    examples.WIDTH,
    examples.LABEL,
    examples.TEXT,
}
DERIVED_FEATURES = {
    measures.ASPECT_RATIO,
    measures.BYTES,
    measures.BRIGHTNESS,
    measures.CONTRAST,
    measures.SHARPNESS,
}


def measure(ingested, folder):
    written = builders.artifact(folder)
    outcome = statistics_gen.run(
        {"examples": ingested},
        {"statistics": written},
        statistics_gen.Parameters(),
        builders.CONTEXT,
    )
    return written, outcome


def infer(statistics, folder, file=None, say=print):
    written = builders.artifact(folder)
    outcome = schema_gen.run(
        {"statistics": statistics},
        {"schema": written},
        schema_gen.Parameters(file=file),
        replace(builders.CONTEXT, say=say),
    )
    return written, outcome


def validate(statistics, schema, folder, previous=None, **parameters):
    """Returns the outcome, the anomalies of each split, those listed as JSON, and what was said."""
    written, said = builders.artifact(folder), []
    earlier = {"previous_statistics": previous} if previous else {}
    outcome = example_validator.run(
        {"statistics": statistics, "schema": schema, **earlier},
        {"anomalies": written},
        example_validator.Parameters(**parameters),
        replace(builders.CONTEXT, say=said.append),
    )
    found = {
        split: protos.read_binary(
            written.uri / f"Split-{split}" / "SchemaDiff.pb", anomalies_pb2.Anomalies
        )
        for split in SPLITS
    }
    listed = json.loads((written.uri / "anomalies.json").read_text())
    return outcome, found, listed, said, json.loads(written.properties["blessed"])


def edited(schema, folder, edit):
    """Returns a copy of a schema that `edit` has changed."""
    found = protos.read_schema(schema)
    edit({feature.name: feature for feature in found.feature}, found)
    other = builders.artifact(folder)
    (other.uri / "schema.pbtxt").write_text(text_format.MessageToString(found))
    return other


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    source = builders.image_folder(folder / "images", images=40)
    written, _ = builders.examples(folder / "examples", source)
    return written


@pytest.fixture(scope="module")
def statistics(ingested, tmp_path_factory):
    return measure(ingested, tmp_path_factory.mktemp("statistics"))[0]


@pytest.fixture(scope="module")
def schema(statistics, tmp_path_factory):
    return infer(statistics, tmp_path_factory.mktemp("schema"))[0]


def test_statistics_count_what_was_ingested(ingested, statistics):
    contents = manifest.load(ingested.uri)
    found = protos.read_statistics(statistics)
    assert {name: dataset.num_examples for name, dataset in found.items()} == {
        name: split.examples for name, split in contents.splits.items()
    }
    features = protos.features(found["train"])
    assert set(features) == REAL_FEATURES | DERIVED_FEATURES
    assert features[examples.HEIGHT].num_stats.mean == 12
    labels = {v.value: v.frequency for v in features[examples.TEXT].string_stats.top_values}
    assert labels == contents.splits["train"].class_counts
    assert {key: statistics.properties[key] for key in ("span", "split_names")} == {
        key: ingested.properties[key] for key in ("span", "split_names")
    }


def test_the_moments_of_channels_are_those_of_all_pixels_of_the_training_split(
    ingested, statistics
):
    contents = manifest.load(ingested.uri)
    pixels = np.concatenate(
        [
            np.asarray(builders.Image.open(builders.io.BytesIO(example.encoded))).reshape(-1, 3)
            for example in manifest.examples_of(ingested.uri, contents, "train")
        ]
    ).astype(np.int64)
    means, deviations = protos.channel_moments(statistics)
    assert means == tuple(pixels.sum(axis=0) / len(pixels))
    np.testing.assert_allclose(deviations, pixels.std(axis=0), rtol=1e-12)


def custom(statistics, split):
    image = protos.features(protos.read_statistics(statistics)[split])[examples.IMAGE]
    return {name: statistic.num for name, statistic in protos.custom(image).items()}


def test_what_example_gen_found_out_is_part_of_the_statistics(ingested, tmp_path):
    root = shutil.copytree(ingested.uri, tmp_path / "examples")
    account = {"seen": 100, "written": 80, "quarantined": 20, "duplicates": 0}
    (root / "account.json").write_text(json.dumps({"all": account}))
    lines = [{"reason": "damaged"}] * 14 + [{"reason": "conflicting_labels"}] * 6
    (root / "quarantine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    leakage = {"eval": {"exact": 2, "near": 3}, "test": {"exact": 0, "near": 1}}
    (root / "leakage.json").write_text(json.dumps(leakage))
    artifact = builders.artifact(root, **ingested.properties)
    found, _ = measure(artifact, tmp_path / "out")
    # Pictures with two labels can be decoded.
    assert custom(found, "train")[protos.SUPPORTED_FRACTION] == pytest.approx(0.86)
    assert protos.LEAKED_EXACT not in custom(found, "train")
    for split, counts in leakage.items():
        assert custom(found, split)[protos.LEAKED_EXACT] == counts["exact"]
        assert custom(found, split)[protos.LEAKED_NEAR] == counts["near"]

    (root / "leakage.json").write_text("{")
    with pytest.raises(DataError, match=r"leakage.json: not JSON; run ExampleGen again"):
        measure(artifact, tmp_path / "again")


def test_records_that_nothing_else_is_known_of_have_statistics_as_well(ingested, tmp_path):
    root = shutil.copytree(ingested.uri, tmp_path / "examples")
    for path in (*root.glob("*.json"), *root.glob("*.jsonl")):
        if path.name != manifest.FILE_NAME:
            path.unlink()
    found, _ = measure(builders.artifact(root, **ingested.properties), tmp_path / "out")
    assert {protos.SUPPORTED_FRACTION, protos.LEAKED_EXACT}.isdisjoint(custom(found, "test"))


def test_statistics_of_records_that_were_cut_are_refused(ingested, tmp_path):
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


def test_the_schema_says_what_it_can_of_every_feature(schema):
    found = protos.read_schema(schema)
    assert text_format.Parse(text_format.MessageToString(found), schema_pb2.Schema()) == found
    assert protos.classes(found, examples.TEXT) == ("cat", "dog")
    assert found.dataset_constraints.min_examples_count == 1
    features = {feature.name: feature for feature in found.feature}
    assert set(features) == REAL_FEATURES | DERIVED_FEATURES
    for name in REAL_FEATURES:
        assert features[name].presence.min_fraction == 1
        assert features[name].value_count.min == features[name].value_count.max == 1
    for name in DERIVED_FEATURES:
        assert features[name].type == schema_pb2.FLOAT
        assert not features[name].HasField("presence")
        assert features[name].lifecycle_stage == schema_pb2.VALIDATION_DERIVED
        assert features[name].HasField("validation_derived_source")
    for name in (examples.LABEL, examples.TEXT):
        assert list(features[name].not_in_environment) == ["SERVING"]
    image = features[examples.IMAGE].image_domain
    assert image.minimum_supported_image_fraction == pytest.approx(0.95)
    comparators = {
        feature.name: comparator.name
        for feature in found.feature
        for comparator, _ in feature.drift_comparator.ListFields()
    }
    assert comparators == {
        examples.TEXT: "infinity_norm",
        examples.FORMAT: "infinity_norm",
        **dict.fromkeys(
            (examples.HEIGHT, examples.WIDTH, *DERIVED_FEATURES), "jensen_shannon_divergence"
        ),
    }


def test_a_feature_that_only_some_examples_have_is_not_asked_of_all():
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=10)
    group = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    group.path.step.append(examples.GROUP)
    group.string_stats.common_stats.num_non_missing = 4
    group.string_stats.common_stats.num_missing = 6
    (feature,) = schema_gen.infer(dataset).feature
    assert (feature.presence.min_fraction, feature.presence.min_count) == (0, 1)


def test_a_schema_that_is_not_there_yet_is_written_for_the_person_to_keep(statistics, tmp_path):
    file, said = tmp_path / "below" / "mine.pbtxt", []
    schema_gen.check(schema_gen.Parameters(file=file))
    first = schema_gen.external(schema_gen.Parameters(file=file))
    written, outcome = infer(statistics, tmp_path / "one", file, said.append)
    assert file.read_bytes() == (written.uri / "schema.pbtxt").read_bytes()
    assert f"written to {file}" in outcome.result
    assert [f"the schema is written to {file}" in line for line in said] == [True]
    # Whoever removes it has it written anew.
    assert schema_gen.external(schema_gen.Parameters(file=file)) != first
    file.unlink()
    assert schema_gen.external(schema_gen.Parameters(file=file)) != first


def test_a_schema_that_is_there_is_used_as_it_is(schema, statistics, tmp_path):
    text = (schema.uri / "schema.pbtxt").read_text() + "# by hand: ü\n"
    file = tmp_path / "mine.pbtxt"
    file.write_text(text.replace('"dog"', '"wolf"'))
    before = schema_gen.external(schema_gen.Parameters(file=file))
    written, outcome = infer(statistics, tmp_path / "one", file)
    assert (written.uri / "schema.pbtxt").read_bytes() == file.read_bytes()
    assert f"2 classes, from {file}" in outcome.result
    file.write_text(text)
    assert schema_gen.external(schema_gen.Parameters(file=file)) != before


def test_a_bad_file_is_one_line_before_anything_runs_and_stays_as_it_was(statistics, tmp_path):
    file = tmp_path / "mine.pbtxt"
    file.write_text('feature {\n  name: "a"\n  nmae: "b"\n}\n')
    for use in (
        lambda: schema_gen.check(schema_gen.Parameters(file=file)),
        lambda: infer(statistics, tmp_path / "one", file),
    ):
        with pytest.raises(DataError, match=r"mine.pbtxt:3: not a schema: .*nmae") as found:
            use()
        assert "\n" not in str(found.value)
    assert "nmae" in file.read_text()
    # An empty file is a schema that allows everything; that is not what anybody means.
    file.write_text("")
    with pytest.raises(DataError, match=r"mine.pbtxt: the feature 'image/class/text' has no"):
        schema_gen.check(schema_gen.Parameters(file=file))
    with pytest.raises(UsageError, match=r"schema_gen.file '.*mine.pbtxt': .* is a file"):
        schema_gen.check(schema_gen.Parameters(file=file / "below.pbtxt"))


def test_good_data_have_no_anomalies(statistics, schema, tmp_path):
    outcome, found, listed, said, blessed = validate(statistics, schema, tmp_path)
    assert (outcome.refusal, listed, said) == (None, [], [])
    assert outcome.result == "no anomalies in 3 splits"
    assert blessed == {"train": 1, "eval": 1, "test": 1}
    assert not any(anomalies.anomaly_info for anomalies in found.values())


def test_too_few_examples_stop_the_run(statistics, schema, tmp_path):
    def edit(features, schema):
        schema.dataset_constraints.min_examples_count = 30

    outcome, found, listed, _, blessed = validate(
        statistics, edited(schema, tmp_path / "schema", edit), tmp_path / "out"
    )
    assert "eval:too_few_examples: 7 examples; expected at least 30" in outcome.refusal
    assert outcome.refusal.endswith(
        "to run nevertheless: --waive eval:too_few_examples --waive test:too_few_examples"
    )
    assert outcome.result == "2 severe anomalies in 3 splits"
    assert blessed == {"train": 1, "eval": 0, "test": 0}
    assert [entry["name"] for entry in listed] == ["eval:too_few_examples", "test:too_few_examples"]
    reasons = found["eval"].dataset_anomaly_info.reason
    assert [reason.type for reason in reasons] == [
        anomalies_pb2.AnomalyInfo.DATASET_LOW_NUM_EXAMPLES
    ]


def without_dog(features, schema):
    features[examples.TEXT].string_domain.value.remove("dog")


def with_wolf(features, schema):
    features[examples.TEXT].string_domain.value.append("wolf")


def test_a_class_that_the_schema_does_not_know_stops_the_run(statistics, schema, tmp_path):
    other = edited(schema, tmp_path / "schema", without_dog)
    outcome, found, *_ = validate(statistics, other, tmp_path / "out")
    assert "train:unknown_class: image/class/text: found dog; expected cat" in outcome.refusal
    reason = found["train"].anomaly_info[examples.TEXT].reason[0]
    assert reason.type == anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES


def test_warnings_do_not_stop_the_run_and_are_said(statistics, schema, tmp_path):
    other = edited(schema, tmp_path / "schema", with_wolf)
    outcome, found, listed, said, blessed = validate(statistics, other, tmp_path / "out")
    assert outcome.result == "1 severe anomaly, 2 warnings in 3 splits"
    assert outcome.refusal.startswith("1 severe anomaly: train:missing_class: ")
    assert blessed == {"train": 0, "eval": 1, "test": 1}
    assert [line.split(": ")[:2] for line in said] == [
        ["warning", "eval:missing_class"],
        ["warning", "test:missing_class"],
    ]
    severities = {entry["name"]: entry["severity"] for entry in listed}
    assert severities == {
        "train:missing_class": "ERROR",
        "eval:missing_class": "WARNING",
        "test:missing_class": "WARNING",
    }
    assert found["eval"].anomaly_info[examples.TEXT].severity == anomalies_pb2.AnomalyInfo.WARNING


@pytest.mark.parametrize("waiver", ["missing_class", "train:missing_class"])
def test_what_is_waived_by_name_does_not_stop_the_run(statistics, schema, tmp_path, waiver):
    other = edited(schema, tmp_path / "schema", with_wolf)
    outcome, found, listed, said, blessed = validate(
        statistics, other, tmp_path / "out", waive=(waiver, "train:imbalance")
    )
    assert outcome.refusal is None
    assert outcome.result == "1 waived, 2 warnings in 3 splits"
    assert blessed == {"train": 1, "eval": 1, "test": 1}
    assert said[0].startswith("waived: train:missing_class: image/class/text: no example of wolf")
    assert said[-1] == "--waive train:imbalance: there is no such anomaly"
    assert [entry["waived"] for entry in listed] == [True, False, False]
    info = found["train"].anomaly_info[examples.TEXT]
    assert info.severity == anomalies_pb2.AnomalyInfo.WARNING


def test_of_many_anomalies_some_are_told_and_all_are_listed(statistics, schema, tmp_path):
    def edit(features, schema):
        for name in [*DERIVED_FEATURES][:4]:
            features[name].float_domain.min = 10**9

    outcome, _, listed, *_ = validate(
        statistics, edited(schema, tmp_path / "schema", edit), tmp_path / "out"
    )
    assert len(listed) == 12
    assert "; and 2 more (anomalies.json); to run nevertheless: --waive" in outcome.refusal
    assert outcome.refusal.count("--waive") == 1
    assert outcome.refusal.endswith("--waive out_of_range")


def test_the_greatest_imbalance_is_a_parameter(statistics, schema, tmp_path):
    uri = shutil.copytree(statistics.uri, tmp_path / "statistics")
    path = uri / "Split-train" / "FeatureStats.pb"
    message = protos.read_binary(path, statistics_pb2.DatasetFeatureStatisticsList)
    text = protos.features(message.datasets[0])[examples.TEXT]
    text.string_stats.rank_histogram.buckets[0].sample_count *= 10
    path.write_bytes(message.SerializeToString())
    unequal = builders.artifact(uri, **statistics.properties)
    outcome, *_ = validate(unequal, schema, tmp_path / "one", max_imbalance=9.5)
    assert "train:imbalance: 340 examples of 'cat' but 34 of 'dog', 10 times" in outcome.refusal
    outcome, *_ = validate(unequal, schema, tmp_path / "two")
    assert outcome.refusal is None


@pytest.mark.parametrize(
    ("official", "refused"), [([], True), (["train", "test"], False), (["train", "eval"], True)]
)
def test_an_empty_split_that_the_source_does_not_have_is_no_anomaly(
    statistics, schema, tmp_path, official, refused
):
    uri = shutil.copytree(statistics.uri, tmp_path / "statistics")
    shutil.rmtree(uri / "Split-eval")
    properties = statistics.properties | {"official_splits": json.dumps(official)}
    artifact = builders.artifact(uri, **properties)
    outcome, found, *_ = validate(artifact, schema, tmp_path / "out")
    assert bool(outcome.refusal) == refused
    if refused:
        assert "eval:too_few_examples: 0 examples; expected at least 1" in outcome.refusal
    assert found["eval"].data_missing


def test_a_split_that_the_previous_span_had_may_not_be_empty(statistics, schema, tmp_path):
    uri = shutil.copytree(statistics.uri, tmp_path / "statistics")
    shutil.rmtree(uri / "Split-eval")
    properties = statistics.properties | {"official_splits": json.dumps(["train", "test"])}
    artifact = builders.artifact(uri, **properties)
    outcome, *_ = validate(artifact, schema, tmp_path / "out", previous=statistics)
    assert (
        "eval:too_few_examples: 0 examples; expected at least 1; the previous span had 7"
        in outcome.refusal
    )


def of_folder(root, folder, **parameters):
    """Returns the statistics of a folder of images and the schema that they suggest."""
    ingested, _ = builders.examples(folder / "examples", root, near=None, **parameters)
    statistics, _ = measure(ingested, folder / "statistics")
    return statistics, infer(statistics, folder / "schema")[0]


def test_a_class_none_of_whose_images_can_be_used_is_missing(tmp_path):
    root = builders.image_folder(tmp_path / "images", images=40)
    (root / "owl").mkdir()
    (root / "owl" / "0.png").write_bytes(b"nothing")
    statistics, schema = of_folder(root, tmp_path)
    assert protos.class_names(statistics) == ("cat", "dog", "owl")
    assert protos.classes(protos.read_schema(schema), examples.TEXT) == ("cat", "dog", "owl")
    outcome, _, listed, *_ = validate(statistics, schema, tmp_path / "out")
    assert "train:missing_class: image/class/text: no example of owl" in outcome.refusal
    assert {entry["code"] for entry in listed} == {"missing_class"}


def test_a_class_that_is_in_no_split_but_eval_is_missing_and_not_unknown(tmp_path):
    root = tmp_path / "images"
    for split in SPLITS:
        classes = ("cat", "dog", "owl") if split == "eval" else ("cat", "dog")
        builders.image_folder(root / split, classes)
        for path in (root / split).rglob("*.png"):  # other pictures in each split
            with builders.Image.open(path) as image:
                pixels = np.roll(np.asarray(image), SPLITS.index(split), axis=0)
            path.write_bytes(builders.encode(pixels))
    statistics, schema = of_folder(root, tmp_path)
    outcome, _, listed, *_ = validate(statistics, schema, tmp_path / "out")
    assert outcome.refusal.startswith("1 severe anomaly: train:missing_class: ")
    assert [entry["name"] for entry in listed] == ["train:missing_class", "test:missing_class"]


@pytest.mark.parametrize("older", [False, True])
def test_a_class_that_vanished_or_came_is_told_where_each_span_has_a_schema_of_its_own(
    tmp_path, older
):
    before, now = (
        of_folder(builders.image_folder(tmp_path / text / "images", ("cat", text)), tmp_path / text)
        for text in ("dog", "owl")
    )
    if older:  # written before the classes were listed
        (before[0].uri / "classes.json").unlink()
    outcome, _, listed, *_ = validate(*now, tmp_path / "out", previous=before[0])
    assert "train:missing_class: image/class/text: no example of dog; the previous" in (
        outcome.refusal
    )
    severities = {entry["name"]: entry["severity"] for entry in listed}
    assert severities["train:missing_class"] == "ERROR"
    assert severities["train:new_class"] == "WARNING"
    assert not {entry["code"] for entry in listed} & {"unknown_class", "out_of_range"}


def test_what_reads_the_statistics_runs_again_when_only_the_classes_changed(
    ingested, statistics, tmp_path
):
    root = shutil.copytree(ingested.uri, tmp_path / "examples")
    contents = manifest.load(root)
    contents.model_copy(update={"classes": (*contents.classes, "owl")}).save(root)
    found, _ = measure(builders.artifact(root, **ingested.properties), tmp_path / "out")
    assert files.tree_digest(found.uri) != files.tree_digest(statistics.uri)
    (found.uri / "classes.json").write_text("[")
    with pytest.raises(DataError, match=r"classes.json: not JSON; run StatisticsGen again"):
        infer(found, tmp_path / "schema")


def test_leakage_stops_the_run(ingested, schema, tmp_path):
    root = shutil.copytree(ingested.uri, tmp_path / "examples")
    leakage = {"test": {"exact": 1, "near": 2}, "eval": {"exact": 0, "near": 0}}
    (root / "leakage.json").write_text(json.dumps(leakage))
    found, _ = measure(builders.artifact(root, **ingested.properties), tmp_path / "statistics")
    outcome, _, listed, said, _ = validate(found, schema, tmp_path / "one")
    assert "test:leakage: the training split has the same picture for 1 of " in outcome.refusal
    assert [entry["name"] for entry in listed] == ["test:leakage", "test:near_leakage"]
    outcome, _, _, said, _ = validate(found, schema, tmp_path / "two", max_leakage=0.5)
    assert outcome.refusal is None
    assert len(said) == 2


def test_two_spans_are_compared_by_the_runner(tmp_path):
    """Dark pictures follow bright ones; the same ones again have not drifted."""

    def write(span, scale):
        root = builders.image_folder(tmp_path / f"span-{span}", images=120)
        for path in root.rglob("*.png"):
            with builders.Image.open(path) as image:
                pixels = np.asarray(image)
            # Other pictures of the same kind in every span.
            pixels = np.roll(pixels, span, axis=0) // scale
            path.write_bytes(builders.encode(pixels))

    def run(span, **validator):
        def ingest(inputs, outputs, parameters, context):
            outcome = example_gen.run(inputs, outputs, parameters, context)
            outputs["examples"].properties["span"] = span
            return outcome

        source = example_gen.Parameters(source=str(tmp_path / f"span-{span}"), near=None)
        module = types.SimpleNamespace(**vars(example_gen) | {"run": ingest})
        chosen = config.validate({**builders.TINY_RUN, "example_validator": validator}, "test")
        wanted = ("StatisticsGen", "SchemaGen", "ExampleValidator")
        nodes = [node for node in graph.build(chosen) if node.name in wanted]
        nodes[1] = replace(nodes[1], parameters=schema_gen.Parameters(file=tmp_path / "schema"))
        nodes = [graph.Node("ExampleGen", module, source), *nodes]
        results = runner.execute(nodes, "tiny", tmp_path / "root", Silent())
        return results["ExampleValidator"]

    write(1, 1)
    assert run(1).outcome.result == "no anomalies in 3 splits"
    write(2, 1)
    second = run(2)
    assert second.outcome.result == "1 warning in 3 splits, compared with span 1"
    (unsure,) = json.loads((second.outputs["anomalies"].uri / "anomalies.json").read_text())
    # The training split is large enough to tell.
    assert unsure["name"] in ("eval:drift_unsure", "test:drift_unsure")
    assert run(2).cached
    write(3, 4)
    with pytest.raises(PipelineError, match="train:drift:image/brightness") as found:
        run(3)
    assert "image/class/text" not in str(found.value)
    result = run(3, waive=["drift"])
    assert "waived" in result.outcome.result
    proto = protos.read_binary(
        result.outputs["anomalies"].uri / "Split-train" / "SchemaDiff.pb", anomalies_pb2.Anomalies
    )
    kinds = {reason.type for info in proto.anomaly_info.values() for reason in info.reason}
    assert kinds == {anomalies_pb2.AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH}
    measured = {info.path.step[0]: info.drift_measurements[0] for info in proto.drift_skew_info}
    assert measured[measures.BRIGHTNESS].value > measured[measures.BRIGHTNESS].threshold
    assert measured[examples.TEXT].value < measured[examples.TEXT].threshold
