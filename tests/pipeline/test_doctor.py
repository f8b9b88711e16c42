"""What the doctor says of machines and installations, good and broken."""

import importlib
import io
import json
import os
import re
from importlib import metadata

import pytest
import tensorflow as tf
from rich.console import Console

from keras_resnet import weights
from pipeline import cli, config, doctor, machine
from pipeline.training import precision


@pytest.fixture
def examine(tmp_path, monkeypatch):
    """Examines the default configuration with its directories in a temporary one."""
    # A network of few layers is built, and nothing is measured.
    monkeypatch.setattr(precision, "_fastest", lambda: precision.Precision("float32", "faked"))

    def examine_(**values):
        places = {"root": tmp_path / "runs", "pusher.destination": tmp_path / "models"}
        return doctor.examine(config.load(values={**places, **values}))

    return examine_


def one(problems, text):
    """The one problem that mentions `text`."""
    (found,) = [problem for problem in problems if text in problem.found]
    return found


def test_what_is_well_is_called_well(examine, monkeypatch):
    monkeypatch.setattr(machine, "gpus", list)
    monkeypatch.setattr(machine, "gpu_files", list)
    report = examine()
    assert report.works
    assert not [problem for problem in report.problems if problem.fatal]
    assert report.found["versions"]["tensorflow"] == tf.__version__
    assert report.found["machine"]["cores"] <= os.cpu_count()
    assert report.found["tensorflow"]["cpus"] == 1
    assert report.choices["strategy"].value == "MirroredStrategy, 1 × CPU"
    assert report.choices["xla"] == doctor.Choice("off", "no GPU")
    assert report.choices["determinism"].value == "on"
    assert set(report.choices) == {"strategy", "xla", "precision", "determinism", "workers"}
    assert json.loads(json.dumps(report.json()))["works"] is True
    printed = io.StringIO()
    doctor.show(Console(file=printed, width=100), report)
    text = printed.getvalue()
    for expected in (
        "what Trainer would choose",
        "no GPU",
        tf.__version__,
        "A run would work here",
    ):
        assert expected in text


def test_choices_are_those_of_the_trainer(examine):
    report = examine(
        **{"trainer.precision": "auto", "trainer.xla": True, "trainer.deterministic": False}
    )
    assert report.choices["precision"] == doctor.Choice("float32", "faked")
    assert report.choices["xla"] == doctor.Choice("on", "as configured")
    assert report.choices["determinism"] == doctor.Choice("off", "as configured")


def test_what_the_training_begins_with(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    values = {"trainer.model": "resnet18", "trainer.model_arguments": {}}
    values["trainer.image_size"] = (32, 32)
    values |= {"trainer.init_from": "imagenet", "trainer.freeze_stages": 2}
    begins = examine(**values).choices["begins with"]
    record = weights.default_record("resnet18")
    assert begins.value == f"{record.name}, the stem and stages 1 to 2 frozen"
    assert begins.reason == f"Trainer downloads them to {weights.cache_path(record)}"
    weights.cache_path(record).parent.mkdir(parents=True)
    weights.cache_path(record).touch()
    begins = examine(**values).choices["begins with"]
    assert begins.reason == f"in the cache, {tmp_path}/models/{record.file}"


@pytest.mark.parametrize(
    ("build", "variables", "installed", "expected"),
    [
        ({"is_cuda_build": False}, {}, (), "built without CUDA"),
        ({"is_cuda_build": True}, {}, (), r"CUDA's libraries are not there \(nvidia-cuda-runtime"),
        ({"is_cuda_build": True}, {}, doctor._CUDA, "although it was built with CUDA"),
        ({"is_cuda_build": True}, {"CUDA_VISIBLE_DEVICES": ""}, (), "CUDA_VISIBLE_DEVICES is ''"),
        ({"is_cuda_build": True}, {"CUDA_VISIBLE_DEVICES": "-1"}, (), "DEVICES is '-1'"),
    ],
)
def test_a_gpu_that_tensorflow_does_not_see_is_a_warning(
    examine, monkeypatch, build, variables, installed, expected
):
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("H100", 81559, 0, "570.1")])
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
    known = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: "12.0" if name in installed else known(name)
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    report = examine()
    found = one(report.problems, "there is an NVIDIA GPU, but TensorFlow does not see it")
    assert re.search(expected, found.found)
    assert found.advice
    # No index of packages has this one.
    assert "keras-resnet-pipeline[" not in found.advice
    assert report.works  # on the processor


