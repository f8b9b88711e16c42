import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from tests.pipeline.builders import PYTHON


def environment():
    """Returns the environment of a person who has set nothing for TensorFlow."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return {**own, "PYTHONPATH": str(Path.cwd())}


def call(*arguments, cwd):
    return subprocess.run(
        [*PYTHON, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["predict", "--help"], []])
def test_help_loads_nothing_heavy(arguments):
    program = (
        "import sys; from pipeline import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'tensorflow', 'keras', 'apache_beam', 'numpy', 'rich.live'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert "Usage: python -m pipeline" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--dta", "x"], "unknown option --dta; did you mean --data?"),
        (["run", "--epochs", "3"], "unknown option --epochs; expected one of --data, "),
        (["--nope"], "unknown option --nope; expected one of --debug"),
        (
            ["rum"],
            "no such command 'rum'; expected one of run, launch, data-report, tensorboard, predict",
        ),
        (["run", "nope"], "configuration 'nope': neither a YAML file nor"),
        (
            ["run", "--set", "trainer.epoch=3"],
            "unknown key 'trainer.epoch'; did you mean 'epochs'?",
        ),
        (["run", "--set", "trainer.epochs=x"], "trainer.epochs: input should be a valid integer"),
        (["run", "--data", "missing"], "data 'missing': no such folder"),
        (["run", "--data", "."], "data '.': found no images; expected ./CLASS/IMAGE"),
        (["run", "--set", "trainer.model=resnet51"], "trainer.model 'resnet51': `name` must be"),
        (["run", "--root", "here.txt"], "root 'here.txt/digits': "),
        (["run", "--destination", "/proc/x"], "destination '/proc/x': no permission to write"),
        (["run", "--data", "a\\b"], "data 'a\\\\b': no such folder"),
        (["run", "--data", "x/{SPAN}", "--span", "3"], "data 'x/{SPAN}'"),
        (["run", "--until", "Exporter"], "--to Exporter: expected one of ExampleGen, "),
        (["run", "--from", "Exporter"], "--from Exporter: expected one of ExampleGen, "),
        (["run", "--from", "Pusher", "--to", "Trainer"], "Trainer does not depend on Pusher"),
        (["run", "--only", "Pusher", "--to", "Trainer"], "--only Pusher: not together with"),
        (["run", "--only", "Trainer"], "--only Trainer: needs what is not in the store: "),
        (["run", "--set", "retries.Pshuer=1"], "retries.Pshuer: there is no such component"),
        (["run", "--workers", "0"], "workers: input should be greater than or equal to 1"),
        (["run", "--drop-near", "40"], "example_gen.drop_near: input should be less than"),
        (["data-report", "nothing"], "nothing"),
        (["tensorboard", "nothing"], "run 'runs/nothing': no such directory"),
        (["launch", "--workers", "0"], "'--workers'"),
        (["predict"], "missing argument 'IMAGE...'"),
        (["predict", "missing.png"], "image 'missing.png': no such file"),
        (["predict", "here.txt", "--model", "no"], "model 'no': no such directory"),
        (["predict", "here.txt", "--top", "0"], "--top 0: expected at least 1"),
        (["run", "--root", "gs://b/runs"], "gs://b/runs: is no path of this machine"),
        (["run", "--set", "schema_gen.file=s3://b/x"], "s3://b/x: is no path of this machine"),
        (["infer", ".", "--output", "s3://b/o"], "s3://b/o: is no path of this machine"),
        (["infer", ".", "--output", "o", "--model", "gs://b/m"], "gs://b/m: is no path of"),
        (["predict", "gs://b/x.png"], "gs://b/x.png: is no path of this machine"),
        (["predict", "here.txt", "--model", "gs://b/m"], "gs://b/m: is no path of this machine"),
        (["run", "--runner", "DaskRunner"], "beam.runner: beam: runner 'DaskRunner': it drops"),
        (["run", "--runner", "FlinkRunner", "--beam-option", "environment_type=X"], "Python wor"),
        (["run", "--beam-option", "parallelism=2"], "FnApiRunner takes none, found parallelism"),
        (
            ["infer", ".", "--output", "o", "--runner", "Flink"],
            "--runner, --beam-option: runner 'F",
        ),
        (["worker-pool", "--port", "70000"], "'--port'"),
    ],
)
def test_wrong_use_is_one_clear_line_and_leaves_nothing(
    tmp_path, monkeypatch, capfd, arguments, message
):
    (tmp_path / "here.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["__main__.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    _is_one_clear_line(ended.value.code, *capfd.readouterr(), message, tmp_path)


# What is loaded for them talks when it is: nothing, what images take, what networks take.
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--dta", "x"], "unknown option --dta; did you mean --data?"),
        (["run", "--data", "."], "data '.': found no images; expected ./CLASS/IMAGE"),
        (["run", "--set", "trainer.model=resnet51"], "trainer.model 'resnet51': `name` must be"),
        (["predict", "here.txt", "--model", "no"], "model 'no': no such directory"),
    ],
)
def test_no_library_adds_a_line_of_its_own(tmp_path, arguments, message):
    (tmp_path / "here.txt").write_text("no image")
    done = call(*arguments, cwd=tmp_path)
    _is_one_clear_line(done.returncode, done.stdout, done.stderr, message, tmp_path)


def _is_one_clear_line(code, output, errors, message, folder):
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["here.txt"]


def test_debug_shows_the_traceback(tmp_path):
    done = call("run", "nope", "--debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "pipeline.errors.UsageError: configuration 'nope'" in done.stderr


def test_a_name_of_weights_says_the_network_and_a_file_does_not(tmp_path, monkeypatch):
    from pipeline.commands import options

    monkeypatch.chdir(tmp_path)
    assert options._network_of("timm/wide_resnet50_2.tv2_in1k") == "wide_resnet50_2"
    assert options._network_of("imagenet") is None
    assert options._network_of("folder/resnet18.safetensors") is None
    assert options._network_of("timm/more/resnet18.safetensors") is None
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "resnet18.safetensors").touch()
    assert options._network_of("timm/resnet18.safetensors") is None


def test_other_data_get_a_name_of_their_own(tmp_path):
    """Lest they become a version of the default's model, which has other classes."""
    from pipeline import config

    assert config.name_of("digits") == "digits"
    assert config.name_of(str(tmp_path / "my photos (2)") + "/") == "my_photos_2_"
    assert config.name_of("/") == "data"
    assert config.name_of("tfds:cifar10") == "cifar10"
    assert config.name_of("tfds:mnist_corrupted/fog:1.0.0") == "fog_1.0.0"
    assert config.name_of("gs://bucket/inbox/{SPAN}/*.tfrecord") == "inbox"
    assert config.name_of("lists/photos.csv") == "photos"
