"""What ran: executions, and the runs that they were steps of, as the store tells of them."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.orchestration import rows
from pipeline.orchestration.artifact import Artifact, Outcome

NEW = "NEW"
RUNNING = "RUNNING"
COMPLETE = "COMPLETE"
FAILED = "FAILED"
CACHED = "CACHED"
CANCELED = "CANCELED"

# Types of contexts; the first two are TFX's.
PIPELINE, RUN, CODE = "pipeline", "pipeline_run", "code"


@dataclass(frozen=True)
class Execution:
    """One execution of one component.

    Args:
        id: Positive, unique within the pipeline root.
        component: Name of the component.
        key: What the execution depends on, as a digest; equal keys give equal results.
        dependencies: What the key was made of, readable.
        state: `RUNNING`, `COMPLETE`, `FAILED` or `CANCELED`, as in ML Metadata; `CACHED` for one
            that did nothing, as an earlier one was used again.
        outputs: Output key to artifact.
        outcome: The result line and the refusal, once complete.
        started: Seconds since 1970.
        seconds: Wall time taken, once ended.
        error: Why it failed.
        inputs: Input key to artifact.
        used: The execution that was used again, of one that is `CACHED`.
    """

    id: int
    component: str
    key: str
    dependencies: dict[str, Any]
    state: str
    outputs: dict[str, Artifact] = field(default_factory=dict)
    outcome: Outcome | None = None
    started: float = 0.0
    seconds: float = 0.0
    error: str = ""
    inputs: dict[str, Artifact] = field(default_factory=dict)
    used: int | None = None


@dataclass(frozen=True)
class Step:
    """What one component contributed to a run.

    Args:
        component: Name of the component.
        state: `COMPLETE`, `CACHED`, `FAILED`, `CANCELED`, `RUNNING`, or `NEW` where it did not run.
        cached: Whether an earlier execution was used again.
        seconds: Wall time that this run spent on it.
        execution_id: The execution that made the outputs, or failed to; None where it did not run.
        result: Its result line.
        refusal: Why nothing that depends on it was run, or None.
        error: Why it failed.
        attempts: How often this run tried.
        depends_on: The components that have to end well before it begins.
        outputs: Output key to artifact.
        inputs: Input key to artifact.
    """

    component: str
    state: str = NEW
    cached: bool = False
    seconds: float = 0.0
    execution_id: int | None = None
    result: str = ""
    refusal: str | None = None
    error: str = ""
    attempts: int = 0
    depends_on: tuple[str, ...] = ()
    outputs: dict[str, Artifact] = field(default_factory=dict)
    inputs: dict[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a pipeline.

    Args:
        id: Positive, unique within the pipeline root.
        pipeline: Name of the pipeline and of its model.
        state: `RUNNING`, `COMPLETE`, `FAILED` (also where a component refused) or `CANCELED`.
        started: Seconds since 1970.
        seconds: Wall time taken, once ended.
        command: The command line that makes it again.
        config: The effective configuration.
        steps: What each component contributed, in the order of the graph.
        error: Why it failed.
        commit: The commit of the code, with `-dirty` where files differ from it; empty where the
            code is in no repository.
    """

    id: int
    pipeline: str
    state: str
    started: float
    seconds: float = 0.0
    command: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    error: str = ""
    commit: str = ""

    def step(self, component: str) -> Step | None:
        """Returns what `component` contributed, or None where the graph has none of that name."""
        return next((step for step in self.steps if step.component == component), None)


def executions(
    connection: sqlite3.Connection, root: Path, numbers: Iterable[int], brief: bool = False
) -> dict[int, Execution]:
    """Returns executions by their numbers.

    Args:
        connection: To the tables.
        root: The pipeline root.
        numbers: Those that are wanted.
        brief: Whether to leave out what they depend on.
    """
    numbers = list(numbers)
    names = ("key", "result", "refusal", "seconds", "error", "used") if brief else None
    properties = rows.get(connection, "Execution", numbers, names=names)
    events = rows.events(connection, root, numbers)
    code = {} if brief else _code(connection, numbers)
    found = connection.execute(
        "SELECT Execution.id, Type.name, Execution.last_known_state, "
        "Execution.create_time_since_epoch FROM Execution "
        "JOIN Type ON Type.id = Execution.type_id "
        "WHERE Execution.id IN (SELECT value FROM json_each(?)) ORDER BY Execution.id",
        (json.dumps(numbers),),
    )
    made = {}
    for number, component, state, started in found:
        own = properties.get(number, {})
        made[number] = Execution(
            id=number,
            component=component,
            key=own.get("key", ""),
            dependencies={**own.get("dependencies", {}), **code.get(number, {})},
            state=rows.STATES[state],
            outputs=events[number][rows.OUTPUT],
            outcome=Outcome(own["result"], own.get("refusal")) if "result" in own else None,
            started=started / 1000,
            seconds=own.get("seconds", 0.0),
            error=own.get("error", ""),
            inputs=events[number][rows.INPUT],
            used=own.get("used"),
        )
    return made


