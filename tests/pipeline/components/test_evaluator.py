"""The Evaluator as it stands, on models that are made in a second."""

import csv
import json
import types
from collections import Counter

import numpy as np
import pytest
from sklearn import metrics as reference

from pipeline import files
from pipeline.components import evaluator
from pipeline.errors import DataError, Stopped, UsageError
from pipeline.orchestration import runner
from pipeline.orchestration.artifact import Context, Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from pipeline.parameters import parameters
from pipeline.records import manifest
from pipeline.serving import push
from pipeline.serving.predictor import Predictor
from tests.pipeline import builders
from tests.pipeline.evaluation import models
from tests.pipeline.training import data

BOUNDS = {"accuracy": 0.5}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples") / "1", train=3, test=120)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models: one that errs at times, one that errs more, one with other classes, a broken one."""
    root = tmp_path_factory.mktemp("models")
    return {
        "good": models.model(root / "good", middles=(66.0, 154.0)),
        "equal": models.model(root / "equal", middles=(66.0, 154.0), sharpness=0.021),
        "bad": models.model(root / "bad", middles=(64.0, 124.0)),
        "other": models.model(root / "other", middles=(66.0, 154.0, 999.0), classes="abcd"),
        "renamed": models.model(root / "renamed", classes=("dog", "cat", "emu")),
        "failing": models.model(root / "failing", bad=185.0),
        "broken": models.model(root / "broken", sharpness=float("nan")),
    }


def outputs_in(root):
    return {key: builders.artifact(root / key, kind) for key, kind in evaluator.OUTPUTS.items()}


def evaluate(root, examples, model, context=builders.CONTEXT, **given):
    chosen = evaluator.Parameters(**{"thresholds": BOUNDS, "resamples": 200, **given})
    outputs = outputs_in(root)
    outcome = evaluator.run({"examples": examples, "model": model}, outputs, chosen, context)
    (blessing,) = outputs["blessing"].uri.iterdir()
    return outcome, outputs["evaluation"], json.loads(blessing.read_text()), blessing.name


def read(evaluation, name):
    return json.loads((evaluation.uri / name).read_text())


def lines(evaluation):
    return [json.loads(line) for line in (evaluation.uri / "predictions.jsonl").open()]


@pytest.fixture(scope="module")
def evaluated(examples, made, tmp_path_factory):
    return evaluate(
        tmp_path_factory.mktemp("evaluated"),
        examples,
        made["good"],
        slices={"image/brightness": 3, "image/filename": 1},
        mistakes=3,
    )


def test_the_figures_are_those_of_the_signature_on_every_image(evaluated, examples, made):
    outcome, evaluation, blessing, name = evaluated
    held_out = manifest.examples_of(examples.uri, manifest.load(examples.uri), "test")
    answers = Predictor(made["good"].uri / "Format-Serving")([e.encoded for e in held_out])
    labels = [e.label for e in held_out]
    predicted = answers.probabilities.argmax(axis=1)

    found = read(evaluation, "metrics.json")
    assert found["examples"] == 120
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(
        reference.log_loss(labels, answers.probabilities), rel=1e-5
    )
    assert found["confusion"] == reference.confusion_matrix(labels, predicted).tolist()
    assert found["per_class"]["cat"]["recall"] == pytest.approx(
        reference.recall_score(labels, predicted, average=None)[0]
    )
    for metric in ("accuracy", "log_loss", "macro_f1", "calibration_error"):
        low, high = found["intervals"][metric]
        assert low <= found[metric] <= high
    assert low < high
    assert evaluation.properties["accuracy"] == found["accuracy"]
    assert f"test accuracy {found['accuracy']:.2%} on 120 images" in outcome.result

    rows = lines(evaluation)
    assert [row["key"] for row in rows] == [e.key for e in held_out]
    assert [row["predicted"] for row in rows] == [data.CLASSES[label] for label in predicted]
    np.testing.assert_allclose([row["score"] for row in rows], answers.probabilities.max(axis=1))
    assert (blessing["blessed"], blessing["reasons"], name) == (True, [], "BLESSED")
    assert blessing["comparison"]["result"] is None
    assert outcome.refusal is None


def test_slices_and_tables_add_up_to_the_whole(evaluated):
    _, evaluation, _, _ = evaluated
    found = read(evaluation, "metrics.json")
    by_feature = Counter()
    for part in read(evaluation, "slices.json"):
        by_feature[part["feature"]] += part["examples"]
    assert by_feature == {"image/brightness": 120, "image/filename": 120}
    parts = [p for p in read(evaluation, "slices.json") if p["feature"] == "image/brightness"]
    right = sum(p["examples"] * p["metrics"]["accuracy"]["value"] for p in parts)
    assert right == pytest.approx(120 * found["accuracy"])
    for name, column in (("confusion.csv", "examples"), ("per_class.csv", "examples")):
        with (evaluation.uri / name).open() as table:
            assert sum(int(row[column]) for row in csv.DictReader(table)) == 120
    for bins in read(evaluation, "calibration.json").values():
        assert sum(one["examples"] for one in bins) == 120
    assert read(evaluation, "eval_config.json")["thresholds"]["accuracy"] == 0.5


