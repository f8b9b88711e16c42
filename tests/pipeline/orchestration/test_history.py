"""What the store tells of runs."""

import multiprocessing

import pytest

from pipeline.errors import UsageError
from pipeline.orchestration import store
from pipeline.orchestration.artifact import Artifact, Outcome

GRAPH = [("Gen", ()), ("Trainer", ("Gen",)), ("Pusher", ("Trainer",))]


def _make(executions, component, run, inputs=None, refusal=None, **properties):
    execution = executions.begin(component, f"key of {component}", {}, inputs, run)
    uri = executions.staging(execution, "out")
    (uri / "file").write_text(component)
    outputs = {"out": Artifact("Any", uri, properties)}
    return executions.complete(execution, outputs, Outcome(f"made {component}", refusal))


def test_a_run_tells_what_each_component_did_and_what_did_not_run(tmp_path):
    executions = store.Store(tmp_path)
    assert executions.runs() == []
    with pytest.raises(UsageError, match=r"run 1: .* knows no such run"):
        executions.run(1)
    first = executions.begin_run("pets", GRAPH, {"name": "pets"}, "make it", "c0ffee")
    given = {"a": [1, {"b": None}], "c": float("inf"), "d": True, "e": 2**70, "f": "x", "g": 0.5}
    made = _make(executions, "Gen", first, **given)
    assert [step.state for step in executions.run(1).steps] == ["COMPLETE", "NEW", "NEW"]
    failed = executions.begin("Trainer", "k", {}, {"in": made.outputs["out"]}, first)
    executions.abandon(failed, store.FAILED, "no memory")
    second_try = executions.begin("Trainer", "k", {}, {"in": made.outputs["out"]}, first)
    executions.abandon(second_try, store.FAILED, "no memory again")
    executions.end_run(first, store.FAILED, "Trainer: no memory again")

    second = executions.begin_run("pets", GRAPH)
    assert executions.use(made, second)
    _make(executions, "Trainer", second, {"in": made.outputs["out"]}, refusal="too bad")
    executions.end_run(second, store.COMPLETE)

    one, two = store.Store(tmp_path).runs()
    assert executions.runs(last=1) == [two]
    assert (one.id, one.pipeline, one.state, one.error) == (
        *(1, "pets", "FAILED"),
        "Trainer: no memory again",
    )
    assert (one.config, one.command, one.commit) == ({"name": "pets"}, "make it", "c0ffee")
    gen, trainer, pusher = one.steps
    assert (gen.component, gen.state, gen.cached, gen.result) == (
        *("Gen", "COMPLETE", False),
        "made Gen",
    )
    assert gen.outputs == made.outputs
    assert gen.outputs["out"].properties == given
    assert (trainer.state, trainer.error, trainer.attempts) == ("FAILED", "no memory again", 2)
    assert trainer.execution_id == second_try.id
    assert (pusher.state, pusher.execution_id, pusher.depends_on) == ("NEW", None, ("Trainer",))
    gen, trainer, _ = two.steps
    assert (gen.state, gen.cached, gen.execution_id) == ("CACHED", True, made.id)
    assert gen.outputs == made.outputs
    assert (trainer.refusal, trainer.inputs) == ("too bad", {"in": made.outputs["out"]})
    assert two.step("Trainer") == trainer
    assert two.step("Exporter") is None


def _die_in_a_run(root):
    executions = store.Store(root)
    run = executions.begin_run("pets", GRAPH)
    _make(executions, "Gen", run)
    execution = executions.begin("Trainer", "k", {}, {}, run)
    (executions.staging(execution, "out") / "half").write_text("x")
    # As if it died between publishing an output and writing that down.
    (root / "Trainer" / "out" / str(execution.id)).mkdir(parents=True)


def test_a_run_that_died_is_closed_by_the_next_one_and_a_living_one_is_not(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_die_in_a_run, args=(tmp_path,))
    process.start()
    process.join()
    executions = store.Store(tmp_path)
    assert [run.state for run in executions.runs()] == ["RUNNING"]
    living = executions.begin_run("pets", GRAPH)
    store.Store(tmp_path).begin_run("pets", GRAPH)
    assert [run.state for run in executions.runs()] == ["FAILED", "RUNNING", "RUNNING"]
    died = executions.run(1)
    assert died.error == "its process died"
    assert [(step.state, step.error) for step in died.steps] == [
        ("COMPLETE", ""),
        ("FAILED", "its process died"),
        ("NEW", ""),
    ]
    assert not list((tmp_path / "Trainer" / "out").iterdir())
    assert not list((tmp_path / ".system" / "staging").iterdir())
    executions.end_run(living, store.COMPLETE)
    assert executions.run(living).state == "COMPLETE"


def test_an_execution_whose_files_were_removed_since_is_not_used_nor_read(tmp_path):
    executions = store.Store(tmp_path)
    run = executions.begin_run("pets", GRAPH)
    made = _make(executions, "Gen", run)
    with executions.database.writing() as connection:
        connection.execute("UPDATE Artifact SET state = 4")
    assert not executions.use(made, run)
    with pytest.raises(store.DataError, match="Gen/out/1: removed by another process; run again"):
        executions.begin("Trainer", "k", {}, made.outputs, run)
    assert [step.state for step in executions.run(run).steps] == ["COMPLETE", "NEW", "NEW"]