def test_versions_out_of_range_and_what_is_missing_are_fatal(examine, monkeypatch):
    real = metadata.version

    def version(name):
        if name == "absent":
            raise metadata.PackageNotFoundError(name)
        return {"protobuf": "7.1.0"}.get(name) or real(name)

    declared = [
        "protobuf<7,>=6.31.1; extra == 'pipeline'",
        "absent>=1; extra == 'pipeline'",
        "other>=1; extra == 'gpu'",
        "numpy>=2",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: declared)
    monkeypatch.setattr(metadata, "version", version)
    report = examine()
    assert not report.works
    protobuf = one(report.problems, "protobuf")
    assert "7.1.0 is installed, <7,>=6.31.1 is required" in protobuf.found
    assert protobuf.advice == "pip install 'protobuf<7,>=6.31.1'"
    assert "it is not installed" in one(report.problems, "absent").found
    assert len(report.problems) == 2
    # TensorFlow is not even tried.
    assert "tensorflow" not in report.found
    assert report.choices == {}


def test_what_the_distribution_declares_is_what_is_checked():
    names = {requirement.name for requirement in doctor.requirements()}
    assert {"keras", "tensorflow", "protobuf", "apache-beam"} <= names
    assert not {"pytest", "jax"} & names


def test_the_other_project_of_that_name_is_fatal(examine, monkeypatch):
    known = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: "0.2.0" if name == "keras-resnet" else known(name)
    )
    report = examine()
    assert not report.works
    assert "pip uninstall keras-resnet" in one(report.problems, "keras-resnet 0.2.0").advice


@pytest.mark.parametrize("name", ["root", "pusher.destination"])
def test_directories_that_cannot_be_written_to_are_fatal(examine, tmp_path, name):
    (tmp_path / "file").write_text("")
    report = examine(**{name: tmp_path / "file" / "below"})
    assert not report.works
    assert "is a file, not a directory" in one(report.problems, name).found


def test_what_would_be_ignored_or_short_is_a_warning(examine, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_CONFIG", "{}")
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(1 << 34, 1 << 29, 1 << 30))
    monkeypatch.setattr(machine, "free_disk", lambda directory: 1 << 20)
    report = examine()
    for text in ("KERAS_BACKEND is 'jax'", "TF_CONFIG", "within the limit of the container"):
        assert not one(report.problems, text).fatal
    assert "0.0 GiB are free" in one(report.problems, "root /").found
    assert report.found["environment"]["KERAS_BACKEND"] == "jax"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"  # what the pipeline goes on with
    assert report.works


def test_a_processor_and_a_tensorflow_that_cannot_work_are_fatal(examine, monkeypatch):
    real = importlib.import_module

    def broken(name, *rest):
        if name == "tensorflow":
            raise TypeError("Descriptors cannot be created directly")
        return real(name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(importlib, "import_module", broken)
        report = examine()
    assert "TypeError: Descriptors" in one(report.problems, "cannot be imported").found
    assert not report.works
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "processor", lambda: ("Old", frozenset(("sse",))))
    report = examine()
    assert not report.works
    assert one(report.problems, "has no AVX").fatal


def test_a_cluster_that_does_not_answer_is_fatal(examine):
    options = {"flink_master": "localhost:9", "environment_type": "LOOPBACK"}
    report = examine(beam={"runner": "FlinkRunner", "options": options})
    assert report.found["beam"] == {"runner": "FlinkRunner"} | options
    assert one(report.problems, "flink_master localhost:9: no Flink cluster answers").fatal


def test_a_configuration_that_cannot_train_is_fatal(examine):
    report = examine(**{"trainer.model": "resnet5O"})
    assert not report.works
    assert "resnet5O" in one(report.problems, "trainer.model").found


def test_a_batch_that_replicas_cannot_share_is_fatal(examine, monkeypatch):
    monkeypatch.setattr(machine, "gpus", list)
    monkeypatch.setattr(machine, "gpu_files", list)
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: ["a", "b"] if kind == "CPU" else []
    )
    assert not examine(**{"trainer.batch_size": 33}).works
    report = examine(**{"trainer.batch_size": 33, "trainer.strategy": "one_device"})
    assert report.works
    report = examine(**{"trainer.batch_size": 34})
    assert report.choices["strategy"].value == "MirroredStrategy, 2 × CPU"
    assert report.works


def test_the_command_says_by_its_code_whether_a_run_would_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert not cli.app(["doctor", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["works"] is True
    (tmp_path / "runs").write_text("in the way")
    assert cli.app(["doctor"], standalone_mode=False) == 1
    printed = capsys.readouterr().out
    assert "error: root" in printed
    assert "A run would not work here." in printed