def test_the_worst_mistakes_are_kept_as_the_bytes_that_they_are(evaluated, examples):
    _, evaluation, _, _ = evaluated
    wrong = [row for row in lines(evaluation) if row["predicted"] != row["class"]]
    worst = sorted(wrong, key=lambda row: (-row["score"], row["key"]))[:3]
    kept = {files.sha256_file(path) for path in (evaluation.uri / "mistakes").iterdir()}
    assert kept == {row["key"] for row in worst}
    assert len(list(evaluation.uri.glob("mistakes/*-not-cat_0.*.png"))) == 3


def test_nothing_half_finished_is_left(evaluated):
    _, evaluation, _, _ = evaluated
    assert sorted(path.name for path in evaluation.uri.iterdir()) == [
        "calibration.json",
        "comparison.json",
        "confusion.csv",
        "eval_config.json",
        "evaluation.html",
        "metrics.json",
        "mistakes",
        "per_class.csv",
        "predictions.jsonl",
        "slices.json",
    ]


def test_without_thresholds_there_is_no_blessing_and_it_is_said(examples, made, tmp_path):
    outcome, _, blessing, name = evaluate(tmp_path, examples, made["good"], thresholds={})
    assert "no thresholds are configured" in outcome.refusal
    assert (blessing["blessed"], name) == (False, "NOT_BLESSED")


def test_every_missed_threshold_is_a_reason(examples, made, tmp_path):
    outcome, _, blessing, _ = evaluate(
        tmp_path,
        examples,
        made["bad"],
        thresholds={
            "accuracy": 0.9,
            "log_loss": 0.01,
            "top_5_accuracy": 1.0,
            "classes": {"emu": {"recall": 0.9}, "*": {"recall": 0.7}},
            "slices": {"image/brightness": {"accuracy": 0.65}},
        },
    )
    missed = [(c["metric"], *c["of"].split()[:2]) for c in blessing["checks"] if not c["passed"]]
    assert missed[:4] == [
        ("accuracy",),
        ("log_loss",),
        ("recall", "class", "'cat'"),
        ("recall", "class", "'dog'"),
    ]
    assert missed[4:] and {of[:2] for of in missed[4:]} == {("accuracy", "image/brightness")}
    assert len(blessing["checks"]) == 3 + 3 + 4
    assert outcome.refusal.startswith("not blessed: accuracy is 0.")
    assert "expected at most 0.01" in outcome.refusal


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"classes": {"cow": {"recall": 0.5}}}, "thresholds.classes: 'cow' is none"),
        ({"slices": {"image/wide": {"accuracy": 0.5}}}, "thresholds.slices: 'image/wide' is none"),
    ],
)
def test_a_threshold_of_what_there_is_not_is_wrong_use(
    examples, made, tmp_path, thresholds, message
):
    with pytest.raises(UsageError, match=message):
        evaluate(tmp_path, examples, made["good"], thresholds=thresholds)


def test_a_feature_that_no_record_has_is_an_error_that_names_those_there_are(
    examples, made, tmp_path
):
    with pytest.raises(DataError, match=r"no record has the feature 'image/hight'.*image/height"):
        evaluate(tmp_path, examples, made["good"], slices={"image/hight": 2})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"no answer to 120 of 120 images: \d+.png: a probability is not a finite.*more"),
        ("failing", r"no answer to 1?\d of 120 images: \d+.png: too_bright"),
        ("other", "it knows 4 classes, and the examples 3"),
        ("renamed", "it calls 'dog' what is 'cat' in the examples"),
    ],
)
def test_a_model_that_cannot_answer_is_an_error_that_names_images(
    examples, made, tmp_path, name, message
):
    with pytest.raises(DataError, match=message):
        evaluate(tmp_path, examples, made[name])


def test_an_empty_split_is_an_error(made, tmp_path):
    empty = data.write(tmp_path / "examples", train=3, test=0)
    with pytest.raises(DataError, match="the split 'test' is empty"):
        evaluate(tmp_path / "out", empty, made["good"])


def test_what_is_worse_than_the_model_in_production_is_refused(examples, made, tmp_path):
    outcome, evaluation, blessing, _ = evaluate(
        tmp_path / "out",
        examples,
        made["bad"],
        baseline=str(made["good"].uri / "Format-Serving"),
    )
    result = blessing["comparison"]["result"]
    rows = lines(evaluation)
    ours = [row["predicted"] == row["class"] for row in rows]
    theirs = [row["baseline"]["predicted"] == row["class"] for row in rows]
    assert result["candidate"] == pytest.approx(np.mean(ours))
    assert result["baseline"] == pytest.approx(np.mean(theirs))
    assert result["wins"] == sum(a and not b for a, b in zip(ours, theirs, strict=True))
    assert result["losses"] == sum(b and not a for a, b in zip(ours, theirs, strict=True))
    assert not blessing["blessed"]
    assert "not blessed: accuracy is worse: " in outcome.refusal
    assert (evaluation.uri / "evaluation.html").read_text().count("in production") >= 2


