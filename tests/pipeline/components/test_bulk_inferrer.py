import json
import shutil

import pytest
from pydantic import ValidationError

from pipeline import config
from pipeline.components import bulk_inferrer
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.orchestration import graph, runner
from pipeline.orchestration.artifact import Context, Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from tests.pipeline import builders
from tests.pipeline.bulk import models
from tests.pipeline.orchestration.test_runner import Number, component

BLESSINGS = {"blessing": "Evaluator", "infra_blessing": "InfraValidator"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return models.save(tmp_path_factory.mktemp("model") / "lengths") / "1"


@pytest.fixture
def inputs(saved, tmp_path):
    model = builders.artifact(tmp_path / "model", "Model")
    shutil.copytree(saved, model.uri / "Format-Serving")
    blessings = {
        key: builders.artifact(tmp_path / key, f"{key.title()}Blessing", blessed=1)
        for key in BLESSINGS
    }
    return {"model": model, **blessings}


def run(inputs, folder, data, context=builders.CONTEXT, **parameters):
    written = builders.artifact(folder, "InferenceResult")
    chosen = bulk_inferrer.Parameters(data=str(data), shard_size=4, batch_size=2, **parameters)
    return bulk_inferrer.run(inputs, {"inference_result": written}, chosen, context), written


@pytest.mark.parametrize("missing", BLESSINGS)
def test_nothing_is_inferred_without_both_blessings(inputs, tmp_path, missing):
    inputs[missing].properties["blessed"] = 0
    models.pictures(tmp_path / "photos")
    with pytest.raises(PipelineError, match=f"nothing was inferred: .*{inputs[missing].type}"):
        run(inputs, tmp_path / "out", tmp_path / "photos")
    assert list((tmp_path / "out").iterdir()) == []


def test_it_writes_shards_dead_letters_and_a_summary(inputs, tmp_path):
    models.pictures(tmp_path / "photos", 7)
    outcome, written = run(inputs, tmp_path / "out", tmp_path / "photos")
    assert outcome.result.startswith("7 of 9 images predicted; 2 not (1 ")
    assert outcome.refusal is None
    names = sorted(path.name for path in written.uri.iterdir())
    assert [name for name in names if name.startswith("predictions")] == [
        f"predictions-0000{number}-of-00003.jsonl" for number in range(3)
    ]
    assert written.properties == {
        "images": 9,
        "predicted": 7,
        "not_predicted": 2,
        "file_format": "jsonl",
        "payload_format": "JSON",
    }
    _, logs = run(inputs, tmp_path / "logs", tmp_path / "photos", format="prediction_log")
    assert len(list(logs.uri.glob("prediction_logs-0000?-of-00003"))) == 3
    assert logs.properties["payload_format"] == "PredictionLog"


def test_images_of_which_not_one_can_be_used_are_refused(inputs, tmp_path):
    models.pictures(tmp_path / "photos", 0)
    outcome, written = run(inputs, tmp_path / "out", tmp_path / "photos")
    assert "not one image of" in outcome.refusal
    assert json.loads((written.uri / "errors-00000-of-00001.jsonl").read_text().splitlines()[0])


def test_what_changes_when_the_images_do_is_part_of_the_key(tmp_path):
    models.pictures(tmp_path / "photos")
    parameters = bulk_inferrer.Parameters(data=str(tmp_path / "photos"))
    before = bulk_inferrer.external(parameters)
    assert bulk_inferrer.external(parameters) == before
    (tmp_path / "photos" / "new.jpg").write_bytes(b"x")
    assert bulk_inferrer.external(parameters) != before
    with pytest.raises(UsageError, match="no such folder"):
        bulk_inferrer.check(bulk_inferrer.Parameters(data=str(tmp_path / "none")))


def test_features_and_classes_are_two_jobs():
    with pytest.raises(ValidationError, match="features writes no classes"):
        bulk_inferrer.Parameters(data="digits", features=True, top=1)


def test_it_is_in_the_graph_where_it_is_given_anything():
    assert "BulkInferrer" not in {node.name for node in graph.build(config.load())}
    nodes = graph.build(config.load("digits", ["bulk_inferrer.data=digits"]))
    (node,) = (node for node in nodes if node.name == "BulkInferrer")
    assert node.inputs == {
        "model": ("Trainer", "model"),
        "blessing": ("Evaluator", "blessing"),
        "infra_blessing": ("InfraValidator", "blessing"),
    }


def test_who_waits_for_it_where_it_is_not_is_told_so(tmp_path):
    (tmp_path / "own.py").write_text(
        "OUTPUTS = {'report': 'Report'}\ndef run(inputs, outputs, parameters, context):\n    return ''\n"
    )
    reading = "inputs: {result: BulkInferrer.inference_result}"
    text = f"name: x\nexample_gen: {{source: digits}}\ntrainer: {{model: cifar_resnet20, image_size: [8, 8]}}\ncomponents:\n- name: Own\n  function: own:run\n  {reading}\n"
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(
        UsageError,
        match=r"job.yaml:7: .*BulkInferrer is not in this run; bulk_inferrer.data puts it in",
    ):
        config.load(tmp_path / "job.yaml")
    nodes = graph.build(config.load(tmp_path / "job.yaml", ["bulk_inferrer.data=digits"]))
    assert nodes[-1].name == "Own"


def test_a_stopped_execution_is_gone_on_with_and_the_next_run_finds_it_done(
    saved, tmp_path, monkeypatch
):
    from pipeline.beam import inference

    models.pictures(tmp_path / "photos", 30)

    def trained(inputs, outputs, parameters, context):
        shutil.copytree(saved, outputs["model"].uri / "Format-Serving")
        return Outcome("trained")

    def blessed(inputs, outputs, parameters, context):
        outputs["blessing"].properties["blessed"] = 1
        return Outcome("blessed")

    stub = component(trained)
    stub.OUTPUTS = {"model": "Model"}
    nodes = [Node("Trainer", stub, Number())]
    for name in BLESSINGS.values():
        stub = component(blessed)
        stub.OUTPUTS = {"blessing": "Blessing"}
        nodes.append(Node(name, stub, Number(), {"model": ("Trainer", "model")}))
    parameters = bulk_inferrer.Parameters(data=str(tmp_path / "photos"), shard_size=4)
    inputs = {key: (name, "blessing") for key, name in BLESSINGS.items()}
    inputs["model"] = ("Trainer", "model")
    nodes.append(Node("BulkInferrer", bulk_inferrer, parameters, inputs))

    done = []
    infer = inference.Handler._infer

    def counted(self, shard, model):
        if len(done) == 3:
            raise Stopped("stopped for a test")
        done.append(shard.number)
        return infer(self, shard, model)

    with monkeypatch.context() as patch:
        patch.setattr(inference.Handler, "_infer", counted)
        with pytest.raises(Stopped, match="BulkInferrer: "):
            runner.execute(nodes, "birds", tmp_path / "root", Silent())
    assert not list((tmp_path / "root" / "BulkInferrer").glob("inference_result/*"))

    results = runner.execute(nodes, "birds", tmp_path / "root", Silent())
    outcome = results["BulkInferrer"].outcome
    assert "30 of 32 images predicted" in outcome.result
    assert "12 of them before" in outcome.result
    written = results["BulkInferrer"].outputs["inference_result"]
    paths = [
        json.loads(line)["path"]
        for path in written.uri.glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(paths) == len(set(paths)) == 32
    assert not list((tmp_path / "root").rglob(".job"))
    assert runner.execute(nodes, "birds", tmp_path / "root", Silent())["BulkInferrer"].cached


def test_images_that_came_between_two_attempts_are_read_all_the_same(inputs, tmp_path):
    models.pictures(tmp_path / "photos", 7)
    context = Context("tiny", state=tmp_path / "state")
    run(inputs, tmp_path / "first", tmp_path / "photos", context)
    (tmp_path / "photos" / "new.jpg").write_bytes(b"x" * 500)
    outcome, _ = run(inputs, tmp_path / "second", tmp_path / "photos", context)
    assert "8 of 10 images predicted" in outcome.result
