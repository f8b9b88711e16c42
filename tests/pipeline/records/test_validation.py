"""Each anomaly on statistics that have it, and on their neighbours that do not."""

import functools
import json

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipeline.beam import accumulators, measures
from pipeline.components import schema_gen
from pipeline.records import anomalies, examples, protos
from pipeline.records.anomalies import ERROR, WARNING, Anomaly, Drift
from pipeline.records.examples import ImageExample
from pipeline.records.validation import Check
from tests.pipeline import builders

TYPES = anomalies_pb2.AnomalyInfo


@functools.cache
def picture(level, spread, seed):
    """A PNG of 8 x 8 pixels around one level of grey."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(level, spread, (8, 8, 3)), 0, 255).astype(np.uint8)
    return builders.encode(pixels)


def dataset(texts, level=100, known=None, **changes):
    """The statistics of one picture for each of `texts`; their brightness varies a little."""
    found = [
        ImageExample(
            **{
                "encoded": picture(level + index % 16, 10, index % 16),
                "format": "png",
                "height": 8,
                "width": 8,
                "label": "abcdef".index(text),
                "text": text,
                "filename": f"{index}.png",
                **changes,
            }
        )
        for index, text in enumerate(texts)
    ]
    summarized = accumulators.summarize(map(examples.serialize, found))
    return summarized.to_proto("train", known or {}).datasets[0]


@functools.cache
def schema_of(texts):
    return schema_gen.infer(dataset(texts))


def schema(texts="ab"):
    """The schema that such statistics suggest, to be changed."""
    made = schema_pb2.Schema()
    made.CopyFrom(schema_of(texts))
    return made


def feature(made, name):
    return next(entry for entry in made.feature if entry.name == name)


def check(found, made=None, split="train", **options):
    return Check(split, found, made or schema(), **options).run()[0]


def names(found):
    return sorted((anomaly.name, anomaly.kind, anomaly.severity) for anomaly in found)


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_what_the_schema_was_inferred_from_has_no_anomalies(split):
    assert check(dataset("ab" * 8), split=split) == []


def test_a_class_that_the_schema_does_not_list():
    found = check(dataset("abc"))
    label = ("train:out_of_range:image/class/label", "INT_TYPE_BIG_INT", ERROR)
    assert names(found) == [
        label,
        ("train:unknown_class", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", ERROR),
    ]
    (unknown,) = (anomaly for anomaly in found if anomaly.code == "unknown_class")
    assert unknown.feature == examples.TEXT
    assert unknown.description == "image/class/text: found c; expected a, b"


@pytest.mark.parametrize(
    ("split", "severity"), [("train", ERROR), ("eval", WARNING), ("test", WARNING)]
)
def test_a_class_that_is_not_there(split, severity):
    found = check(dataset("aa"), split=split)
    assert names(found) == [(f"{split}:missing_class", "CUSTOM_VALIDATION", severity)]
    assert "no example of b; the schema lists 2 classes" in found[0].description


def test_many_classes_are_not_all_listed():
    made = schema()
    feature(made, examples.TEXT).string_domain.value.extend(f"c{n}" for n in range(100))
    assert check(dataset("ab"), made)[0].description.endswith(
        "no example of c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 90 more; the schema lists 102 "
        "classes"
    )


def test_classes_of_very_different_sizes():
    unequal = dataset("a" * 12 + "b" * 3)
    assert check(unequal, max_imbalance=4) == []
    found = check(unequal, max_imbalance=3.9)
    assert names(found) == [("train:imbalance", "CUSTOM_VALIDATION", ERROR)]
    assert "12 examples of 'a' but 3 of 'b', 4 times as many" in found[0].description
    assert check(unequal, split="eval", max_imbalance=3.9) == []


def test_images_of_the_source_that_cannot_be_decoded():
    def known(share):
        return {"known": {protos.SUPPORTED_FRACTION: share}}

    found = check(dataset("ab", **known(0.94)))
    assert names(found) == [("train:unsupported_images", "LOW_SUPPORTED_IMAGE_FRACTION", ERROR)]
    assert found[0].description.endswith(
        "94.0% of the images can be decoded; expected at least 95.0%, which is image_domain."
        "minimum_supported_image_fraction in the schema; example_gen.max_bad_fraction is another "
        "limit"
    )
    assert check(dataset("ab", **known(0.95))) == []
    # They are in no split; it is said once.
    assert check(dataset("ab", **known(0.94)), split="eval") == []


def test_images_of_the_records_that_cannot_be_decoded():
    found = check(dataset("ab", encoded=b"no picture"), split="eval")
    assert names(found) == [("eval:unsupported_images", "LOW_SUPPORTED_IMAGE_FRACTION", ERROR)]
    # What is derived from them is then not there, and not asked for.


def test_images_of_too_many_bytes():
    made = schema()
    size = len(picture(100, 10, 0))
    feature(made, examples.IMAGE).image_domain.max_image_byte_size = size
    one = dataset("ab", encoded=picture(100, 10, 0))
    assert check(one, made) == []
    feature(made, examples.IMAGE).image_domain.max_image_byte_size = size - 1
    assert names(check(one, made)) == [
        ("train:too_many_bytes", "MAX_IMAGE_BYTE_SIZE_EXCEEDED", ERROR)
    ]


@pytest.mark.parametrize(
    ("exact", "near", "expected"),
    [
        (0, 0, []),
        (2, 0, [("test:leakage", "CUSTOM_VALIDATION", ERROR)]),
        (1, 0, [("test:leakage", "CUSTOM_VALIDATION", WARNING)]),
        (0, 90, [("test:near_leakage", "CUSTOM_VALIDATION", WARNING)]),
    ],
)
def test_pictures_of_the_training_split_in_another(exact, near, expected):
    known = {protos.LEAKED_EXACT: exact, protos.LEAKED_NEAR: near}
    found = check(dataset("ab" * 50, known=known), split="test", max_leakage=0.01)
    assert names(found) == expected
    if exact == 2:
        assert found[0].description == (
            "the training split has the same picture for 2 of 100 images (2.00%); expected at most "
            "1.00%"
        )


def test_too_few_and_too_many_examples():
    made = schema()
    made.dataset_constraints.min_examples_count = 3
    made.dataset_constraints.max_examples_count = 4
    assert names(check(dataset("ab"), made)) == [
        ("train:too_few_examples", "DATASET_LOW_NUM_EXAMPLES", ERROR)
    ]
    assert check(dataset("aba"), made) == check(dataset("abab"), made) == []
    assert names(check(dataset("ababa"), made)) == [
        ("train:too_many_examples", "DATASET_HIGH_NUM_EXAMPLES", ERROR)
    ]


def test_an_empty_split_is_an_anomaly_only_where_examples_are_expected():
    found = check(None, split="eval")
    assert names(found) == [("eval:too_few_examples", "DATASET_LOW_NUM_EXAMPLES", ERROR)]
    assert found[0].description == "0 examples; expected at least 1"
    assert check(None, schema_pb2.Schema(), split="eval") == found
    assert check(None, split="eval", expected=False) == []
    # One that has examples has to have enough.
    made = schema()
    made.dataset_constraints.min_examples_count = 3
    assert check(dataset("ab"), made, split="eval", expected=False)


def test_a_split_that_the_previous_span_had_may_not_be_empty():
    before = dataset("abb")
    lenient = schema()
    lenient.dataset_constraints.min_examples_count = 0
    for made in (schema(), lenient):
        found = check(None, made, split="eval", expected=False, previous=before)
        assert names(found) == [("eval:too_few_examples", "DATASET_LOW_NUM_EXAMPLES", ERROR)]
        assert found[0].description == ("0 examples; expected at least 1; the previous span had 3")
    nothing = statistics_pb2.DatasetFeatureStatistics()
    assert check(None, split="eval", expected=False, previous=nothing) == []


def of_classes(found):
    return names(anomaly for anomaly in found if anomaly.code.endswith("_class"))


@pytest.mark.parametrize(
    ("split", "severity"), [("train", ERROR), ("eval", WARNING), ("test", WARNING)]
)
def test_a_class_that_the_previous_span_had_and_the_schema_does_not_know(split, severity):
    found = check(dataset("ab"), split=split, previous=dataset("abc"))
    assert of_classes(found) == [(f"{split}:missing_class", "CUSTOM_VALIDATION", severity)]
    (missing,) = (anomaly for anomaly in found if anomaly.code == "missing_class")
    assert missing.description == (
        "image/class/text: no example of c; the previous span had 3 classes"
    )
    assert missing.feature == examples.TEXT


def test_a_class_that_the_schema_says_is_missing_is_not_said_to_have_vanished():
    found = check(dataset("ab"), schema("abc"), previous=dataset("abcd"))
    said = [anomaly.description for anomaly in found if anomaly.code == "missing_class"]
    assert ["no example of c; the schema" in said[0], "no example of d; the prev" in said[1]] == [
        True,
        True,
    ]
    assert len(said) == 2


def test_a_class_that_the_previous_span_did_not_have():
    new = ("train:new_class", "CUSTOM_VALIDATION", WARNING)
    now, before = dataset("abc"), dataset("ab")
    found = check(now, schema("abc"), previous=before)
    assert of_classes(found) == [new]
    (anomaly,) = (anomaly for anomaly in found if anomaly.code == "new_class")
    assert anomaly.description == "image/class/text: found c, of which the previous span had none"
    # What the schema does not know is reported by it, and what was elsewhere is not new.
    unknown = ("train:unknown_class", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", ERROR)
    assert of_classes(check(now, previous=before)) == [unknown]
    assert of_classes(check(now, schema("abc"), previous=before, known="abc")) == []


def test_classes_are_compared_where_the_schema_has_no_list_of_them():
    without = schema()
    feature(without, examples.TEXT).ClearField("string_domain")
    aside = schema()
    feature(aside, examples.TEXT).lifecycle_stage = schema_pb2.PLANNED
    for made in (without, aside, schema_pb2.Schema()):
        found = check(dataset("ac"), made, previous=dataset("ab"))
        assert [name for name, *_ in of_classes(found)] == [
            "train:missing_class",
            "train:new_class",
        ]
        assert of_classes(check(dataset("ac"), made)) == []


def numbers(name, least, greatest, present=10, values=(1, 1)):
    found = statistics_pb2.DatasetFeatureStatistics(num_examples=10)
    entry = found.features.add(type=statistics_pb2.FeatureNameStatistics.INT)
    entry.path.step.append(name)
    common = entry.num_stats.common_stats
    common.num_non_missing = present
    common.min_num_values, common.max_num_values = values
    entry.num_stats.min, entry.num_stats.max = least, greatest
    return found


def of_feature(found, name):
    return {(anomaly.code, anomaly.kind) for anomaly in found if anomaly.feature == name}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"least": -1}, {("out_of_range", "INT_TYPE_SMALL_INT")}),
        ({"greatest": 2}, {("out_of_range", "INT_TYPE_BIG_INT")}),
        ({"present": 9}, {("low_presence", "FEATURE_TYPE_LOW_FRACTION_PRESENT")}),
        ({"values": (1, 2)}, {("wrong_number_of_values", "FEATURE_TYPE_HIGH_NUMBER_VALUES")}),
        ({"values": (0, 1)}, {("wrong_number_of_values", "FEATURE_TYPE_LOW_NUMBER_VALUES")}),
    ],
)
def test_a_number_and_its_presence(options, expected):
    found = check(numbers(examples.LABEL, **{"least": 0, "greatest": 1, **options}))
    assert of_feature(found, examples.LABEL) == expected


def test_a_feature_that_has_to_be_in_some_examples_only():
    made = schema()
    label = feature(made, examples.LABEL)
    label.presence.min_fraction, label.presence.min_count = 0, 5
    assert not of_feature(check(numbers(examples.LABEL, 0, 1, 5), made), examples.LABEL)
    assert of_feature(check(numbers(examples.LABEL, 0, 1, 4), made), examples.LABEL) == {
        ("low_presence", "FEATURE_TYPE_LOW_NUMBER_PRESENT")
    }


def test_a_feature_that_is_missing_or_of_another_type():
    found = check(numbers(examples.TEXT, 0, 1))
    assert of_feature(found, examples.TEXT) == {("wrong_type", "UNEXPECTED_DATA_TYPE")}
    assert of_feature(found, examples.HEIGHT) == {("missing_feature", "SCHEMA_MISSING_COLUMN")}
    assert f"train:missing_feature:{examples.HEIGHT}" in {anomaly.name for anomaly in found}
    # What is derived from images is not asked for.
    assert not of_feature(found, measures.BRIGHTNESS)


@pytest.mark.parametrize("stage", ["PLANNED", "ALPHA", "DEPRECATED", "DEBUG_ONLY", "DISABLED"])
def test_features_that_a_person_has_put_aside_are_not_looked_at(stage):
    made = schema()
    feature(made, examples.TEXT).lifecycle_stage = schema_pb2.LifecycleStage.Value(stage)
    feature(made, examples.LABEL).deprecated = True
    assert check(dataset("abc"), made) == []


def test_a_format_that_the_schema_does_not_list():
    found = check(dataset("ab", format="bmp"))
    assert names(found) == [
        (
            "train:unexpected_values:image/format",
            "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
            ERROR,
        )
    ]


def test_a_measure_out_of_the_range_that_a_person_has_set():
    made = schema()
    feature(made, measures.BRIGHTNESS).float_domain.min = 150
    feature(made, measures.CONTRAST).float_domain.max = 1
    found = check(dataset("ab" * 8), made)
    assert names(found) == [
        ("train:out_of_range:image/brightness", "FLOAT_TYPE_SMALL_FLOAT", ERROR),
        ("train:out_of_range:image/contrast", "FLOAT_TYPE_BIG_FLOAT", ERROR),
    ]


def moved(now, before, made=None):
    found, drifts = Check("train", now, made or schema(), before).run()
    return found, {(drift.feature, drift.measure): drift for drift in drifts}


def test_without_a_previous_span_nothing_drifts():
    assert moved(dataset("ab" * 40), None) == ([], {})


def test_the_same_data_have_not_drifted_but_are_measured():
    found, drifts = moved(dataset("ab" * 40), dataset("ab" * 40))
    assert found == []
    assert set(drifts) == {
        (examples.TEXT, "L_INFTY"),
        (examples.FORMAT, "L_INFTY"),
        *(
            (name, "JENSEN_SHANNON_DIVERGENCE")
            for name in (
                examples.HEIGHT,
                examples.WIDTH,
                measures.ASPECT_RATIO,
                measures.BYTES,
                measures.BRIGHTNESS,
                measures.CONTRAST,
                measures.SHARPNESS,
            )
        ),
    }
    assert all(drift.value == 0 for drift in drifts.values())


def test_shares_of_classes_that_moved_and_such_that_moved_a_little():
    found, drifts = moved(dataset("ab" * 400), dataset("aaab" * 200))
    assert names(found) == [("train:drift:image/class/text", "COMPARATOR_L_INFTY_HIGH", ERROR)]
    assert "the share of 'b' differs by 0.250; expected at most 0.100" in found[0].description
    assert drifts[examples.TEXT, "L_INFTY"].value == pytest.approx(0.25)
    assert drifts[examples.TEXT, "L_INFTY"].limit == pytest.approx(0.1)
    found, _ = moved(dataset("ab" * 400), dataset("aab" * 200 + "ab" * 100))  # 0.5 and 0.625
    assert [anomaly.name for anomaly in found] == ["train:drift:image/class/text"]
    found, _ = moved(dataset("ab" * 400), dataset("aab" * 100 + "ab" * 250))  # 0.5 and 0.5625
    assert found == []


def test_brighter_pictures_have_drifted_and_hardly_brighter_ones_have_not():
    found, drifts = moved(dataset("ab" * 200, level=160), dataset("ab" * 200))
    name = "train:drift:image/brightness"
    assert (name, "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH", ERROR) in names(found)
    assert drifts[measures.BRIGHTNESS, "JENSEN_SHANNON_DIVERGENCE"].value == 1
    found, drifts = moved(dataset("ab" * 200, level=101), dataset("ab" * 200))
    assert name not in {anomaly.name for anomaly in found}
    assert 0 < drifts[measures.BRIGHTNESS, "JENSEN_SHANNON_DIVERGENCE"].value < 0.1


def test_what_chance_does_to_few_images_is_no_drift():
    now, before = dataset("aaabb"), dataset("aabbb")
    found, drifts = moved(now, before)
    assert drifts[examples.TEXT, "L_INFTY"].value == pytest.approx(0.2)
    assert drifts[examples.TEXT, "L_INFTY"].limit == 1
    # But nobody can tell.
    assert names(found) == [("train:drift_unsure", "CUSTOM_VALIDATION", WARNING)]
    assert found[0].description == (
        "moved since the previous span further than the schema allows, but no further than chance "
        "takes 5 and 5 examples: image/class/text 0.200 (schema 0.100, chance 1.000)"
    )


def test_all_that_may_be_chance_is_one_warning_and_what_is_not_is_drift():
    # 30 and 60 examples: chance may take the share of a class by 0.37 or so.
    found, drifts = moved(dataset("ab" * 15, level=116), dataset("aaabbb" * 5 + "aaaaab" * 5))
    sure = {anomaly.feature for anomaly in found if anomaly.code == "drift"}
    (unsure,) = (anomaly for anomaly in found if anomaly.code == "drift_unsure")
    assert measures.BRIGHTNESS in sure
    assert examples.TEXT not in sure
    for (name, _), drift in drifts.items():
        beyond = drift.value > drift.threshold
        assert (name in sure) == (drift.value > drift.limit)
        assert (f"{name} {drift.value:.3f} (" in unsure.description) == (
            beyond and name not in sure
        )
    (far,) = (anomaly for anomaly in found if anomaly.feature == measures.BRIGHTNESS)
    limit = drifts[measures.BRIGHTNESS, "JENSEN_SHANNON_DIVERGENCE"].limit
    assert limit > 0.1
    assert far.description.endswith(
        f"expected at most {limit:.3f}, as chance may take it; the schema says 0.100"
    )


def test_the_thresholds_are_those_of_the_schema():
    made = schema()
    now, before = dataset("ab" * 400), dataset("aaab" * 200)
    feature(made, examples.TEXT).drift_comparator.infinity_norm.threshold = 0.26
    assert moved(now, before, made)[0] == []
    feature(made, examples.TEXT).ClearField("drift_comparator")
    found, drifts = moved(now, before, made)
    assert found == []
    assert (examples.TEXT, "L_INFTY") not in drifts


_SEVERE = Anomaly("train", "missing_class", "CUSTOM_VALIDATION", "s", "no cat", examples.TEXT)
_MILD = Anomaly(
    "eval", "drift", "COMPARATOR_L_INFTY_HIGH", "s", "moved", examples.FORMAT, True, WARNING
)


@pytest.mark.parametrize(
    ("waivers", "waived", "unused"),
    [
        ((), False, ()),
        (("missing_class",), True, ()),
        (("train:missing_class",), True, ()),
        (("eval:missing_class", "imbalance"), False, ("eval:missing_class", "imbalance")),
        (
            ("train:missing_class:image/class/text",),
            False,
            ("train:missing_class:image/class/text",),
        ),
        # That a warning needs no waiver does not make the waiver a mistake.
        (("drift", "missing_class"), True, ()),
        (("eval:drift:image/format",), False, ()),
    ],
)
def test_waivers_match_codes_and_names(waivers, waived, unused):
    decided, left = anomalies.waive([_SEVERE, _MILD], waivers)
    assert left == unused
    assert decided[0].waived == waived
    assert decided[0].severity == (WARNING if waived else ERROR)
    assert decided[1] == _MILD


def test_the_proto_holds_all_reasons_and_survives_as_bytes():
    made = schema()
    few = Anomaly("train", "too_few_examples", "DATASET_LOW_NUM_EXAMPLES", "few", "1 example")
    more = Anomaly(
        "train",
        "unknown_class",
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "u",
        "a dog",
        examples.TEXT,
        severity=WARNING,
        waived=True,
    )
    drifts = [Drift(examples.FORMAT, "L_INFTY", 0.3, 0.05, 0.1)]
    message = anomalies.to_proto([few, _SEVERE, more, _MILD], drifts, made, empty=False)
    message = anomalies_pb2.Anomalies.FromString(message.SerializeToString())
    assert message.baseline == made
    assert not message.data_missing
    assert message.dataset_anomaly_info.severity == TYPES.ERROR
    assert [reason.type for reason in message.dataset_anomaly_info.reason] == [
        TYPES.DATASET_LOW_NUM_EXAMPLES
    ]
    text = message.anomaly_info[examples.TEXT]
    assert text.severity == TYPES.ERROR
    assert text.description == "no cat; a dog"
    assert text.short_description == "several anomalies"
    assert list(text.path.step) == [examples.TEXT]
    assert [reason.type for reason in text.reason] == [
        TYPES.CUSTOM_VALIDATION,
        TYPES.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
    ]
    assert message.anomaly_info[examples.FORMAT].severity == TYPES.WARNING
    (info,) = message.drift_skew_info
    (measurement,) = info.drift_measurements
    assert (measurement.value, measurement.threshold) == (0.3, 0.1)
    assert measurement.type == anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY
    assert anomalies.to_proto([], [], made, empty=True).data_missing


def test_the_entry_of_an_anomaly_is_plain_json():
    assert json.loads(json.dumps(_MILD.entry())) == {
        "name": "eval:drift:image/format",
        "split": "eval",
        "code": "drift",
        "feature": "image/format",
        "severity": "WARNING",
        "description": "moved",
        "waived": False,
    }
