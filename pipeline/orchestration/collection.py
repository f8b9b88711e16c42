"""Removes what no kept run used and no pushed version stems from; the records stay."""

import contextlib
import fcntl
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import files
from pipeline.orchestration import history, rows
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.history import CANCELED, FAILED, RUNNING
from pipeline.orchestration.reader import SYSTEM
from pipeline.orchestration.store import Store
from pipeline.serving import versions

_ENDED = (FAILED, CANCELED)


@dataclass
class Collected:
    """What was removed, or would be.

    Args:
        paths: The directories.
        bytes: Of all their files.
    """

    paths: list[Path] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class _Kept:
    """What stays: the numbers of artifacts, the keys of states, and the last event looked at."""

    artifacts: frozenset[int]
    keys: frozenset[str]
    event: int


def collect(
    store: Store, keep_runs: int, destinations: Sequence[Path] = (), dry_run: bool = False
) -> Collected:
    """Removes artifacts that are no longer needed, and what dead executions left.

    What stays: everything that the newest runs and those that go on now made, used or read, and
    everything that a pushed version stems from, back to its images. A version that cannot be
    looked for, since its destination is not to be seen from here, counts as there. A run that
    begins meanwhile is seen, or does not use what is removed.

    Args:
        store: The store; what was killed in it is closed first.
        keep_runs: The number of runs that are kept.
        destinations: Further directories of models; those that runs pushed to are known.
        dry_run: Whether to remove nothing.
    """
    found = Collected()
    if not store.exists:
        return found
    if not dry_run:
        store.close_dead()
    kept = _kept(store, keep_runs, destinations)
    for number, artifact in _live(store):
        if number not in kept.artifacts and (dry_run or _mark(store, number, kept.event)):
            _remove(store, artifact.uri, found, dry_run)
    for path in _leftovers(store):
        _remove(store, path, found, dry_run)
    for path in _states(store, kept.keys):
        with _alone(path) as is_ours:
            if is_ours:
                _remove(store, path, found, dry_run)
    return found


def _kept(store: Store, keep_runs: int, destinations: Sequence[Path]) -> _Kept:
    # First of all: what begins to use an artifact later has an event behind this one.
    with store.database.reading() as connection:
        (event,) = connection.execute("SELECT coalesce(max(id), 0) FROM Event").fetchone()
    runs = store.runs()
    wanted = [
        *runs[max(0, len(runs) - keep_runs) :],
        *(run for run in runs if run.state == RUNNING),
    ]
    contents = _pushed(store, destinations)
    with store.database.reading() as connection:
        steps = _executions_of(connection, [run.id for run in wanted])
        steps |= _running(connection)
        keys = {
            execution.key
            for execution in history.executions(connection, store.root, steps, brief=True).values()
            if execution.state in (*_ENDED, RUNNING)
        }
        artifacts = _touched(connection, steps)
        artifacts |= _touched(connection, _ancestors(connection, _makers(connection, contents)))
    return _Kept(frozenset(artifacts), frozenset(keys), event)


def _executions_of(connection: sqlite3.Connection, runs: Iterable[int]) -> set[int]:
    kind = rows.known_type(connection, rows.CONTEXT_TYPE, history.RUN)
    return rows.numbers(
        connection,
        "SELECT Association.execution_id FROM Context "
        "JOIN Association ON Association.context_id = Context.id "
        "WHERE Context.type_id = ? AND Context.name IN (SELECT value FROM json_each(?))",
        kind,
        [str(run) for run in runs],
    )


def _running(connection: sqlite3.Connection) -> set[int]:
    return rows.numbers(
        connection,
        "SELECT id FROM Execution WHERE last_known_state = ?",
        rows.STATES.index(RUNNING),
    )


def _touched(connection: sqlite3.Connection, executions: set[int]) -> set[int]:
    """Returns the artifacts that executions read or wrote."""
    return rows.numbers(
        connection,
        "SELECT artifact_id FROM Event WHERE execution_id IN (SELECT value FROM json_each(?))",
        executions,
    )


