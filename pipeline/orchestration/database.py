"""The SQLite file of a pipeline root: its tables, its connections, and its errors in one line.

The tables, their columns and their numbers for states and events are those of ML Metadata (schema
version 10), so that whoever knows these can read it with any SQLite client.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError, PipelineError

# Of what this program keeps in the tables; ML Metadata's own number is in MLMDEnv.
SCHEMA_VERSION = 1
_MLMD_VERSION = 10

_BUSY_SECONDS = 30.0
# What the users of a write-ahead log share, and a few pages.
_LEAST_ROOM = 1 << 16
# How SQLite calls a full disk where it is not a file of its own that it was writing to.
_PERHAPS_FULL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_MOUNTS = Path("/proc/self/mounts")
# SQLite's write-ahead log needs memory that all its users share, and so one machine.
_NETWORK = ("nfs", "cifs", "smb", "9p", "lustre", "ceph", "gpfs", "beegfs", "glusterfs", "fuse.")

_PROPERTY = """(
    {owner}_id INT NOT NULL, name VARCHAR(255) NOT NULL, is_custom_property TINYINT(1) NOT NULL,
    int_value INT, double_value DOUBLE, string_value TEXT, byte_value BLOB, proto_value BLOB,
    bool_value BOOLEAN, PRIMARY KEY ({owner}_id, name, is_custom_property)) WITHOUT ROWID;
"""
_TIMES = "create_time_since_epoch INT NOT NULL, last_update_time_since_epoch INT NOT NULL"
_ID = "id INTEGER PRIMARY KEY AUTOINCREMENT"

_TABLES = f"""
CREATE TABLE MLMDEnv (schema_version INTEGER PRIMARY KEY);
CREATE TABLE Type ({_ID}, name VARCHAR(255) NOT NULL, version VARCHAR(255),
    type_kind TINYINT(1) NOT NULL, description TEXT, input_type TEXT, output_type TEXT,
    external_id VARCHAR(255), UNIQUE (type_kind, name));
CREATE TABLE ParentContext (context_id INT NOT NULL, parent_context_id INT NOT NULL,
    PRIMARY KEY (context_id, parent_context_id));
CREATE TABLE Artifact ({_ID}, type_id INT NOT NULL, uri TEXT, state INT, name VARCHAR(255),
    external_id VARCHAR(255), {_TIMES});
CREATE TABLE ArtifactProperty {_PROPERTY.format(owner="artifact")}
CREATE TABLE Execution ({_ID}, type_id INT NOT NULL, last_known_state INT, name VARCHAR(255),
    external_id VARCHAR(255), {_TIMES});
CREATE TABLE ExecutionProperty {_PROPERTY.format(owner="execution")}
CREATE TABLE Context ({_ID}, type_id INT NOT NULL, name VARCHAR(255) NOT NULL,
    external_id VARCHAR(255), {_TIMES}, UNIQUE (type_id, name));
CREATE TABLE ContextProperty {_PROPERTY.format(owner="context")}
CREATE TABLE Event ({_ID}, artifact_id INT NOT NULL, execution_id INT NOT NULL, type INT NOT NULL,
    milliseconds_since_epoch INT);
CREATE TABLE EventPath (event_id INT NOT NULL, is_index_step TINYINT(1) NOT NULL, step_index INT,
    step_key TEXT);
CREATE TABLE Association ({_ID}, context_id INT NOT NULL, execution_id INT NOT NULL,
    UNIQUE (context_id, execution_id));
CREATE TABLE Attribution ({_ID}, context_id INT NOT NULL, artifact_id INT NOT NULL,
    UNIQUE (context_id, artifact_id));
