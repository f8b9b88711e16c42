"""The executions of a pipeline on disk: where artifacts live and which can be used again.

Layout below the pipeline root, after TFX:

    <Component>/<output key>/<execution id>/   an artifact, complete from the moment it is there
    .system/metadata.sqlite                    what made it, from what, in which run, how that ended
    .system/staging/<execution id>/            what a running execution has written so far
    .system/running/<execution id>, run-<id>   locked for as long as its process lives
    <Component>/.system/stateful_working_dir/<key>/  what a killed execution leaves to the next one
"""

import contextlib
import fcntl
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration import history, rows
from pipeline.orchestration.artifact import Artifact, Outcome
from pipeline.orchestration.fingerprint import digest
from pipeline.orchestration.history import (
    CACHED,
    CANCELED,
    COMPLETE,
    FAILED,
    RUNNING,
    Execution,
    Run,
    Step,
)
from pipeline.orchestration.liveness import Locks
from pipeline.orchestration.reader import SYSTEM, Reader, own_key

__all__ = [
    "CACHED",
    "CANCELED",
    "COMPLETE",
    "FAILED",
    "RUNNING",
    "Execution",
    "Run",
    "Step",
    "Store",
]

_DIED = "its process died"


class _RemovedError(DataError):
    """An artifact was removed since it was found."""


