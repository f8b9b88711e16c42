"""Tuner: what it writes, what Trainer takes from it, and what the cache knows of both."""

import json
from dataclasses import replace

import keras_tuner
import pytest

from pipeline import api, config
from pipeline.components import trainer, tuner
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration import graph, step
from pipeline.orchestration.artifact import Context
from pipeline.tuning import chief, outcome
from pipeline.tuning.trial import RECORD, Trial, read
from tests.pipeline import builders
from tests.pipeline.training import data

pytestmark = pytest.mark.filterwarnings("ignore:currentThread", "ignore:getName")

TRAINER = {**builders.TINY_RUN["trainer"], "learning_rate": 3.0}
SPACE = {
    "learning_rate": {"type": "log", "min": 1e-3, "max": 1.0},
    "model_arguments.depths": {"type": "choice", "values": [[1, 1, 1], [2, 2, 2]]},
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples"), train=12, eval=9)


def score(trial: Trial) -> float:
    """Better the nearer to 0.1, and with two blocks in each stage."""
    shallow = trial.values.get("model_arguments.depths") == [1, 1, 1]
    return 1 / (1 + abs(trial.values["learning_rate"] - 0.1)) - 0.1 * shallow


def scripted(search, job, context, host):
    """Stands for the chief: does all trials at once, without training."""
    while not search.over():
        trial = search.next("nobody")
        reached = {"eval_accuracy": score(trial), "eval_loss": -score(trial)}
        for epoch in range(trial.first_epoch + 1, trial.epochs + 1):
            search.epoch(trial.id, epoch, reached)
        search.end(trial.id, "COMPLETED", reached)


def run(folder, examples, monkeypatch, **parameters):
    monkeypatch.setattr(chief, "run", parameters.pop("chief", scripted))
    outputs = {key: builders.artifact(folder / key, kind) for key, kind in tuner.OUTPUTS.items()}
    found = tuner.Parameters(
        **{"space": SPACE, "trainer": trainer.Parameters(**TRAINER), "max_trials": 8, **parameters}
    )
    told = tuner.run(
        {"examples": examples, "statistics": examples},
        outputs,
        found,
        Context("tiny", state=folder / "state"),
    )
    return told, outputs


@pytest.mark.parametrize("algorithm", ["random", "bayesian", "hyperband"])
def test_it_writes_what_tfx_does_and_trainer_takes_it(algorithm, tmp_path, examples, monkeypatch):
    told, outputs = run(tmp_path, examples, monkeypatch, algorithm=algorithm, iterations=1)
    best = outputs["best_hyperparameters"].uri
    loaded = json.loads((best / "best_hyperparameters.txt").read_text())
    known = keras_tuner.HyperParameters.from_config(loaded)
    record = read(outputs["tuner_results"].uri / RECORD)
    winner = next(trial for trial in record.trials if trial.id == record.best)
    assert known.get("learning_rate") == winner.values["learning_rate"]
    assert set(known.values) == set(SPACE)  # nothing of Hyperband's own
    assert winner.score == max(t.score for t in record.trials if t.kind != "final")
    assert f"eval_accuracy {winner.score:.4g}" in told.result

    results = json.loads((outputs["tuner_results"].uri / "tuner_results.json").read_text())
    assert results == [
        {"trial_id": t.id, "score": t.score, **t.values} for t in record.trials if t.score
    ]
    tuned = outcome.applied(trainer.Parameters(**TRAINER), best)
    assert tuned.learning_rate == winner.values["learning_rate"]
    assert tuned.model_arguments == {
        **TRAINER["model_arguments"],
        "depths": winner.values["model_arguments.depths"],
    }


def test_where_nothing_is_better_the_configuration_stays(tmp_path, examples, monkeypatch):
    monkeypatch.setitem(TRAINER, "learning_rate", 0.1)
    monkeypatch.setitem(TRAINER, "model_arguments", {"depths": [2, 2, 2]})
    told, outputs = run(tmp_path, examples, monkeypatch, algorithm="random")
    assert "(as configured)" in told.result
    found = outcome.applied(trainer.Parameters(**TRAINER), outputs["best_hyperparameters"].uri)
    assert found == trainer.Parameters(**TRAINER)


@pytest.mark.parametrize(
    ("objective", "direction", "expected"),
    [("eval_loss", None, "min"), ("eval_accuracy", None, "max"), ("eval_loss", "max", "max")],
)
def test_the_direction_goes_by_the_name(
    objective, direction, expected, tmp_path, examples, monkeypatch
):
    _, outputs = run(
        tmp_path, examples, monkeypatch, objective=objective, direction=direction, finalists=0
    )
    record = read(outputs["tuner_results"].uri / RECORD)
    scores = [trial.score for trial in record.trials]
    winner = next(trial for trial in record.trials if trial.id == record.best)
    assert record.direction == expected
    assert winner.score == (min if expected == "min" else max)(scores)


def test_a_search_without_a_score_fails(tmp_path, examples, monkeypatch):
    def failing(search, *rest):
        search.end(search.next("nobody").id, "FAILED", reason="no memory")

    with pytest.raises(PipelineError, match=r"none of 1 trials has a score; .*no memory"):
        run(tmp_path, examples, monkeypatch, chief=failing)


def test_without_a_split_to_compare_on_nothing_begins(tmp_path, monkeypatch):
    only = data.write(tmp_path / "examples", train=12)
    with pytest.raises(DataError, match="no examples in a split 'eval'"):
        run(tmp_path, only, monkeypatch)


def test_a_budget_for_nothing_is_refused(tmp_path, examples, monkeypatch):
    with pytest.raises(UsageError, match=r"tuner\.max_epochs 14: 14 are for the configuration"):
        run(tmp_path, examples, monkeypatch, max_epochs=14)


def tuned(**parameters):
    return config.validate(
        {
            **builders.TINY_RUN,
            "tuner": {"space": {"learning_rate": SPACE["learning_rate"]}, **parameters},
        },
        "tuned",
    )


def test_it_is_in_the_graph_where_there_is_something_to_search():
    nodes = {node.name: node for node in graph.build(tuned())}
    assert nodes["Tuner"].inputs == {
        "examples": ("ExampleGen", "examples"),
        "statistics": ("StatisticsGen", "statistics"),
    }
    assert nodes["Tuner"].parameters.trainer == tuned().trainer
    assert nodes["Trainer"].inputs["hyperparameters"] == ("Tuner", "best_hyperparameters")
    without = config.validate(builders.TINY_RUN, "plain")
    plain = {node.name: node for node in graph.build(without)}
    assert "Tuner" not in plain
    assert "hyperparameters" not in plain["Trainer"].inputs


def test_a_search_goes_on_with_another_number_of_workers(tmp_path):
    one, two, other = (
        next(node for node in graph.build(found) if node.name == "Tuner")
        for found in (tuned(workers=1), tuned(workers=2), tuned(workers=1, seed=1))
    )
    assert step.own_dependencies(one) == step.own_dependencies(two)
    assert step.own_dependencies(one) != step.own_dependencies(other)


def test_who_reads_of_a_tuner_that_is_not_there_is_told():
    reader = {
        "name": "Reader",
        "function": "tests.pipeline.orchestration.own:count",
        "inputs": {"results": "Tuner.tuner_results"},
    }
    with pytest.raises(UsageError, match=r"Tuner is not in this run; tuner\.space puts it in"):
        config.validate({**builders.TINY_RUN, "components": [reader]}, "reader")


@pytest.mark.slow
def test_a_run_searches_trains_with_the_best_and_does_not_search_again(tmp_path, monkeypatch):
    """Without trials in processes of their own, which the example of docs/tuning.md has."""
    monkeypatch.setattr(chief, "run", scripted)
    found = replace(tuned(max_trials=2, epochs=1, algorithm="random"), root=tmp_path)
    first = api.run(found, to="Trainer")
    results = first.components["Tuner"].outputs
    record = read(results["tuner_results"].uri / RECORD)
    assert {trial.state for trial in record.trials} == {"COMPLETED"}
    rate = outcome.values(results["best_hyperparameters"].uri)["learning_rate"]
    run = first.components["Trainer"].outputs["model_run"].uri
    settings = json.loads((run / "settings.json").read_text())
    assert settings["recipe"]["learning_rate"] == rate
    again = api.run(found, to="Trainer")
    assert again.components["Tuner"].cached
    assert again.components["Trainer"].cached
