"""Where versions come from, what differs between runs, and what may be removed."""

import json
import shutil
import threading

import pytest

from pipeline import files
from pipeline.components import pusher
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration import collection, difference, lineage, lookup, runner, store
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.runner import Options
from pipeline.orchestration.view import Silent
from pipeline.serving import push, versions
from tests.pipeline.orchestration.test_runner import Adder, Number, component


class Stage:
    """A component that writes a file and properties made from its parameter."""

    def __init__(self, write, **properties):
        self.write, self.properties = write, properties

    def __call__(self, inputs, outputs, parameters, context):
        for artifact in outputs.values():
            self.write(artifact.uri, parameters.value)
            artifact.properties.update(self.properties)
        return Outcome(f"with {parameters.value}")


def _examples(uri, value):
    counts = {"cat": value, "dog": 2}
    files.write_json(uri / "manifest.json", {"splits": {"train": {"class_counts": counts}}})


def _model(uri, value):
    (uri / "Format-Serving").mkdir()
    (uri / "Format-Serving" / "saved_model.pb").write_text(f"weights {value}")


def _verdict(uri, value):
    (uri / "verdict").write_text(str(value))


def nodes(destination, data=1, epochs=1):
    """Returns a graph that is like the real one, and pushes as the real one does."""
    examples, model = ("ExampleGen", "examples"), ("Trainer", "model")
    made = {
        "ExampleGen": (Stage(_examples), {"examples": "Examples"}, data, {}),
        "Trainer": (Stage(_model), {"model": "Model"}, epochs, {"examples": examples}),
        "Evaluator": (
            Stage(_verdict, blessed=1, accuracy=0.5 + epochs / 100),
            {"blessing": "ModelBlessing", "evaluation": "ModelEvaluation"},
            0,
            {"examples": examples, "model": model},
        ),
        "InfraValidator": (
            Stage(_verdict, blessed=1),
            {"blessing": "InfraBlessing"},
            0,
            {"model": model},
        ),
    }
    graph = []
    for name, (run, outputs, value, inputs) in made.items():
        module = component(run)
        module.OUTPUTS = outputs
        graph.append(Node(name, module, Number(value=value), inputs))
    verdicts = {
        "model": model,
        "blessing": ("Evaluator", "blessing"),
        "evaluation": ("Evaluator", "evaluation"),
        "infra_blessing": ("InfraValidator", "blessing"),
    }
    given = pusher.Parameters(destination=destination)
    return [*graph, Node("Pusher", pusher, given, verdicts)]


def execute(folder, **values):
    options = Options(config={"trainer": {"epochs": values.get("epochs", 1)}}, command="make it")
    graph = nodes(folder / "saved_models", **values)
    return runner.execute(graph, "pets", folder / "runs" / "pets", Silent(), options=options)


@pytest.fixture
def two_versions(tmp_path):
    """Two pushed versions, of two trainings on the same data."""
    for epochs in (1, 2):
        execute(tmp_path, epochs=epochs)
    return tmp_path


def trained_with(found):
    """Returns the parameter of the training that a lineage leads to."""
    origin = found.origin
    if origin.execution.component == "Pusher":
        _, origin = origin.inputs["model"]
    assert origin.execution.component == "Trainer"
    _, above = origin.inputs["examples"]
    assert above.execution.component == "ExampleGen"
    return origin.execution.dependencies["parameters"]["value"]


def test_a_version_leads_to_its_training_data_code_and_command(two_versions):
    models = two_versions / "saved_models" / "pets"
    for version in (1, 2):
        found = lineage.of(models / str(version), two_versions / "runs")
        assert found.origin.execution.component == "Pusher"
        assert found.record["version"] == version
        assert (found.origin.run.id, found.origin.run.command) == (version, "make it")
        assert trained_with(found) == version
    told = lineage.as_json(found)
    assert json.loads(json.dumps(told)) == told
    components = {one["component"] for one in told["executions"].values()}
    assert components == {"ExampleGen", "Trainer", "Evaluator", "InfraValidator", "Pusher"}
    # The data are those of the first run; each run tells what it was made with.
    assert set(told["runs"]) == {"1", "2"}
    assert told["runs"]["2"]["config"] == {"trainer": {"epochs": 2}}
    assert all(one["dependencies"]["code"] for one in told["executions"].values())
    assert [artifact.uri.name for artifact in lineage.examples(found)] == ["1"]


