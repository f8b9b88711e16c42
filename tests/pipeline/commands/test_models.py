"""The commands on pushed models, as a person types them, in one process for speed."""

import json

import pytest
from typer.testing import CliRunner

from pipeline import cli, files
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.store import Store
from pipeline.serving import labels, versions
from tests.pipeline import builders
from tests.pipeline.serving.models import saved_model
from tests.pipeline.test_cli import call


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*arguments):
    """Returns what a command prints."""
    done = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_a_model_goes_out_as_a_canary_becomes_stable_and_comes_back(here):
    for content in "ab":
        saved_model(here / content, content.encode())
    push = ("push", "--name", "m", "--unblessed")
    assert typed(*push, "a") == "pushed saved_models/m/1 as stable"
    assert typed(*push, "a") == "saved_models/m/1 holds this model already; it is stable"
    assert typed(*push, "b", "--label", "canary") == "pushed saved_models/m/2 as canary"
    assert typed("promote", "m", 2) == "stable is version 2, canary is version 2"
    assert typed("rollback", "m") == "pushed saved_models/m/3, which is version 1 again, as stable"
    shown = typed("versions", "m")
    assert shown.startswith("version pushed (UTC) labels accuracy model size 1 20")
    assert shown.endswith("kB served by default; version 1 again; not blessed")
    found = json.loads(typed("versions", "m", "--json"))
    assert [version["number"] for version in found] == [1, 2, 3]
    assert found[2]["labels"] == ["stable", "canary"]
    assert found[2]["record"]["republished_from"] == 1
    assert "not blessed; withdrawn" in shown and found[1]["is_withdrawn"]
    with pytest.raises(PipelineError, match=r"version 2 of m again.*rollback m --to 2.*--again"):
        typed(*push, "b")
    assert typed(*push, "b", "--again", "--keep-last", 1).endswith("/4 as stable, removed 1, 2")


def run_that_made_a_model(root, blessed=1):
    """Writes the store of a run with a model, as the components leave it."""
    store = Store(root)

    def execute(component, output, dependencies, **properties):
        execution = store.begin(component, "key", dependencies)
        folder = store.staging(execution, output)
        if component == "Trainer":
            saved_model(folder / "Format-Serving")
        if component == "InfraValidator":
            files.write_bytes(folder / versions.WARMUP, b"requests")
        outputs = {output: builders.artifact(folder, component, **properties)}
        if component == "Evaluator":
            outputs["evaluation"] = builders.artifact(
                store.staging(execution, "evaluation"), accuracy=0.5
            )
        return store.complete(execution, outputs, Outcome("well"))

    model = execute("Trainer", "model", {}).outputs["model"]
    for component in ("Evaluator", "InfraValidator"):
        execute(component, "blessing", {"inputs": {"model": model.digest}}, blessed=blessed)
    return model.uri


def test_what_a_run_blessed_is_pushed_with_all_that_is_known_of_it(here):
    model = run_that_made_a_model(here / "runs" / "photos")
    for given in (model, model / "Format-Serving"):
        assert " saved_models/photos/1 " in f" {typed('push', given)} "
    version = here / "saved_models" / "photos" / "1"
    record = versions.record(version)
    assert (record["blessed"], record["run"], record["metrics"]) == (
        True,
        "photos",
        {"accuracy": 0.5},
    )
    assert record["sources"].keys() == {"model", "blessing", "infra_blessing"}
    assert (version / versions.WARMUP).read_bytes() == b"requests"
    assert "50.00%" in typed("versions", "photos")

    # A version goes to another destination with what is known of it.
    typed("push", "saved_models/photos", "--destination", "elsewhere")
    copied = versions.record(here / "elsewhere" / "photos" / "1")
    assert {**copied, "pushed_at": 0} == {**record, "pushed_at": 0}
    assert (here / "elsewhere" / "photos" / "1" / versions.WARMUP).exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: model / "Format-Serving" / "saved_model.pb", "Evaluator did not look at it"),
        (lambda model: None, "Evaluator did not bless it; InfraValidator did not bless it"),
    ],
)
def test_what_was_not_blessed_is_not_pushed(here, damage, message):
    path = damage(here)
    model = run_that_made_a_model(here / "runs" / "photos", blessed=int(path is not None))
    if path is not None:
        (model / path.relative_to(here)).write_bytes(b"changed afterwards")
    with pytest.raises(UsageError, match=message):
        typed("push", model)
    assert not (here / "saved_models").exists()
    typed("push", model, "--unblessed")
    assert versions.record(here / "saved_models" / "photos" / "1")["blessed"] is False


def test_a_version_that_was_changed_is_not_blessed_any_more(here):
    typed("push", run_that_made_a_model(here / "runs" / "photos"))
    (here / "saved_models" / "photos" / "1" / "saved_model.pb").write_bytes(b"changed")
    with pytest.raises(UsageError, match="changed after it was blessed; --unblessed pushes it"):
        typed("push", "saved_models/photos", "--destination", "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "nothing"], "model 'nothing': no such directory"),
        (["push", "m"], "model 'm': nothing says what it is; expected --name NAME"),
        (["push", "m", "--name", "m"], "not blessed: no run of this pipeline blessed it; --unb"),
        (["push", "m", "--name", "../m"], "model '../m': no name of a model; expected letters"),
        (["push", "m", "--name", "m", "--unblessed", "--keep-last", "0"], "--keep-last 0: input"),
        (["push", "m", "--name", "m", "--unblessed", "--destination", "gopher://x"], "gopher"),
        (["rollback", "m"], "model 'saved_models/m': no versions there; `push` makes the first"),
        (["versions", ".lock"], "model '.lock': no name of a model"),
        (["promote", "m", "1"], "no versions there"),
        (["versions", "m", "--destination", "gopher://x"], "no file system for gopher://"),
    ],
)
def test_wrong_use_is_one_clear_line_and_leaves_nothing(here, arguments, message):
    saved_model(here / "m")
    with pytest.raises(UsageError) as caught:
        typed(*arguments)
    assert message in str(caught.value)
    assert sorted(path.name for path in here.iterdir()) == ["m"]


def test_from_the_shell_the_exit_codes_say_how_it_ended(here):
    saved_model(here / "a")
    done = call("push", "a", "--name", "m", "--unblessed", cwd=here)
    assert (done.returncode, done.stdout) == (0, "pushed saved_models/m/1 as stable\n"), done.stderr
    done = call("promote", "m", "7", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: version 7 of m: not there; expected one of 1\n"
    done = call("promote", "m", "1", "--label", "latest", cwd=here)
    assert done.returncode == 2
    assert "'stable', 'canary'" in done.stderr
    (here / "saved_models" / "m" / labels.FILE).write_text("half")
    done = call("rollback", "m", cwd=here)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not a record of labels" in done.stderr
