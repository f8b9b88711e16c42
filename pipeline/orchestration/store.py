"""The executions of a pipeline on disk: where artifacts live and which can be used again.

Layout below the pipeline root, after TFX:

    <Component>/<output key>/<execution id>/   an artifact, complete from the moment it is there
    .system/executions/<execution id>.json     what made it, from what, and how that ended
    .system/last_used/<Component>.json         the execution that the last run made or used again
    .system/staging/<execution id>/            what a running execution has written so far
    .system/running/<execution id>             locked for as long as its process lives
    <Component>/.system/stateful_working_dir/<key>/  what a killed execution leaves to the next one
"""

import contextlib
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Outcome

RUNNING = "RUNNING"
COMPLETE = "COMPLETE"
FAILED = "FAILED"
CANCELED = "CANCELED"


@dataclass(frozen=True)
class Execution:
    """One execution of one component.

    Args:
        id: Positive, unique within the pipeline root.
        component: Name of the component.
        key: What the execution depends on, as a digest; equal keys give equal results.
        dependencies: What the key was made of, readable.
        state: `RUNNING`, `COMPLETE`, `FAILED` or `CANCELED`, as in ML Metadata.
        outputs: Output key to artifact.
        outcome: The result line and the refusal, once complete.
        started: Seconds since 1970.
        seconds: Wall time taken, once ended.
        error: Why it failed.
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


class Store:
    """The executions and the artifacts below one pipeline root.

    Two processes may use one root at once: identifiers are taken by exclusive creation, and every
    artifact and record appears by one rename.

    Args:
        root: The pipeline root; nothing is created before the first execution begins.
    """

    def __init__(self, root: Path):
        self.root = root.absolute()
        self._records = self.root / ".system" / "executions"
        self._staging = self.root / ".system" / "staging"
        self._running = self.root / ".system" / "running"
        self._last_used = self.root / ".system" / "last_used"
        self._locks: dict[int, int] = {}

    def begin(self, component: str, key: str, dependencies: dict[str, Any]) -> Execution:
        """Records that `component` starts now, and returns its execution with a new identifier."""
        self._records.mkdir(parents=True, exist_ok=True)
        self._close_dead()
        number = max(self._identifiers(), default=0) + 1
        while True:
            try:
                (self._records / f"{number}.json").touch(exist_ok=False)
                break
            except FileExistsError:
                number += 1
        self._lock(number)
        execution = Execution(
            id=number,
            component=component,
            key=key,
            dependencies=dependencies,
            state=RUNNING,
            started=time.time(),
        )
        self._save(execution)
        return execution

    def staging(self, execution: Execution, output: str) -> Path:
        """Returns a new directory into which the running `execution` writes its `output`."""
        path = self._staging / str(execution.id) / output
        path.mkdir(parents=True)
        return path

    def complete(
        self, execution: Execution, outputs: dict[str, Artifact], outcome: Outcome
    ) -> Execution:
        """Publishes the staged `outputs` and records that `execution` is complete.

        The record is written last: what has no record of completion is never used again.
        """
        published = {}
        for name, artifact in outputs.items():
            uri = self.root / execution.component / name / str(execution.id)
            files.publish_directory(artifact.uri, uri)
            published[name] = replace(
                artifact, uri=uri, digest=files.tree_digest(uri), listing=files.tree_listing(uri)
            )
        return self._ended(execution, COMPLETE, outputs=published, outcome=outcome)

    def state(self, component: str, key: str) -> Path:
        """Returns where executions of `component` under `key` keep what the next one may need."""
        return self.root / component / ".system" / "stateful_working_dir" / key

    @contextlib.contextmanager
    def alone(self, component: str, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Holds the right to execute `component` under `key`; another process may have it first.

        Args:
            component: Name of the component.
            key: What the execution depends on.
            waiting: Called when it has to be waited for.
        """
        folder = self.state(component, key).parent
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{key}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def abandon(self, execution: Execution, state: str, error: str) -> Execution:
        """Removes what `execution` staged and records that it ended as `state`."""
        return self._ended(execution, state, error=error)

    def find(self, component: str, key: str) -> Execution | None:
        """Returns the newest execution of `component` under `key` that ended well and stands.

        An artifact of which a file is missing, added or of another size does not count.
        """
        for execution in self.completed(component):
            # A refusal may have had a passing cause; whoever runs again wants to know anew.
            refused = execution.outcome is not None and execution.outcome.refusal is not None
            if (
                execution.key == key
                and not refused
                and all(_stands(artifact) for artifact in execution.outputs.values())
            ):
                return execution
        return None

    def completed_with(self, component: str, dependencies: dict[str, Any]) -> bool:
        """Returns whether `component` ever completed with all of these dependencies."""
        return any(
            dependencies.items() <= execution.dependencies.items()
            for execution in self.completed(component)
        )

    def previous_span(self, component: str, output: str, current: Artifact) -> Artifact | None:
        """Returns what `component` wrote last for the greatest span before that of `current`.

        Args:
            component: Name of the component.
            output: Its output key.
            current: An artifact of the same kind; one without a span has none before it.
        """
        found = None
        for execution in self.completed(component):
            artifact = execution.outputs.get(output)
            # The newest come first, so that of equal spans the first one stays.
            if (
                artifact is not None
                and _span(artifact) < _span(current)
                and (found is None or _span(artifact) > _span(found))
                and _stands(artifact)
            ):
                found = artifact
        return found

    def completed(self, component: str) -> Iterator[Execution]:
        """Yields the complete executions of `component`, the newest first."""
        for number in sorted(self._identifiers(), reverse=True):
            execution = self._load(number)
            if execution and (execution.component, execution.state) == (component, COMPLETE):
                yield execution

    def use(self, execution: Execution) -> None:
        """Records that a run uses `execution`: it has just made it, or uses it again."""
        found = self.last_used(execution.component)
        if found is None or found.id != execution.id:
            path = self._last_used / f"{execution.component}.json"
            files.write_json(path, {"execution": execution.id})

    def last_used(self, component: str) -> Execution | None:
        """Returns the complete execution of `component` that a run used last, where one is known.

        Raises:
            DataError: The record of it is damaged.
        """
        path = self._last_used / f"{component}.json"
        try:
            number = json.loads(path.read_text())["execution"]
            execution = self._load(number)
        except FileNotFoundError:
            return None  # of an older version of this program, or removed by a person
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: not a record of a use; remove the file") from None
        return execution if execution and execution.state == COMPLETE else None

    def _identifiers(self) -> list[int]:
        if not self._records.is_dir():
            return []
        return [int(path.stem) for path in self._records.glob("*.json") if path.stem.isdigit()]

    def _ended(self, execution: Execution, state: str, **changes: Any) -> Execution:
        shutil.rmtree(self._staging / str(execution.id), ignore_errors=True)
        seconds = time.time() - execution.started
        execution = replace(execution, state=state, seconds=seconds, **changes)
        self._save(execution)
        self._unlock(execution.id)
        return execution

    def _close_dead(self) -> None:
        """Records the end of executions whose process died, and removes what they staged."""
        for path in self._running.glob("*"):
            number = int(path.name)
            # Empty while its process is about to write it, and about to take the lock.
            if self._load(number) is None or not self._lock(number):
                continue
            # Read under the lock: it may have ended well since the look above.
            execution = self._load(number)
            if execution and execution.state == RUNNING:
                self._ended(execution, FAILED, error="its process died")
            else:
                self._unlock(number)

    def _lock(self, number: int) -> bool:
        """Takes the lock of an execution; False while the process that runs it lives."""
        self._running.mkdir(exist_ok=True)
        descriptor = os.open(self._running / str(number), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks[number] = descriptor
        return True

    def _unlock(self, number: int) -> None:
        (self._running / str(number)).unlink(missing_ok=True)
        os.close(self._locks.pop(number))

    def _save(self, execution: Execution) -> None:
        record = asdict(execution)
        for artifact in record["outputs"].values():
            artifact["uri"] = artifact["uri"].relative_to(self.root).as_posix()
        files.write_json(self._records / f"{execution.id}.json", record)

    def _load(self, number: int) -> Execution | None:
        """Returns the execution recorded under `number`, or None while it has only the number."""
        path = self._records / f"{number}.json"
        text = path.read_text()
        if not text:
            return None
        try:
            record = json.loads(text)
        except json.JSONDecodeError:
            raise DataError(f"{path}: not a record of an execution; remove the file") from None
        if record.keys() != {field.name for field in fields(Execution)}:
            return None  # of another version of this program, whose results are not used anyway
        outputs = {
            name: Artifact(**{**artifact, "uri": self.root / artifact["uri"]})
            for name, artifact in record["outputs"].items()
        }
        outcome = Outcome(**record["outcome"]) if record["outcome"] else None
        return Execution(**{**record, "outputs": outputs, "outcome": outcome})


def _stands(artifact: Artifact) -> bool:
    """Whether the files of an artifact are all there, of the sizes that they had."""
    return files.tree_listing(artifact.uri) == artifact.listing


def _span(artifact: Artifact) -> float:
    """Returns the span of an artifact; one without is of no time at all."""
    return artifact.properties.get("span", math.nan)
