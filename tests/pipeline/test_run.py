"""The whole pipeline as a person starts it, on a run that takes seconds."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import yaml

import pipeline
from pipeline import config
from pipeline.components import evaluator
from pipeline.errors import PipelineError
from pipeline.orchestration.store import Store
from pipeline.records import manifest
from pipeline.serving import versions
from pipeline.serving.predictor import Predictor
from tests.pipeline import builders
from tests.pipeline.test_cli import call, environment

_COMPONENTS = [
    "ExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Trainer",
    "Evaluator",
    "InfraValidator",
    "Pusher",
]


def _write_config(folder, **changes):
    values = {**builders.TINY_RUN, **changes}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the tiny run was run once, and what that printed."""
    folder = tmp_path_factory.mktemp("run")
    _write_config(folder)
    done = call("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def run_seconds(finished):
    """How long the components of the tiny run took."""
    (first, *_) = Store(finished[0] / "runs" / "tiny").runs()
    return sum(step.seconds for step in first.steps)


def _only(folder, component, output):
    (found,) = (folder / "runs" / "tiny" / component / output).iterdir()
    return found


@pytest.mark.slow
def test_a_run_leaves_what_tf_serving_wants_and_says_where(finished):
    folder, done = finished
    version = folder / "saved_models" / "tiny" / "1"
    assert (version / "saved_model.pb").is_file()
    assert (version / "variables" / "variables.index").is_file()
    assert "The model is in saved_models/tiny/1" in done.stdout
    for name in _COMPONENTS:
        assert re.search(rf"^{name} +\d+(\.\d)? s  ", done.stdout, re.MULTILINE), name
    assert done.stderr == ""  # TensorFlow's start-up noise is silenced
    for command in ("tensorboard --logdir", "-m pipeline predict", "docker run"):
        assert command in done.stdout


@pytest.mark.slow
def test_artifacts_lie_where_tfx_puts_them(finished):
    folder, _ = finished
    for path in (
        "ExampleGen/examples/1/Split-train/data_tfrecord-00000-of-00001",
        "ExampleGen/examples/1/manifest.json",
        "StatisticsGen/statistics/2/Split-eval/FeatureStats.pb",
        "SchemaGen/schema/3/schema.pbtxt",
        "ExampleValidator/anomalies/4/Split-test/SchemaDiff.pb",
        "Trainer/model/5/Format-Serving/saved_model.pb",
        "Trainer/model/5/Format-Keras/model.keras",
        "Trainer/model_run/5/tensorboard/train",
        # Of two that run at once, either begins first.
        f"Evaluator/evaluation/{_only(folder, 'Evaluator', 'evaluation').name}/metrics.json",
        f"Evaluator/blessing/{_only(folder, 'Evaluator', 'evaluation').name}/BLESSED",
        f"InfraValidator/blessing/{_only(folder, 'InfraValidator', 'blessing').name}/INFRA_BLESSED",
        "Pusher/pushed_model/8/pushed.json",
    ):
        assert (folder / "runs" / "tiny" / path).exists(), path
    assert not list((folder / "runs" / "tiny" / ".system" / "staging").iterdir())


@pytest.mark.slow
def test_the_printed_accuracy_is_that_of_the_pushed_model_on_the_held_out_split(finished):
    folder, done = finished
    root = _only(folder, "ExampleGen", "examples")
    contents = manifest.load(root)
    held_out = manifest.examples_of(root, contents, "test")
    predictor = Predictor(folder / "saved_models" / "tiny")
    answers = predictor([example.encoded for example in held_out])
    hits = [answer[0] == e.text for answer, e in zip(answers.classes, held_out, strict=True)]
    assert f"test accuracy {np.mean(hits):.2%} on {len(held_out):,} images" in done.stdout

    lines = (_only(folder, "Evaluator", "evaluation") / "predictions.jsonl").read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["predicted"] == row["class"] for row in rows] == hits