def _makers(connection: sqlite3.Connection, contents: set[str]) -> set[int]:
    """Returns the executions that wrote or pushed models of these digests."""
    return rows.numbers(
        connection,
        "SELECT Event.execution_id FROM ArtifactProperty AS Own "
        "JOIN Event ON Event.artifact_id = Own.artifact_id "
        "JOIN Execution ON Execution.id = Event.execution_id "
        "JOIN Type ON Type.id = Execution.type_id "
        "WHERE Own.name = 'digest' AND Own.string_value IN (SELECT value FROM json_each(?)) "
        "AND (Event.type = ? OR Type.name = 'Pusher')",
        contents,
        rows.OUTPUT,
    )


def _ancestors(connection: sqlite3.Connection, executions: set[int]) -> set[int]:
    """Returns `executions` and those that wrote what they read, and so on."""
    return rows.numbers(
        connection,
        "WITH RECURSIVE Above (number) AS (SELECT value FROM json_each(?) UNION "
        "SELECT Written.execution_id FROM Above "
        "JOIN Event AS Read ON Read.execution_id = Above.number AND Read.type = ? "
        "JOIN Event AS Written ON Written.artifact_id = Read.artifact_id AND Written.type = ?) "
        "SELECT number FROM Above",
        executions,
        rows.INPUT,
        rows.OUTPUT,
    )


def _pushed(store: Store, destinations: Sequence[Path]) -> set[str]:
    """Returns the digests of the models of all versions that are, or may be, somewhere."""
    bases = {base for folder in destinations for base in folder.glob("*")}
    contents = set()
    for execution in store.completed("Pusher"):
        model = execution.inputs.get("model")
        for artifact in execution.outputs.values():
            place = str(artifact.properties.get("pushed_destination", ""))
            if "://" not in place and Path(place).parent.is_dir():
                bases.add(Path(place).parent)
            elif model is not None:
                contents.add(model.digest)
    for base in bases:
        for number in versions.versions(base):
            record = versions.record(base / str(number))
            contents.add(str(record.get("sources", {}).get("model", "")))
    return contents


def _live(store: Store) -> list[tuple[int, Artifact]]:
    with store.database.reading() as connection:
        numbers = rows.numbers(connection, "SELECT id FROM Artifact WHERE state = ?", rows.LIVE)
        return sorted(rows.artifacts(connection, store.root, numbers).items())


def _mark(store: Store, number: int, event: int) -> bool:
    """Marks an artifact as removed, unless somebody has begun to use it; says whether it did."""
    with store.database.writing() as connection:
        used = connection.execute(
            "SELECT 1 FROM Event WHERE artifact_id = ? AND id > ?", (number, event)
        ).fetchone()
        if used is None:
            rows.set_state(connection, "Artifact", number, rows.DELETED)
    return used is None


def _leftovers(store: Store) -> Iterator[Path]:
    """Yields directories of executions that have ended: staged, or not known as artifacts."""
    places = [*store.root.glob("*/*/*"), *(store.root / SYSTEM / "staging").glob("*")]
    places = sorted(path for path in places if path.name.isdecimal())
    executions = store.executions({int(path.name) for path in places})
    # Last of all: what has ended above was recorded together with its artifacts.
    known = {artifact.uri for _, artifact in _live(store)}
    for path in places:
        # What an older program left is not known, and stays.
        execution = executions.get(int(path.name))
        if path not in known and execution is not None and execution.state != RUNNING:
            yield path
    yield from (store.root / SYSTEM / "trash").glob("*")


def _states(store: Store, kept: frozenset[str]) -> Iterator[Path]:
    """Yields what killed executions left to a next one that no kept run would be."""
    for path in sorted(store.root.glob(f"*/{SYSTEM}/stateful_working_dir/*")):
        if path.is_dir() and path.name not in kept:
            yield path


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[bool]:
    """Yields whether nobody executes what `state` belongs to."""
    with state.with_name(f"{state.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remove(store: Store, path: Path, found: Collected, dry_run: bool) -> None:
    if not path.is_dir():
        return
    found.paths.append(path)
    found.bytes += sum(files.tree_listing(path).values())
    if dry_run:
        return
    trash = store.root / SYSTEM / "trash"
    trash.mkdir(exist_ok=True)
    # One rename, so that nobody finds a part of it under its name.
    place = path if path.parent == trash else path.rename(trash / uuid.uuid4().hex)
    shutil.rmtree(place)
