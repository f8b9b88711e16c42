"""What differs between two runs: configuration, code, libraries, data, metrics."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.history import Execution, Run
from pipeline.orchestration.reader import Reader
from pipeline.orchestration.why import differing, edited, flat, shown

_MANIFEST = "manifest.json"


def between(old: tuple[Reader, Run], new: tuple[Reader, Run]) -> dict[str, list[str]]:
    """Returns heading to lines, of everything that differs; headings without lines are left out.

    Args:
        old: A run and its store.
        new: The other one.

    Raises:
        DataError: The manifest of the data of one of them is damaged.
    """
    before, after = (_executions(*run) for run in (old, new))
    # What ran in one of both alone is told by the results.
    both = before.keys() & after.keys()
    before, after = ({name: run[name] for name in both} for run in (before, after))
    commits = {"commit": old[1].commit}, {"commit": new[1].commit}
    found = {
        "configuration": _lines(flat(old[1].config), flat(new[1].config)),
        "code": _lines(*commits) + _of_modules(before, after),
        "libraries": _lines(_all(before, "libraries"), _all(after, "libraries")),
        "data": _lines(_counts(old[1]), _counts(new[1])),
        "metrics": _lines(_metrics(old[1]), _metrics(new[1])),
        "results": _lines(_states(old[1]), _states(new[1])),
    }
    return {heading: lines for heading, lines in found.items() if lines}


def _executions(store: Reader, run: Run) -> dict[str, Execution]:
    numbers = [step.execution_id for step in run.steps if step.execution_id is not None]
    return {execution.component: execution for execution in store.executions(numbers).values()}


def _all(executions: Mapping[str, Execution], kind: str) -> dict[str, Any]:
    """Returns the modules or the libraries of all components together."""
    merged: dict[str, Any] = {}
    for execution in executions.values():
        merged |= execution.dependencies.get(kind) or {}
    return merged


def _of_modules(before: Mapping[str, Execution], after: Mapping[str, Execution]) -> list[str]:
    old, new = _all(before, "code"), _all(after, "code")
    return [f"module {name}: {edited(old, new, name)}" for name in differing(old, new)]


def _lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {shown(old, name)} → {shown(new, name)}" for name in differing(old, new)]


def _counts(run: Run) -> dict[str, Any]:
    """Returns how many images of each class are in each split."""
    examples = _output(run, "ExampleGen", "examples")
    if examples is None or not (path := examples.uri / _MANIFEST).is_file():
        return {}
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        counts = {
            f"{split}, images of {name}": count
            for split, content in splits.items()
            for name, count in content["class_counts"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: not a manifest; run ExampleGen again") from None
    return {"content": examples.digest, **counts}


def _metrics(run: Run) -> dict[str, Any]:
    evaluation = _output(run, "Evaluator", "evaluation")
    return flat(evaluation.properties) if evaluation else {}


def _states(run: Run) -> dict[str, str]:
    """Returns how each component ended; one that was used again counts as one that did well."""
    return {
        step.component: "REFUSED" if step.refusal else step.state.replace("CACHED", "COMPLETE")
        for step in run.steps
    }


def _output(run: Run, component: str, key: str) -> Artifact | None:
    step = run.step(component)
    return step.outputs.get(key) if step else None
