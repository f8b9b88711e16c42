"""Where a version comes from: the executions in front of it, back to the images, and their code."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.orchestration import lookup
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.fingerprint import digest
from pipeline.orchestration.history import Execution, Run
from pipeline.orchestration.store import Store
from pipeline.serving import versions

_MODEL = "model"


@dataclass(frozen=True)
class Origin:
    """An execution and what it was made from.

    Args:
        execution: The execution.
        run: The run that it was first a step of; None where it was of none.
        inputs: Input key to the artifact and the origin of that; None where the origin is not
            known.
    """

    execution: Execution
    run: Run | None
    inputs: dict[str, tuple[Artifact, "Origin | None"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """What is known of a version, or of an artifact.

    Args:
        path: The directory that was asked about.
        origin: What made it.
        record: What was written down when it was pushed; empty for an artifact of a run.
    """

    path: Path
    origin: Origin
    record: dict[str, Any] = field(default_factory=dict)


def of(path: Path, root: Path) -> Lineage:
    """Returns where a pushed version, or an artifact of a run, comes from.

    A version is recognised by the digest of the model that was written down with it, so that copies
    lead to the original, and roots may have been moved.

    Args:
        path: A version such as `saved_models/digits/7`, the directory of a model for its newest
            version, or an artifact such as `runs/digits/Trainer/model/5`.
        root: Where artifacts are kept: a pipeline root or a folder of these.

    Raises:
        UsageError: There is no such directory, or nothing below `root` knows of it.
        DataError: A record is damaged.
    """
    if found := lookup.artifact(path):
        store, number = found
        return Lineage(path, _origin(store, number, {}))
    version = versions.resolve(path)
    record = versions.record(version)
    if not record:
        raise UsageError(
            f"{version}: nothing was written down when it was put there, as not `push` nor Pusher "
            "did so"
        )
    content = record.get("sources", {}).get(_MODEL)
    if content is None:
        raise UsageError(
            f"{version}: was pushed from a SavedModel that no run of this program made"
        )
    for store in _likely_first(lookup.stores(root), record):
        if (maker := store.maker(content)) is not None:
            number = _pusher(store, content, record) or maker.id
            return Lineage(version, _origin(store, number, {}), record)
    raise UsageError(
        f"{version}: no run below {str(root)!r} made the model {content[:12]} that is in it; --root "
        "says where the artifacts of the run are kept"
    )


def _likely_first(stores: Iterable[Store], record: dict[str, Any]) -> list[Store]:
    return sorted(stores, key=lambda store: store.root.name != record.get("run"))


def _pusher(store: Store, content: str, record: dict[str, Any]) -> int | None:
    """Returns the execution of Pusher that first pushed this model, or None if `push` did."""
    pushers = [
        execution
        for execution in store.readers(content)
        if execution.component == "Pusher"
        and any(
            artifact.properties.get("pushed") == 1
            and artifact.properties.get("digest") == record.get("digest")
            for artifact in execution.outputs.values()
        )
    ]
    return min((execution.id for execution in pushers), default=None)


def _origin(store: Store, number: int, known: dict[int, Origin]) -> Origin:
    """Returns an execution with what is in front of it; equal ones are one object."""
    if number not in known:
        execution = store.executions([number])[number]
        inputs: dict[str, tuple[Artifact, Origin | None]] = {}
        for key, artifact in execution.inputs.items():
            maker = store.writer(artifact)
            inputs[key] = (artifact, _origin(store, maker, known) if maker else None)
        known[number] = Origin(execution, store.first_run(number), inputs)
    return known[number]


def as_json(lineage: Lineage) -> dict[str, Any]:
    """Returns everything that is known, as JSON values; executions by their numbers."""
    executions: dict[str, Any] = {}
    runs: dict[str, Any] = {}

    def visit(origin: Origin) -> None:
        execution = origin.execution
        if str(execution.id) in executions:
            return
        executions[str(execution.id)] = {
            "component": execution.component,
            "state": execution.state,
            "started": execution.started,
            "seconds": execution.seconds,
            "result": execution.outcome.result if execution.outcome else None,
            "run": origin.run.id if origin.run else None,
            "dependencies": execution.dependencies,
            "code": code_digest(execution),
            "inputs": {
                key: _artifact(artifact, above) for key, (artifact, above) in origin.inputs.items()
            },
            "outputs": {
                key: _artifact(artifact, None) for key, artifact in execution.outputs.items()
            },
        }
        if origin.run is not None:
            run = origin.run
            runs[str(run.id)] = {
                "command": run.command,
                "commit": run.commit,
                "started": run.started,
                "config": run.config,
            }
        for _, above in origin.inputs.values():
            if above is not None:
                visit(above)

    visit(lineage.origin)
    return {
        "path": str(lineage.path),
        "pushed": lineage.record,
        "execution": lineage.origin.execution.id,
        "executions": executions,
        "runs": runs,
    }


def code_digest(execution: Execution) -> str:
    """Returns one digest of all modules that an execution ran."""
    return digest(execution.dependencies.get("code") or {})


def _artifact(artifact: Artifact, above: Origin | None) -> dict[str, Any]:
    return {
        "type": artifact.type,
        "uri": str(artifact.uri),
        "digest": artifact.digest,
        "properties": artifact.properties,
        "execution": above.execution.id if above else None,
    }


def examples(lineage: Lineage) -> list[Artifact]:
    """Returns the Examples that a version was made from, or measured with."""
    found: dict[str, Artifact] = {}
    pending = [lineage.origin]
    while pending:
        origin = pending.pop()
        written = origin.execution.outputs.values()
        for artifact in (*written, *(artifact for artifact, _ in origin.inputs.values())):
            if artifact.type == "Examples":
                found[artifact.digest] = artifact
        pending += [above for _, above in origin.inputs.values() if above is not None]
    return list(found.values())