CREATE INDEX idx_artifact_uri ON Artifact (uri);
CREATE INDEX idx_execution_type ON Execution (type_id, last_known_state);
CREATE INDEX idx_execution_state ON Execution (last_known_state);
CREATE INDEX idx_event_artifact ON Event (artifact_id);
CREATE INDEX idx_event_execution ON Event (execution_id);
CREATE INDEX idx_eventpath_event ON EventPath (event_id);
CREATE INDEX idx_association_execution ON Association (execution_id);
CREATE INDEX idx_attribution_artifact ON Attribution (artifact_id);
CREATE INDEX idx_execution_key ON ExecutionProperty (string_value) WHERE name = 'key';
CREATE INDEX idx_execution_own ON ExecutionProperty (string_value) WHERE name = 'own';
CREATE INDEX idx_artifact_digest ON ArtifactProperty (string_value) WHERE name = 'digest';
CREATE INDEX idx_context_state ON ContextProperty (string_value) WHERE name = 'state';
INSERT INTO MLMDEnv VALUES ({_MLMD_VERSION});
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Database:
    """The file `metadata.sqlite`, for all threads of this process.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self._own = threading.local()

    def create(self, first: int) -> None:
        """Makes the file, whole or not at all, where there is none yet.

        Args:
            first: The identifier of the first execution.
        """
        if self.path.exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained(), files.locked(self.path.with_suffix(".lock")):
            if self.path.exists():
                return
            new = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
            try:
                with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
                    connection.executescript(_TABLES)
                    connection.execute(
                        "INSERT INTO sqlite_sequence VALUES ('Execution', ?)", (first - 1,)
                    )
                    mode = "DELETE" if _on_network(self.path.parent) else "WAL"
                    connection.execute(f"PRAGMA journal_mode = {mode}")
                new.rename(self.path)
            finally:
                new.unlink(missing_ok=True)
            files.fsync_directory(self.path.parent)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection that sees one state of the tables until the block ends.

        Raises:
            DataError: The file is damaged, or of a newer version of this program.
            PipelineError: It cannot be read.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection whose changes appear together when the block ends well.

        Raises:
            DataError: As `reading`.
            PipelineError: The file cannot be written, or another process kept it locked.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._explained():
            connection = self._connection()
            try:
                # Inside, as whoever stops a run may interrupt this thread while it waits.
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            finally:
                # After an error such as a full disk SQLite may have rolled back by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        """Returns the connection of this thread."""
        owner = os.getpid()
        if getattr(self._own, "process", None) != owner:
            self._own.connection = self._open()
            self._own.process = owner
        return self._own.connection

    def _open(self) -> sqlite3.Connection:
        address = self.path.absolute().as_uri()
        log = self.path.with_name(f"{self.path.name}-wal")
        is_logged = log.is_file() and log.stat().st_size > 0
        if os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK):
            mode = "mode=rw"
        elif is_logged:
            mode = "mode=ro"
        else:
            mode = "immutable=1"  # a copy that nobody writes to needs no locks
        try:
            return self._connected(f"{address}?{mode}")
        except sqlite3.OperationalError:
            # Where there is no room for what writers share, nobody writes.
            if is_logged or not _is_full(self.path.parent):
                raise
            return self._connected(f"{address}?immutable=1")

    def _connected(self, address: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=256
        )
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        if not self.path.stat().st_size:
            connection.close()
            raise _damaged(self.path, "the file is empty")
        if found != SCHEMA_VERSION:
            connection.close()
            raise DataError(
                f"{self.path}: of version {found}, expected {SCHEMA_VERSION}; another version of "
                "this program made it: use that one, or another --root"
            )
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says in one line what an error of SQLite means for the person."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error


def _explain(path: Path, error: sqlite3.Error) -> PipelineError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _PERHAPS_FULL and _is_full(path.parent):
        code = sqlite3.SQLITE_FULL
    match code:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return PipelineError(
                f"{path}: another process kept it locked for {_BUSY_SECONDS:.0f} s; end that one, "
                "and run again"
            )
        case sqlite3.SQLITE_FULL:
            return PipelineError(
                f"{path}: the disk is full; free space, or choose another --root, and run again"
            )
        case sqlite3.SQLITE_READONLY:
            return PipelineError(
                f"{path}: no permission to write it, nor in its directory; choose another --root"
            )
        case _:
            return PipelineError(f"{path}: cannot be used ({error})")


def _damaged(path: Path, how: str) -> DataError:
    return DataError(
        f"{path}: damaged ({how}); move it away: artifacts stay where they are, but what made them "
        "is not known any more, and everything runs again"
    )


def _is_full(folder: Path) -> bool:
    """Whether `folder` has no room for what SQLite writes at its start."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_ROOM
    except OSError:
        return False


def _on_network(folder: Path) -> bool:
    """Whether `folder` lies on a file system that other machines may share."""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False  # no Linux
    place, best, kind = folder.resolve(), -1, ""
    for line in lines:
        _, point, type_, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        if place.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), type_
    return kind.startswith(_NETWORK)


def as_json(value: object) -> bytes:
    """Returns `value` as the bytes of compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