@pytest.mark.slow
def test_tensorboard_reads_the_logs(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    logs = _only(folder, "Trainer", "model_run") / "tensorboard"
    for split, names in (
        ("train", {"loss", "accuracy", "learning_rate", "images_per_second", "input_wait"}),
        ("eval", {"loss", "accuracy"}),
    ):
        events = EventAccumulator(str(logs / split))
        events.Reload()
        assert names <= set(events.Tags()["tensors"])


@pytest.mark.slow
def test_a_second_run_uses_everything_again_and_pushes_nothing(finished):
    folder, _ = finished
    done = call("run", "tiny.yaml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall("^      (?:[A-Za-z]+ )?unchanged: ", done.stdout, re.MULTILINE)) == 7
    assert "saved_models/tiny/1 holds this model already" in done.stdout
    assert versions.versions(folder / "saved_models" / "tiny") == [1]


@pytest.mark.slow
def test_an_edit_runs_just_what_imports_the_module_and_a_touch_nothing(finished, tmp_path):
    """In a copy of the code: modules far below a component, and the dates of all files."""
    for name in ("pipeline", "keras_resnet"):
        shutil.copytree(name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    def would_run():
        done = subprocess.run(
            [*builders.PYTHON, "run", "tiny.yaml", "--dry-run"],
            cwd=finished[0],
            env={**environment(), "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return {line.split()[0] for line in done.stdout.splitlines() if "  would run  " in line}

    assert would_run() == {"Pusher"}  # it looks each time
    for path in tmp_path.rglob("*.py"):
        os.utime(path, (1, 1))
    assert would_run() == {"Pusher"}
    for module, expected in (
        ("keras_resnet/layers/stem.py", {"Trainer", "InfraValidator"}),
        ("pipeline/records/drift.py", {"ExampleValidator"}),
        ("pipeline/commands/models.py", set()),
    ):
        source = (tmp_path / module).read_text()
        (tmp_path / module).write_text(source + "# another line\n")
        assert would_run() == expected | {"Pusher"}, module
        (tmp_path / module).write_text(source)


@pytest.mark.slow
def test_a_model_that_was_deleted_is_pushed_again_from_the_store(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    shutil.rmtree(folder / "saved_models")
    done = call("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 0
    assert len(re.findall("^      (?:[A-Za-z]+ )?unchanged: ", done.stdout, re.MULTILINE)) == 7
    assert versions.versions(folder / "saved_models" / "tiny") == [1]


@pytest.mark.slow
def test_predict_names_every_file_and_what_cannot_be_read(finished, tmp_path):
    folder, _ = finished
    root = _only(folder, "ExampleGen", "examples")
    example = manifest.examples_of(root, manifest.load(root), "test")[0]
    (tmp_path / "digit.png").write_bytes(example.encoded)
    (tmp_path / "photo.jpg").write_bytes(builders.encode(builders.noise(0, 90, 60), "JPEG"))
    # A name that begins like a line of TensorFlow's log.
    (tmp_path / "I2024 page.jpg").write_text("<html>")
    model = str(folder / "saved_models" / "tiny")
    files = ["digit.png", "I2024 page.jpg", "photo.jpg"]

    done = call("predict", *files, "--model", model, "--top", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "I2024 page.jpg: not an image that can be decoded (not_an_image)\n"
    lines = done.stdout.splitlines()
    (answer,) = Predictor(folder / "saved_models" / "tiny")([example.encoded]).classes
    assert re.fullmatch(rf"digit\.png +{answer[0]} [\d.]+%  {answer[1]} [\d.]+%", lines[0])
    assert lines[1].startswith("photo.jpg ")

    done = call("predict", "digit.png", "--model", model, "--top", "9", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --top 9: the model names the 5 most probable classes\n"


@pytest.mark.slow
def test_a_model_below_the_threshold_is_not_pushed(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    _write_config(folder, evaluator={"thresholds": {"accuracy": 1.0}})
    done = call("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 1
    assert re.match(
        r"error: Evaluator: not blessed: accuracy is 0\.\d+, expected at least 1; "
        r"not run for it: Pusher\n$",
        done.stderr,
    )
    assert versions.versions(folder / "saved_models" / "tiny") == [1]


@pytest.mark.slow
def test_without_thresholds_there_is_no_blessing_and_it_is_said(finished, tmp_path):
    folder, _ = finished
    outputs = {key: builders.artifact(tmp_path / key) for key in ("evaluation", "blessing")}
    inputs = {
        "examples": builders.artifact(_only(folder, "ExampleGen", "examples")),
        "model": builders.artifact(_only(folder, "Trainer", "model")),
    }
    outcome = evaluator.run(inputs, outputs, evaluator.Parameters(), builders.CONTEXT)
    assert "no thresholds are configured" in outcome.refusal
    assert outputs["blessing"].properties["blessed"] == 0
    assert [path.name for path in outputs["blessing"].uri.iterdir()] == ["NOT_BLESSED"]


@pytest.mark.slow
def test_shards_that_were_damaged_after_ingest_are_not_trained_on(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    shard = next((_only(folder, "ExampleGen", "examples") / "Split-train").iterdir())
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)  # of the same size: only the checksum can tell
    _write_config(folder, trainer={**builders.TINY_RUN["trainer"], "seed": 1})
    done = call("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 1
    assert re.match(r"error: Trainer: .*data_tfrecord-00000-of-00001: .* damaged", done.stderr)


@pytest.mark.slow
def test_a_model_that_was_damaged_in_the_store_is_not_pushed(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    shutil.rmtree(folder / "saved_models")
    graph = _only(folder, "Trainer", "model") / "Format-Serving" / "saved_model.pb"
    content = bytearray(graph.read_bytes())
    content[1000] ^= 1
    graph.write_bytes(content)
    done = call("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 1
    assert "Pusher: " in done.stderr
    assert "its files are not those that Trainer wrote" in done.stderr
    assert not (folder / "saved_models").exists()


@pytest.mark.slow
def test_a_folder_of_photos_runs_from_python(real_images, tmp_path):
    """Six classes of real JPEG photos, by the same call that runs the default."""
    values = {
        **builders.TINY_RUN,
        "name": "photos",
        "root": str(tmp_path / "runs"),
        "example_gen": {
            "source": str(real_images / "photos"),
            "splits": {"train": 0.2, "eval": 0.1, "test": 0.7},
        },
        "evaluator": {"thresholds": {"accuracy": 0.01}},
        "pusher": {"destination": str(tmp_path / "saved_models")},
    }
    result = pipeline.run(values)
    assert result.metrics["examples"] > 200
    assert (result.pushed / "saved_model.pb").is_file()
    classes = json.loads(
        (result.components["Trainer"].outputs["model"].uri / "classes.json").read_text()
    )
    assert classes == ["cardboard", "glass", "metal", "paper", "plastic", "trash"]


def test_a_run_from_python_reports_errors_as_exceptions(tmp_path):
    with pytest.raises(PipelineError, match=r"unknown key 'trainer.epoch'"):
        pipeline.run("digits", overrides=["trainer.epoch=1"])
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        pipeline.runn  # noqa: B018
    assert config.load().name == "digits"


@pytest.mark.soak
def test_a_run_stopped_at_any_time_leaves_nothing_half_written(
    finished, run_seconds, tmp_path, round_
):
    """Stops a run at a random moment, by Ctrl-C and by kill -9 in turn; the next one finishes it
    from what was complete."""
    number = (signal.SIGINT, signal.SIGKILL)[round_ % 2]
    _write_config(tmp_path)
    process = subprocess.Popen(
        [*builders.PYTHON, "run", "tiny.yaml"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(random.Random(round_).uniform(0.5, run_seconds))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT and process.returncode != 0:
        assert process.returncode == 130
        assert errors.strip().splitlines()[-1].startswith("stopped; ")
        assert "Traceback" not in errors
        staging = tmp_path / "runs" / "tiny" / ".system" / "staging"
        assert not staging.exists() or not list(staging.iterdir())
    models = tmp_path / "saved_models" / "tiny"
    for version in versions.versions(models):
        assert Predictor(models / str(version))([builders.encode(builders.noise(0))]).classes

    executions = Store(tmp_path / "runs" / "tiny")
    complete = {name for name in _COMPONENTS if next(executions.completed(name), None)}
    done = call("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert versions.versions(models) == [1]
    last = executions.runs(last=1)[0]
    assert complete - {"Pusher"} <= {step.component for step in last.steps if step.cached}
    # What an interrupted run finished has the same bytes as what another one made.
    assert manifest.load(_newest(tmp_path)) == manifest.load(_newest(finished[0]))


def _newest(folder):
    found = (folder / "runs" / "tiny" / "ExampleGen" / "examples").iterdir()
    return max(found, key=lambda path: int(path.name))
