"""The commands on what ran and what would run, as a person types them."""

import json
import resource
import subprocess
import sys
import time

import pytest
import yaml

from pipeline import api
from pipeline.orchestration import fingerprint, history, rows, store
from pipeline.orchestration.artifact import Artifact
from tests.pipeline.builders import PYTHON
from tests.pipeline.orchestration.test_lineage import execute
from tests.pipeline.test_cli import call, environment


def typed(folder, *arguments):
    done = call(*arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with two runs that differ in the training, whose models were pushed."""
    folder = tmp_path_factory.mktemp("here")
    for epochs in (1, 2):
        execute(folder, epochs=epochs)
    return folder


def test_runs_are_listed_shown_and_compared(here):
    listed = typed(here, "runs").splitlines()
    assert listed[0].split() == ["run", "started", "took", "state", "components", "result"]
    assert [line.split()[0] for line in listed[1:]] == ["pets/1", "pets/2"]
    assert "COMPLETE  5 ran, 0 unchanged  test accuracy 51.00%" in listed[1]
    assert "4 ran, 1 unchanged" in listed[2]
    assert typed(here, "runs", "pets", "--last", "1").splitlines()[1] == listed[2]
    assert [run["id"] for run in json.loads(typed(here, "runs", "--json"))] == [1, 2]

    shown = typed(here, "show", "pets/2")
    assert shown.startswith("run 2 of pets: COMPLETE\n")
    assert "command make it\n" in shown
    assert "ExampleGen      unchanged, as execution 1\n" in shown
    assert "runs/pets/Trainer/model/" in shown
    assert json.loads(typed(here, "show", "1", "--json"))["steps"][0]["component"] == "ExampleGen"
    assert yaml.safe_load(typed(here, "show", "pets", "--config")) == {"trainer": {"epochs": 2}}
    shown = typed(here, "show", "runs/pets/Trainer/model/2")
    assert shown.startswith("execution 2 of Trainer: COMPLETE\n")
    assert "read    examples: runs/pets/ExampleGen/examples/1, " in shown
    assert "\n  value: 1\n" in shown

    assert typed(here, "diff", "pets/1", "pets/2") == (
        "configuration\n  trainer.epochs: 1 → 2\nmetrics\n  accuracy: 0.51 → 0.52\n"
    )
    assert typed(here, "diff", "1", "1") == "nothing differs\n"


def test_the_lineage_of_a_version_is_told_once(here):
    told = typed(here, "lineage", "saved_models/pets/2")
    first, *rest = told.splitlines()
    assert first.startswith("saved_models/pets/2: pushed 20")
    assert ", test accuracy 52.00%, SavedModel " in first
    assert rest[0].startswith("← Pusher, execution ")
    assert told.count("with 2\n") == 1  # the training
    assert told.count(", as above") == 4
    assert "\nrun 2: " in told
    assert "show pets/2 --config prints its configuration" in told
    found = json.loads(typed(here, "lineage", "saved_models/pets/2", "--json"))
    assert found["pushed"]["version"] == 2
    assert found["executions"][str(found["execution"])]["component"] == "Pusher"


def test_what_is_not_needed_is_removed_and_the_bytes_are_said(here):
    said = typed(here, "gc", "--keep-runs", "1", "--dry-run")
    assert said == "0 B (0 bytes) would be free\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs"], "root 'runs': nothing ran there; expected a folder such as runs"),
        (["show", "digits/1"], "root 'runs': nothing ran there"),
        (["diff", "1", "2"], "root 'runs': nothing ran there"),
        (["gc"], "root 'runs': nothing ran there"),
        (["lineage", "saved_models/digits/7"], "model 'saved_models/digits/7': no such directory"),
        (["why", "Trianer"], "component 'Trianer': expected one of ExampleGen, "),
    ],
)
def test_wrong_use_is_one_clear_line(tmp_path, arguments, message):
    done = call(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_why_and_the_plan_say_what_would_run_without_loading_tensorflow(tmp_path):
    program = (
        "import sys; from pipeline import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "print('HEAVY', {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules), code)\n"
    )
    for arguments, line in (
        (["why", "ExampleGen"], "ExampleGen would run: it never ended well here"),
        (["run", "--dry-run"], "Pusher            would run  it never ended well here"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        *_, told, heavy = done.stdout.splitlines()
        assert told == line
        assert heavy == "HEAVY set() None"
    assert not list(tmp_path.iterdir())


def test_the_configuration_that_a_run_shows_is_one_that_runs():
    from pipeline import config

    chosen = config.load("digits")
    assert config.validate(json.loads(json.dumps(api.effective(chosen))), "shown") == chosen


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A root with ten thousand executions, 1,250 runs of eight components each."""
    root = tmp_path_factory.mktemp("many") / "runs" / "p"
    executions = store.Store(root)
    executions.end_run(executions.begin_run("p", []), store.COMPLETE)
    names = [f"Component{number}" for number in range(8)]
    graph = [[name, names[max(0, index - 1) : index]] for index, name in enumerate(names)]
    code = fingerprint.code("pipeline.components.trainer")
    libraries = fingerprint.libraries("pipeline.components.trainer")
    configured = {f"key{number}": number for number in range(200)}
    with executions.database.writing() as connection:
        for number in range(2, 1252):
            context = rows.context_id(connection, history.RUN, str(number))
            own = {"pipeline": "p", "state": "COMPLETE", "started": float(number), "seconds": 1.0}
            own |= {"graph": graph, "config": configured, "command": "make it", "commit": ""}
            rows.put(connection, "Context", context, own)
            before = None
            for name in names:
                inputs = {"in": before} if before else {}
                execution = executions._insert(connection, name, "COMPLETE", inputs, number)
                dependencies = {"parameters": configured, "libraries": libraries}
                properties = {"key": f"key of {execution}", "dependencies": dependencies}
                rows.put(connection, "Execution", execution, {**properties, "result": "well"})
                modules = {"modules": {**code, "edited": number}}
                kept = rows.context_id(connection, history.CODE, f"code of {number}", modules)
                rows.associate(connection, kept, execution)
                uri = root / name / "out" / str(execution)
                listing = {f"file{index}": index for index in range(20)}
                before = Artifact("Any", uri, {"accuracy": 0.5}, f"of {execution}", listing)
                artifact = rows.put_artifact(connection, executions.root, before)
                rows.put_event(connection, execution, artifact, rows.OUTPUT, "out")
                rows.attribute(connection, execution, artifact)
    before.uri.mkdir(parents=True)
    return root


@pytest.mark.parametrize("command", ["runs", "lineage", "show"])
def test_ten_thousand_executions_are_answered_in_half_a_second(many, command):
    asked = {
        "runs": ["runs"],
        "show": ["show", "p/700"],
        "lineage": ["lineage", str(many / "Component7" / "out" / "10000")],
    }[command]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = subprocess.check_output(
            [*PYTHON, *asked], cwd=many.parents[1], env=environment(), text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The time of the processor, as others may be at work on this machine.
    assert min(spent) < 0.5
    assert len(told.splitlines()) > 20


def test_the_newest_of_ten_thousand_executions_is_found_at_once(many):
    executions = store.Store(many)
    begin = time.thread_time()
    for number in (10_000, 9_992, 16):
        assert executions.with_key("Component7", f"key of {number}").__next__().id == number
        assert executions.maker(f"of {number}").id == number
    assert executions.last_used("Component7").id == 10_000
    assert time.thread_time() - begin < 0.2
