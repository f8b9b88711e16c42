"""The specification for Kubeflow Pipelines, and its steps."""

import json
import subprocess
import sys

import pytest
import yaml

from pipeline import api, config
from pipeline.errors import UsageError
from pipeline.kubeflow import modules, specification
from pipeline.orchestration import graph
from tests.pipeline import builders

IMAGE = "registry.example/python-pipeline:1"

REPORT = """
import helper_of_steps
OUTPUTS = {"report": "Report"}
INPUTS = {"examples": "Examples"}

def run(inputs, outputs, parameters, context):
    (outputs["report"].uri / "report.txt").write_text(helper_of_steps.LINE)
    return helper_of_steps.LINE
"""


@pytest.fixture
def configured(tmp_path):
    """Returns a configuration with a component of its own, which imports another module."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "report_of_steps.py").write_text(REPORT)
    (folder / "helper_of_steps.py").write_text("import json\nLINE = 'from the helper'\n")
    (folder / "other.py").write_text("raise SystemExit")
    own = {
        "name": "OwnReport",
        "function": "report_of_steps:run",
        "inputs": {"examples": "ExampleGen.examples"},
        "before": ["Trainer"],
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(builders.TINY_RUN | {"components": [own]}))
    return path


def compiled(path, to, claim="volume", gpus=0):
    pytest.importorskip("kfp", reason="the extra kfp is not installed")
    chosen = config.load(path)
    specification.write(chosen, modules.beside(chosen, path.parent), to, IMAGE, claim, gpus)
    return list(yaml.safe_load_all(to.read_text()))


def test_the_json_of_a_configuration_is_that_configuration(tmp_path):
    for name in config.embedded():
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(api.effective(config.load(name))))
        assert config.load(path) == config.load(name)


def test_modules_beside_the_configuration_go_with_what_they_import(configured):
    found = modules.beside(config.load(configured), configured.parent)
    assert list(found) == ["helper_of_steps.py", "report_of_steps.py"]
    assert found["report_of_steps.py"] == REPORT
    assert modules.beside(config.load("digits"), configured.parent) == {}


def test_modules_that_are_too_long_are_refused(configured):
    (configured.parent / "helper_of_steps.py").write_text(f"LINE = '{'x' * 100_000}'")
    with pytest.raises(UsageError, match=r"have 100,\d+ bytes.*install them in the image"):
        modules.beside(config.load(configured), configured.parent)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ExampleGen", "example-gen"),
        ("Pusher", "pusher"),
        ("InfraValidator", "infra-validator"),
        ("my_model.v2", "my-model-v2"),
    ],
)
def test_names_are_such_as_kubernetes_takes(name, expected):
    assert specification.name_of(name) == expected


def test_without_the_extra_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kfp", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[kfp\]' in the dir"):
        specification.write(config.load(), {}, tmp_path / "x.yaml", IMAGE, None)


def test_each_component_is_a_container_step_that_waits_for_what_it_needs(
    configured, tmp_path, monkeypatch
):
    spec, platform = compiled(configured, tmp_path / "kfp.yaml", gpus=2)
    tasks = spec["root"]["dag"]["tasks"]
    nodes = graph.build(config.load(configured))
    assert len(nodes) == 9
    assert set(tasks) == {specification.name_of(node.name) for node in nodes}
    for node in nodes:
        task = tasks[specification.name_of(node.name)]
        needed = {name for name, _ in (*node.inputs.values(), *node.history.values())}
        needed |= set(node.after)
        assert set(task.get("dependentTasks", ())) == set(map(specification.name_of, needed))
        constant = task["inputs"]["parameters"]["component"]["runtimeValue"]["constant"]
        assert constant == node.name
        assert not task["cachingOptions"].get("enableCache")
        executor = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        container = spec["deploymentSpec"]["executors"][executor]["container"]
        assert container["image"] == IMAGE
        gpus = container.get("resources", {}).get("accelerator", {}).get("resourceCount")
        assert gpus == ("2" if node.name == "Trainer" else None)
        (mount,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][executor][
            "pvcMount"
        ]
        assert mount["mountPath"] == specification.DIRECTORY
    assert "own-report" in tasks["trainer"]["dependentTasks"]
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    held = json.loads(parameters["configuration"]["defaultValue"])
    monkeypatch.chdir(configured.parent)
    assert config.validate(held, "held") == config.load(configured)


def test_without_a_claim_there_is_nothing_of_the_platform(configured, tmp_path):
    assert len(compiled(configured, tmp_path / "kfp.yaml", claim=None)) == 1


@pytest.mark.exhaustive
def test_kubeflows_local_runner_runs_the_file_from_images_to_a_pushed_model(configured, tmp_path):
    _run_locally(configured, tmp_path)
    assert (tmp_path / "saved_models" / "tiny" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_kubeflows_local_runner_runs_a_component_of_ones_own_on_what_another_wrote(
    configured, tmp_path, monkeypatch
):
    whole = graph.build
    wanted = ("ExampleGen", "OwnReport")
    monkeypatch.setattr(
        graph, "build", lambda chosen: [node for node in whole(chosen) if node.name in wanted]
    )
    _run_locally(configured, tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs" / "tiny").glob("[A-Z]*")) == [*wanted]


def _run_locally(configured, tmp_path):
    compiled(configured, tmp_path / "kfp.yaml")
    program = f"""
from kfp import components, local

local.init(local.SubprocessRunner(use_venv=False), pipeline_root={str(tmp_path / "kfp")!r})
components.load_component_from_file({str(tmp_path / "kfp.yaml")!r})(directory={str(tmp_path)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = (tmp_path / "runs" / "tiny" / "OwnReport" / "report").glob("*/report.txt")
    assert written.read_text() == "from the helper"