class Store(Reader):
    """The executions and the artifacts below one pipeline root.

    Threads and processes may use one root at once: every change of the records is one short
    transaction, and every artifact appears by one rename.

    Every method raises `DataError` where the file of records is damaged, and `PipelineError` where
    it cannot be used, such as on a full disk.

    Args:
        root: The pipeline root; nothing is created before the first run or execution begins.
    """

    def __init__(self, root: Path):
        super().__init__(root)
        self._staging = self.root / SYSTEM / "staging"
        self._locks = Locks(self.root / SYSTEM / "running")

    def begin_run(
        self,
        pipeline: str,
        graph: Sequence[tuple[str, Sequence[str]]],
        config: Mapping[str, Any] | None = None,
        command: str = "",
        commit: str = "",
    ) -> int:
        """Records that a run starts now, and returns its number; ends what was killed before.

        Args:
            pipeline: Name of the pipeline.
            graph: Its components in order, each with the names of those that it depends on.
            config: The effective configuration, as JSON values.
            command: The command line that makes the run again.
            commit: The commit of the code.
        """
        self._create()
        self.close_dead()
        with self._locks.kept_if_well() as take, self.database.writing() as connection:
            kind = rows.type_id(connection, rows.CONTEXT_TYPE, history.RUN)
            (last,) = connection.execute(
                "SELECT max(CAST(name AS INTEGER)) FROM Context WHERE type_id = ?", (kind,)
            ).fetchone()
            number = (last or 0) + 1
            take(f"run-{number}")
            context = rows.context_id(connection, history.RUN, str(number))
            parent = rows.context_id(connection, history.PIPELINE, pipeline)
            connection.execute("INSERT INTO ParentContext VALUES (?, ?)", (context, parent))
            properties = {
                "pipeline": pipeline,
                "state": RUNNING,
                "started": time.time(),
                "graph": [[name, list(depends_on)] for name, depends_on in graph],
                "config": dict(config or {}),
                "command": command,
                "commit": commit,
            }
            rows.put(connection, "Context", context, properties)
        return number

    def end_run(self, number: int, state: str, error: str = "") -> None:
        """Records that a run of this process ended as `state`."""
        try:
            self._end_run(number, state, None, error)
        finally:
            self._locks.free(f"run-{number}")

    def begin(
        self,
        component: str,
        key: str,
        dependencies: dict[str, Any],
        inputs: Mapping[str, Artifact] | None = None,
        run: int | None = None,
    ) -> Execution:
        """Records that `component` starts now, and returns its execution with a new identifier.

        Args:
            component: Name of the component.
            key: What it depends on, as a digest.
            dependencies: What the key was made of.
            inputs: What it reads, by input key.
            run: The number of the run that it is a step of.

        Raises:
            DataError: What it reads was removed meanwhile.
        """
        self._create()
        self.close_dead()
        inputs = dict(inputs or {})
        with self._locks.kept_if_well() as take, self.database.writing() as connection:
            number = self._insert(connection, component, RUNNING, inputs, run)
            # Whoever sees the execution has to see that it lives.
            take(str(number))
            kept = {name: value for name, value in dependencies.items() if name != "code"}
            own = {"key": key, "own": own_key(dependencies), "dependencies": kept}
            rows.put(connection, "Execution", number, own)
            if code := dependencies.get("code"):
                context = rows.context_id(connection, history.CODE, digest(code), {"modules": code})
                rows.associate(connection, context, number)
        return self.executions([number])[number]

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

    def abandon(self, execution: Execution, state: str, error: str) -> Execution:
        """Removes what `execution` wrote and records that it ended as `state`."""
        return self._ended(execution, state, error=error)

    def abandon_open(self) -> None:
        """Ends the executions that this object has begun and that a stopped run left behind."""
        numbers = [int(name) for name in self._locks.held if name.isdecimal()]
        for execution in self.executions(numbers).values():
            self.abandon(execution, CANCELED, "stopped with its run")

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

    def use(self, execution: Execution, run: int | None = None, seconds: float = 0.0) -> bool:
        """Records that a run uses `execution` again; False where its files were removed meanwhile.

        Args:
            execution: A complete execution.
            run: The number of the run.
            seconds: How long it took to find it.
        """
        try:
            with self.database.writing() as connection:
                number = self._insert(
                    connection, execution.component, CACHED, execution.inputs, run
                )
                for key, artifact in execution.outputs.items():
                    found = self._live(connection, artifact)
                    rows.put_event(connection, number, found, rows.OUTPUT, key)
                properties = {"key": execution.key, "used": execution.id, "seconds": seconds}
                rows.put(connection, "Execution", number, properties | _outcome(execution.outcome))
        except _RemovedError:
            return False
        return True

    def close_dead(self) -> None:
        """Records the end of what was running when its process died, and removes what it wrote."""
        if not self.exists:
            return
        with self.database.reading() as connection:
            executions, runs = _running(connection)
        for number in executions:
            if self._locks.take(str(number)):
                # Read under the lock: it may have ended well since the look above.
                execution = self.executions([number])[number]
                if execution.state == RUNNING:
                    self._ended(execution, FAILED, error=_DIED)
                else:
                    self._locks.free(str(number))
        for number in runs:
            if self._locks.take(f"run-{number}"):
                if (run := self.run(number)).state == RUNNING:
                    self._end_run(run.id, FAILED, _span_of(run), _DIED)
                self._locks.free(f"run-{number}")
        self._free_left_over()

    def _free_left_over(self) -> None:
        """Removes the locks of processes that died just before or after they recorded anything."""
        names = set(self._locks.of_others())
        if names:
            with self.database.reading() as connection:
                names -= _names(*_running(connection))
        if not names:
            return
        # Whoever begins takes its lock while it writes: now none is between lock and record.
        with self.database.writing() as connection:
            for name in names - _names(*_running(connection)):
                if self._locks.take(name):
                    self._locks.free(name)

    def _end_run(self, number: int, state: str, seconds: float | None, error: str) -> None:
        with self.database.writing() as connection:
            context = rows.context_id(connection, history.RUN, str(number))
            if seconds is None:
                seconds = (
                    time.time() - rows.get(connection, "Context", [context])[context]["started"]
                )
            properties = {"state": state, "seconds": seconds, "error": error}
            rows.put(connection, "Context", context, properties)

    def _create(self) -> None:
        """Makes the file of records where there is none; what lies there already keeps its number."""
        if not self.exists:
            there = (path.name for path in self.root.glob("*/*/*") if path.name.isdecimal())
            self.database.create(max(map(int, there), default=0) + 1)

    def _insert(
        self,
        connection: sqlite3.Connection,
        component: str,
        state: str,
        inputs: Mapping[str, Artifact],
        run: int | None,
    ) -> int:
        """Inserts an execution that reads `inputs` and returns its number."""
        number = connection.execute(
            "INSERT INTO Execution (type_id, last_known_state, create_time_since_epoch, "
            "last_update_time_since_epoch) VALUES (?, ?, ?, ?)",
            (
                rows.type_id(connection, rows.EXECUTION_TYPE, component),
                rows.STATES.index(state),
                stamp := rows.now(),
                stamp,
            ),
        ).lastrowid
        for key, artifact in inputs.items():
            # What an execution of long ago read may be gone when that one is used again.
            found = self._live(connection, artifact, any_state=state == CACHED)
            rows.put_event(connection, number, found, rows.INPUT, key)
        if run is not None:
            context = rows.context_id(connection, history.RUN, str(run))
            rows.associate(connection, context, number)
        return number

    def _live(
        self, connection: sqlite3.Connection, artifact: Artifact, any_state: bool = False
    ) -> int:
        """Returns the number of an artifact, which has to be there still."""
        number = rows.artifact_id(connection, self.root, artifact)
        if number is not None:
            (state,) = connection.execute(
                "SELECT state FROM Artifact WHERE id = ?", (number,)
            ).fetchone()
            if any_state or state == rows.LIVE:
                return number
        raise _RemovedError(f"{artifact.uri}: removed by another process; run again")

    def _ended(
        self,
        execution: Execution,
        state: str,
        outputs: Mapping[str, Artifact] | None = None,
        outcome: Outcome | None = None,
        error: str = "",
    ) -> Execution:
        shutil.rmtree(self._staging / str(execution.id), ignore_errors=True)
        if state != COMPLETE:  # it may have died, or met a full disk, after it published
            for path in (self.root / execution.component).glob(f"*/{execution.id}"):
                shutil.rmtree(path, ignore_errors=True)
        seconds = 0.0 if error == _DIED else time.time() - execution.started
        execution = replace(
            execution,
            state=state,
            seconds=seconds,
            outputs=dict(outputs or {}),
            outcome=outcome,
            error=error,
        )
        try:
            self._record(execution)
        except BaseException:
            if state != COMPLETE:  # it can still be abandoned
                self._locks.free(str(execution.id))
            raise
        self._locks.free(str(execution.id))
        return execution

    def _record(self, execution: Execution) -> None:
        """Writes down how an execution ended."""
        with self.database.writing() as connection:
            state = rows.STATES.index(execution.state)
            rows.set_state(connection, "Execution", execution.id, state)
            properties = {"seconds": execution.seconds, "error": execution.error}
            properties |= _outcome(execution.outcome)
            rows.put(connection, "Execution", execution.id, properties)
            for key, artifact in execution.outputs.items():
                number = rows.put_artifact(connection, self.root, artifact)
                rows.put_event(connection, execution.id, number, rows.OUTPUT, key)
                rows.attribute(connection, execution.id, number)


def _running(connection: sqlite3.Connection) -> tuple[list[int], list[int]]:
    """Returns the numbers of the executions and of the runs that are recorded as running."""
    executions = connection.execute(
        "SELECT id FROM Execution WHERE last_known_state = ?", (rows.STATES.index(RUNNING),)
    )
    runs = connection.execute(
        "SELECT Context.name FROM ContextProperty AS Own "
        "JOIN Context ON Context.id = Own.context_id "
        "WHERE Own.name = 'state' AND Own.string_value = ?",
        (RUNNING,),
    )
    return [number for (number,) in executions], [int(name) for (name,) in runs]


def _names(executions: Sequence[int], runs: Sequence[int]) -> set[str]:
    """Returns the names of the locks of executions and runs."""
    return {*map(str, executions), *(f"run-{number}" for number in runs)}


def _outcome(outcome: Outcome | None) -> dict[str, str]:
    if outcome is None:
        return {}
    refusal = {} if outcome.refusal is None else {"refusal": outcome.refusal}
    return {"result": outcome.result, **refusal}


def _span_of(run: Run) -> float:
    """Returns how long a run that died is known to have gone on."""
    return sum(step.seconds for step in run.steps)