def test_copies_and_versions_that_were_rolled_back_lead_to_the_original(two_versions):
    models = two_versions / "saved_models" / "pets"
    pushed, target = push.rollback(models)
    assert (pushed.number, target) == (3, 1)
    elsewhere = two_versions / "elsewhere" / "pets"
    push.push(models / "2", elsewhere, record=versions.record(models / "2"))
    (two_versions / "runs").rename(two_versions / "moved")
    for version, epochs in ((models / "3", 1), (models, 1), (elsewhere / "1", 2)):
        found = lineage.of(version, two_versions / "moved")
        assert trained_with(found) == epochs
        assert found.origin.execution.outputs["pushed_model"].uri.is_dir()
        # The root of one pipeline will do as well.
        assert trained_with(lineage.of(version, two_versions / "moved" / "pets")) == epochs


def test_an_artifact_leads_to_what_it_was_made_from(two_versions):
    model = two_versions / "runs" / "pets" / "Trainer" / "model" / "2"
    for path in (model, model / "Format-Serving"):
        assert trained_with(lineage.of(path, two_versions)) == 1


def test_what_nobody_knows_is_said(two_versions, tmp_path):
    models = two_versions / "saved_models" / "pets"
    with pytest.raises(UsageError, match="nothing ran there; expected a folder such as runs"):
        lineage.of(models / "1", two_versions / "saved_models")
    with pytest.raises(UsageError, match="no such directory"):
        lineage.of(models / "7", two_versions / "runs")
    other = two_versions / "other" / "1"
    other.mkdir(parents=True)
    (other / "saved_model.pb").write_text("x")
    with pytest.raises(UsageError, match="nothing was written down when it was put there"):
        lineage.of(other, two_versions / "runs")
    push.push(other, two_versions / "saved_models" / "by_hand")
    with pytest.raises(UsageError, match="from a SavedModel that no run of this program made"):
        lineage.of(two_versions / "saved_models" / "by_hand", two_versions / "runs")
    runner.execute([], "else", tmp_path / "else", Silent())
    with pytest.raises(UsageError, match=r"no run below .*else' made the model"):
        lineage.of(models / "1", tmp_path / "else")


def test_runs_are_found_by_what_a_person_calls_them(two_versions):
    runs = two_versions / "runs"
    for said, number in (("pets/1", 1), ("2", 2), ("pets", 2)):
        assert lookup.run(runs, said)[1].id == number
    runner.execute([], "cars", runs / "cars", Silent())
    with pytest.raises(UsageError, match="several ran there; name one: cars, pets"):
        lookup.run(runs, "1")
    with pytest.raises(UsageError, match="run 'boats': expected one of cars, pets"):
        lookup.run(runs, "boats/1")
    with pytest.raises(UsageError, match=r"run 9: .* knows no such run"):
        lookup.run(runs, "pets/9")


def test_the_difference_of_two_runs(two_versions):
    execute(two_versions, data=5, epochs=2)
    runs = two_versions / "runs"
    one, two, three = (lookup.run(runs, f"pets/{number}") for number in (1, 2, 3))
    assert difference.between(one, two) == {
        "configuration": ["trainer.epochs: 1 → 2"],
        "metrics": ["accuracy: 0.51 → 0.52"],
    }
    changed = difference.between(two, three)
    assert set(changed) == {"data"}
    assert changed["data"][1:] == ["train, images of cat: 1 → 5"]
    assert difference.between(three, three) == {}


def remaining(folder):
    root = folder / "runs" / "pets"
    return {path.relative_to(root).as_posix() for path in root.glob("[A-Z]*/*/*")}