def test_a_set_that_is_too_small_to_show_anything_says_how_many_images_it_takes(
    examples, made, tmp_path
):
    outcome, _, blessing, _ = evaluate(
        tmp_path / "out",
        examples,
        made["equal"],
        baseline=str(made["good"].uri / "Format-Serving"),
        comparison={"margin": 0.01},
    )
    result = blessing["comparison"]["result"]
    assert (result["wins"], result["losses"], result["passed"]) == (0, 0, False)
    assert result["needed"] > 120
    assert "the test set is too small" in outcome.refusal
    assert f"80% take about {result['needed']:,}" in outcome.refusal


def test_a_model_with_other_classes_cannot_be_compared_and_that_is_a_reason(
    examples, made, tmp_path
):
    other = str(made["other"].uri / "Format-Serving")
    outcome, _, blessing, _ = evaluate(tmp_path / "a", examples, made["good"], baseline=other)
    assert "it knows 4 classes, and the examples 3" in outcome.refusal
    assert "evaluator.comparison=null" in outcome.refusal
    assert blessing["comparison"]["result"] is None
    outcome, _, blessing, _ = evaluate(
        tmp_path / "b", examples, made["good"], baseline=other, comparison=None
    )
    assert outcome.refusal is None and blessing["comparison"]["baseline"] is None


def test_another_model_in_production_than_the_cache_was_asked_for_stops_the_work(
    examples, made, tmp_path
):
    with pytest.raises(Stopped, match="another model was pushed meanwhile"):
        evaluate(
            tmp_path,
            examples,
            made["good"],
            Context("tiny", outside={"baseline": "what stood there"}),
            baseline=str(made["bad"].uri / "Format-Serving"),
        )


@parameters
class Nothing:
    """Of the stubs."""

    which: str = ""


def stub(output, choose):
    """Returns a component that hands out an artifact that is there already."""

    def run(inputs, outputs, given, context):
        import shutil

        shutil.copytree(choose(given.which), outputs[output].uri, dirs_exist_ok=True)
        return Outcome("made")

    return types.SimpleNamespace(
        __name__="pipeline.errors", OUTPUTS={output: "Any"}, run=run, Parameters=Nothing
    )


def test_what_was_pushed_never_becomes_its_own_baseline_and_what_changes_there_is_looked_at(
    examples, made, tmp_path
):
    base = tmp_path / "saved_models" / "tiny"
    asked = {"thresholds": BOUNDS, "resamples": 0, "comparison": {"margin": 0.3}}

    def run(which):
        nodes = [
            Node("ExampleGen", stub("examples", lambda _: examples.uri), Nothing()),
            Node("Trainer", stub("model", lambda name: made[name].uri), Nothing(which=which)),
            Node(
                "Evaluator",
                evaluator,
                evaluator.Parameters(**asked, baseline=base),
                {"examples": ("ExampleGen", "examples"), "model": ("Trainer", "model")},
            ),
        ]
        result = runner.execute(nodes, "tiny", tmp_path / "root", Silent())["Evaluator"]
        (blessing,) = result.outputs["blessing"].uri.iterdir()
        against = json.loads(blessing.read_text())["comparison"]["baseline"]
        return result.cached, against and against.rpartition("/")[2]

    def pushed(which):
        return push.push(made[which].uri / "Format-Serving", base).number

    assert run("good") == (False, None)
    assert pushed("good") == 1
    assert run("good") == (True, None)
    assert run("equal") == (False, "1")
    assert pushed("equal") == 2
    assert run("equal") == (True, "1")  # pushed, it keeps being compared with the one before
    assert pushed("bad") == 3  # somebody else's
    assert run("equal") == (False, "3")
    assert push.rollback(base, 1)[0].number == 4
    assert run("equal") == (True, "1")  # what is served is again what it was compared with


def test_a_damaged_model_in_production_is_a_reason_and_no_end(examples, made, tmp_path):
    damaged = tmp_path / "saved_models/tiny/1"
    damaged.mkdir(parents=True)
    (damaged / "saved_model.pb").write_bytes(b"garbage")
    _, _, blessing, name = evaluate(
        tmp_path / "run", examples, made["good"], baseline=damaged.parent, resamples=0
    )
    assert name == "NOT_BLESSED"
    (reason,) = blessing["reasons"]
    assert "cannot be compared with" in reason and "cannot be loaded" in reason


@pytest.mark.slow
def test_no_result_depends_on_the_number_of_workers_or_who_comes_first(examples, made, tmp_path):
    digests = []
    for workers in (1, 2):
        _, evaluation, blessing, _ = evaluate(
            tmp_path / str(workers),
            examples,
            made["good"],
            Context("tiny", workers=workers),
            baseline=str(made["bad"].uri / "Format-Serving"),
            batch_size=7,
        )
        digests.append((files.tree_digest(evaluation.uri), blessing))
    assert digests[0] == digests[1]