def _code(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, dict[str, Any]]:
    """Returns the digests of the modules that each execution ran."""
    found = connection.execute(
        "SELECT Association.execution_id, Context.id FROM Association "
        "JOIN Context ON Context.id = Association.context_id "
        "JOIN Type ON Type.id = Context.type_id AND Type.name = ? "
        "WHERE Association.execution_id IN (SELECT value FROM json_each(?))",
        (CODE, json.dumps(numbers)),
    ).fetchall()
    contexts = rows.get(connection, "Context", {context for _, context in found})
    return {execution: {"code": contexts[context]["modules"]} for execution, context in found}


def runs(
    connection: sqlite3.Connection, root: Path, numbers: Iterable[int] | None, last: int | None
) -> list[Run]:
    """Returns runs, the oldest first.

    Args:
        connection: To the tables.
        root: The pipeline root.
        numbers: Those that are wanted; None for all.
        last: Only the newest so many of them; None for all.
    """
    kind = rows.known_type(connection, rows.CONTEXT_TYPE, RUN)
    wanted = None if numbers is None else json.dumps([str(number) for number in numbers])
    contexts = dict(
        connection.execute(
            "SELECT id, CAST(name AS INTEGER) FROM Context WHERE type_id = ?1 "
            "AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2))) "
            "ORDER BY id DESC LIMIT ?3",
            (kind, wanted, -1 if last is None else last),
        ).fetchall()[::-1]
    )
    properties = rows.get(connection, "Context", contexts)
    steps = _steps(connection, root, properties)
    return [
        _run(number, properties[context], steps[context]) for context, number in contexts.items()
    ]


def _run(number: int, own: dict[str, Any], steps: list[Step]) -> Run:
    return Run(
        id=number,
        pipeline=own["pipeline"],
        state=own["state"],
        started=own["started"],
        seconds=own.get("seconds", 0.0),
        command=own["command"],
        config=own["config"],
        steps=steps,
        error=own.get("error", ""),
        commit=own["commit"],
    )


def _steps(
    connection: sqlite3.Connection, root: Path, properties: dict[int, dict[str, Any]]
) -> dict[int, list[Step]]:
    """Returns the steps of runs by the numbers of their contexts."""
    associated = connection.execute(
        "SELECT context_id, execution_id FROM Association "
        "WHERE context_id IN (SELECT value FROM json_each(?)) ORDER BY execution_id",
        (json.dumps(list(properties)),),
    ).fetchall()
    known = executions(connection, root, {number for _, number in associated}, brief=True)
    tries: dict[int, dict[str, list[Execution]]] = defaultdict(lambda: defaultdict(list))
    for context, number in associated:
        tries[context][known[number].component].append(known[number])
    return {
        context: [
            _step(component, tuple(depends_on), tries[context][component])
            for component, depends_on in own["graph"]
        ]
        for context, own in properties.items()
    }


def _step(component: str, depends_on: tuple[str, ...], tries: list[Execution]) -> Step:
    if not tries:
        return Step(component, depends_on=depends_on)
    last = tries[-1]
    return Step(
        component=component,
        state=last.state,
        cached=last.state == CACHED,
        seconds=sum(execution.seconds for execution in tries),
        execution_id=last.used or last.id,
        result=last.outcome.result if last.outcome else "",
        refusal=last.outcome.refusal if last.outcome else None,
        error=last.error,
        attempts=len(tries),
        depends_on=depends_on,
        outputs=last.outputs,
        inputs=last.inputs,
    )
