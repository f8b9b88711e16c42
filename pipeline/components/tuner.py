"""Tuner: searches the best values of Trainer's parameters, as long as its budget lasts."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.components import trainer
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.records import manifest
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.trial import RECORD, Record

if TYPE_CHECKING:
    from pipeline.tuning.chief import Job
    from pipeline.tuning.finals import Rules
    from pipeline.tuning.search import Search
    from pipeline.tuning.space import Space

__all__ = ["IMMATERIAL", "OUTPUTS", "RESUMABLE", "Parameters", "attend", "check", "external", "run"]

OUTPUTS = {"best_hyperparameters": "HyperParameters", "tuner_results": "TunerResults"}
RESUMABLE = True
# A search goes on with more of them, or fewer.
IMMATERIAL = ("workers",)

_LEAST = ("loss", "error")
_LOCAL = "localhost"


def check(parameters: Parameters) -> None:
    """Raises UsageError when some value of the space can never be trained with.

    Loads Keras; everything that can be checked without it is checked when the configuration is
    read.
    """
    _leave_memory()
    from pipeline.tuning import feasibility

    feasibility.check(parameters)


def external(parameters: Parameters) -> dict[str, str] | None:
    """Returns the SHA-256 of what lies outside the package and the trials depend on."""
    return trainer.external(parameters.trainer)


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `best_hyperparameters.txt`, `tuner_results.json` and `search.json`, the whole record.

    A killed search goes on from its last finished trials, in `context.state`.

    Raises:
        DataError: The examples have no split `eval`.
        UsageError: The budget does not suffice for anything.
        PipelineError: All trials failed.
        KeyboardInterrupt: Ctrl-C; the trials that were running go on from a checkpoint.
    """
    _leave_memory()
    from pipeline.tuning import chief, hparams, outcome
    from pipeline.tuning.budget import Budget
    from pipeline.tuning.oracle import Oracle
    from pipeline.tuning.search import Search
    from pipeline.tuning.space import Space

    job = _job(inputs, parameters, context)
    job.state.mkdir(parents=True, exist_ok=True)
    root = inputs["examples"].uri
    contents = manifest.load(root)
    if "eval" not in contents.splits or not contents.splits["eval"].examples:
        raise DataError(
            f"{root}: has no examples in a split 'eval', on which trials are compared; "
            "give example_gen.splits one"
        )
    rules = _rules(parameters, contents.splits["eval"].examples)
    budget = Budget(
        parameters.max_trials,
        parameters.max_epochs,
        None if parameters.max_minutes is None else 60 * parameters.max_minutes,
        parameters.workers,
    )
    space = Space(parameters.space)
    default = _default(space, parameters)
    oracle = Oracle(
        parameters,
        space.to_keras_tuner(default),
        space.encode(default),
        rules.epochs,
        rules.direction,
    )
    found = Search(
        job.state / RECORD, parameters.algorithm, oracle, default, space.decode, rules, budget
    )
    chief.run(found, job, context, _host())
    verdict = found.verdict
    if verdict.best is None:
        raise PipelineError(f"{_hopeless(found)}; remove {job.state} to begin anew")
    best = next(trial for trial in found.trials if trial.id == verdict.best)
    hyperparameters = oracle.hyperparameters(space.encode(best.values)).get_config()
    record = found.record(verdict.best, verdict.reason)
    outcome.write_best(outputs["best_hyperparameters"].uri, hyperparameters)
    results = outputs["tuner_results"]
    outcome.write_results(results.uri, found.trials)
    files.write_json(results.uri / RECORD, dataclasses.asdict(record))
    hparams.write(record, results.uri / "tensorboard")
    results.properties.update(trials=len(found.trials), best=verdict.best, score=best.score)
    context.say(f"trial {verdict.best}: {verdict.reason}")
    return Outcome(_result(record))


def attend(inputs: dict[str, Artifact], parameters: Parameters, context: Context) -> None:
    """Does trials for the search of another machine, if one goes on, until it ends."""
    from pipeline.tuning import chief

    if _host() != _LOCAL:  # on one machine the chief has all the workers that were asked for
        chief.join(_job(inputs, parameters, context), context)


def _leave_memory() -> None:
    """Lets this process take no more of a GPU than it needs: the trials have others."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def _job(inputs: dict[str, Artifact], parameters: Parameters, context: Context) -> "Job":
    from pipeline.tuning.chief import Job

    if context.state is None:
        raise PipelineError("a search needs a directory to keep its trials in")
    return Job(inputs, parameters, context.state)


def _rules(parameters: Parameters, examples: int) -> "Rules":
    from pipeline.tuning import execution, finals

    direction = parameters.direction
    if direction is None:
        direction = "min" if parameters.objective.endswith(_LEAST) else "max"
    rules = finals.Rules(
        objective=parameters.objective,
        direction=direction,
        epochs=execution.settled_epochs(parameters),
        finalists=parameters.finalists,
        seeds=parameters.final_seeds,
        seed=parameters.trainer.seed,
        examples=examples,
    )
    least = (1 + rules.most) * rules.epochs
    if parameters.max_epochs is not None and parameters.max_epochs <= least:
        raise UsageError(
            f"tuner.max_epochs {parameters.max_epochs}: {least} are for the configuration as it is "
            f"and for {rules.most} final trainings of {rules.epochs} epochs, and nothing is left "
            "to search with; raise it, or lower tuner.finalists, tuner.final_seeds or tuner.epochs"
        )
    return rules


def _default(space: "Space", parameters: Parameters) -> dict[str, Any]:
    """Returns the values of the configuration, of the keys that are active."""
    from pipeline.tuning import execution
    from pipeline.tuning.configured import configured

    given = configured(execution.whole(parameters), space.dimensions)
    found: dict[str, Any] = {}
    for key in space.dimensions:
        if key in given and space.active(key, found) is not None:
            found[key] = given[key]
    return found


def _host() -> str:
    """Returns where workers of other machines find the chief, by TF_CONFIG."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return _LOCAL
    return json.loads(text)["cluster"]["worker"][0].rpartition(":")[0]


def _hopeless(found: "Search") -> str:
    trials = found.trials
    last = trials[-1]
    return f"none of {len(trials)} trials has a score; the last one, {last.id}: {last.reason}"


def _result(record: Record) -> str:
    best = next(trial for trial in record.trials if trial.id == record.best)
    ended = [trial.state for trial in record.trials]
    counts = ", ".join(
        f"{ended.count(state)} {state.lower()}"
        for state in ("COMPLETED", "FAILED", "REJECTED", "STOPPED")
        if state in ended
    )
    values = ", ".join(f"{name}={value}" for name, value in best.values.items())
    kept = " (as configured)" if best.kind == "default" else ""
    return (
        f"{len(ended)} trials ({counts}); best {values}{kept}: {record.objective} {best.score:.4g}"
    )