def test_what_no_kept_run_used_and_no_version_stems_from_is_removed(tmp_path):
    for epochs in (1, 2, 3):
        execute(tmp_path, epochs=epochs)
    executions = store.Store(tmp_path / "runs" / "pets")
    before = remaining(tmp_path)
    assert collection.collect(executions, keep_runs=0).paths == []  # all three are pushed

    shutil.rmtree(tmp_path / "saved_models" / "pets" / "2")
    dry = collection.collect(executions, keep_runs=1, dry_run=True)
    assert remaining(tmp_path) == before
    collected = collection.collect(executions, keep_runs=1)
    assert collected == dry
    gone = {path.relative_to(executions.root).as_posix() for path in collected.paths}
    assert before - remaining(tmp_path) == gone
    second = executions.run(2)
    own = ("Trainer", "Evaluator", "InfraValidator", "Pusher")
    made = [artifact for name in own for artifact in second.step(name).outputs.values()]
    assert gone == {artifact.uri.relative_to(executions.root).as_posix() for artifact in made}
    assert collected.bytes > 0
    assert not list((executions.root / ".system" / "trash").iterdir())
    # The records stay, and what was kept is used again.
    assert [run.state for run in executions.runs()] == ["COMPLETE"] * 3
    assert executions.run(2).step("Trainer").outputs["model"].digest
    assert all(r.cached for name, r in execute(tmp_path, epochs=3).items() if name != "Pusher")
    results = execute(tmp_path, epochs=2)
    assert [name for name, r in results.items() if r.cached] == ["ExampleGen"]
    # What a version stems from stays when no run of it is kept.
    execute(tmp_path, data=9)
    collection.collect(executions, keep_runs=1)
    assert trained_with(lineage.of(tmp_path / "saved_models/pets/1", tmp_path / "runs")) == 1
    assert (executions.root / "Trainer/model").is_dir()
    assert executions.find("Trainer", executions.executions([2])[2].key) is not None


def test_a_version_that_cannot_be_looked_for_counts_as_there(tmp_path):
    execute(tmp_path)
    executions = store.Store(tmp_path / "runs" / "pets")
    shutil.rmtree(tmp_path / "saved_models")
    assert collection.collect(executions, keep_runs=0).paths == []
    (tmp_path / "saved_models" / "pets").mkdir(parents=True)
    assert remaining(tmp_path)
    collection.collect(executions, keep_runs=0)
    assert not remaining(tmp_path)


def test_what_a_run_in_progress_uses_is_not_removed(tmp_path):
    adder = Adder()
    node = Node("C0", component(adder), Number())
    execute_ = runner.execute
    execute_([node], "pets", tmp_path, Silent())
    executions = store.Store(tmp_path)
    removed = []

    def collect(inputs, outputs, parameters, context):
        thread = threading.Thread(
            target=lambda: removed.append(collection.collect(store.Store(tmp_path), 0).paths)
        )
        thread.start()
        thread.join()
        (outputs["out"].uri / "n").write_text("1")
        return Outcome("")

    reader = Node("C1", component(collect), Number(), {"in": ("C0", "out")})
    results = execute_([node, reader], "pets", tmp_path, Silent())
    assert results["C0"].cached
    assert removed == [[]]
    assert collection.collect(executions, 0).paths == [
        tmp_path / "C0" / "out" / "1",
        tmp_path / "C1" / "out" / "3",
    ]


def test_what_is_removed_between_being_found_and_being_used_is_made_again(tmp_path, monkeypatch):
    adder = Adder()
    nodes_ = [Node("C0", component(adder), Number())]
    runner.execute(nodes_, "pets", tmp_path, Silent())
    find = store.Store.find

    def find_and_lose(self, name, key):
        found = find(self, name, key)
        with self.database.writing() as connection:
            connection.execute("UPDATE Artifact SET state = 4")
        return found

    monkeypatch.setattr(store.Store, "find", find_and_lose)
    results = runner.execute(nodes_, "pets", tmp_path, Silent())
    assert (adder.runs, results["C0"].cached) == (2, False)


def test_states_and_stages_of_the_dead_are_removed_save_those_that_a_kept_run_goes_on_from(
    tmp_path,
):
    def fail(inputs, outputs, parameters, context):
        context.state.mkdir(parents=True)
        (context.state / "checkpoint").write_text("x" * 100)
        raise PipelineError("killed")

    for value in (1, 2):
        node = Node("Trainer", component(fail, RESUMABLE=True), Number(value=value))
        with pytest.raises(PipelineError, match="killed"):
            runner.execute([node], "pets", tmp_path, Silent())
    executions = store.Store(tmp_path)
    staged = tmp_path / ".system" / "staging" / "1"
    staged.mkdir()
    (tmp_path / "Trainer" / "out" / "77").mkdir(parents=True)  # of nobody knows whom
    states = [executions.state("Trainer", executions.executions([n])[n].key) for n in (1, 2)]
    collected = collection.collect(executions, keep_runs=1)
    assert collected.paths == [staged, states[0]]
    assert collected.bytes == 100
    assert (states[1] / "checkpoint").is_file()
    with executions.alone("Trainer", states[1].name, lambda: None):
        assert collection.collect(executions, keep_runs=0).paths == []
    assert collection.collect(executions, keep_runs=0).paths == [states[1]]
    assert (tmp_path / "Trainer" / "out" / "77").is_dir()
