"""Between the tables of ML Metadata and Python: types, properties, artifacts and events."""

import json
import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.database import as_json

# Numbers of ML Metadata: type kinds, artifact states, execution states, event types.
EXECUTION_TYPE, ARTIFACT_TYPE, CONTEXT_TYPE = range(3)
LIVE, MARKED_FOR_DELETION, DELETED = 2, 3, 4
STATES = ("UNKNOWN", "NEW", "RUNNING", "COMPLETE", "FAILED", "CACHED", "CANCELED")
INPUT, OUTPUT = 3, 4

_GREATEST = 2**63 - 1


def now() -> int:
    """Returns the time in milliseconds since 1970, as ML Metadata counts it."""
    return time.time_ns() // 1_000_000


def numbers(connection: sqlite3.Connection, query: str, *values: Any) -> set[int]:
    """Returns the first column of what a query finds.

    Args:
        connection: To the tables.
        query: The query.
        values: Its parameters; a set or a list stands for a JSON array.
    """
    given = [json.dumps(list(v)) if isinstance(v, set | list) else v for v in values]
    return {number for (number,) in connection.execute(query, given)}


def type_id(connection: sqlite3.Connection, kind: int, name: str) -> int:
    """Returns the number of a type, which is made where it is new."""
    found = known_type(connection, kind, name)
    if found is None:
        statement = "INSERT INTO Type (name, type_kind) VALUES (?, ?)"
        return connection.execute(statement, (name, kind)).lastrowid
    return found


def known_type(connection: sqlite3.Connection, kind: int, name: str) -> int | None:
    """Returns the number of a type, or None where nothing of it was ever recorded."""
    row = connection.execute("SELECT id FROM Type WHERE type_kind = ? AND name = ?", (kind, name))
    return next((number for (number,) in row), None)


def put(
    connection: sqlite3.Connection,
    table: str,
    owner: int,
    values: Mapping[str, Any],
    custom: bool = False,
) -> None:
    """Writes properties of a row of `table`, each in the column of its type; others as JSON."""
    for name, value in values.items():
        column, stored = _column(value)
        connection.execute(
            f"INSERT OR REPLACE INTO {table}Property "
            f"({table.lower()}_id, name, is_custom_property, {column}) VALUES (?, ?, ?, ?)",
            (owner, name, int(custom), stored),
        )


def _column(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "bool_value", int(value)
    if isinstance(value, int) and abs(value) <= _GREATEST:
        return "int_value", value
    # SQLite knows no NaN.
    if isinstance(value, float) and math.isfinite(value):
        return "double_value", value
    if isinstance(value, str):
        return "string_value", value
    return "byte_value", as_json(value)


def get(
    connection: sqlite3.Connection,
    table: str,
    owners: Iterable[int],
    custom: bool = False,
    names: Iterable[str] | None = None,
) -> dict[int, dict[str, Any]]:
    """Returns the properties of rows of `table` by their number; all, or those of `names`."""
    only = "" if names is None else "AND name IN (SELECT value FROM json_each(?))"
    parameters = () if names is None else (json.dumps(list(names)),)
    rows = connection.execute(
        f"SELECT {table.lower()}_id, name, bool_value, int_value, double_value, string_value, "
        f"byte_value FROM {table}Property WHERE {table.lower()}_id IN "
        f"(SELECT value FROM json_each(?)) AND is_custom_property = ? {only}",
        (json.dumps(list(owners)), int(custom), *parameters),
    )
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for owner, name, boolean, integer, real, text, content in rows:
        if content is not None:
            value = json.loads(content)
        elif boolean is not None:
            value = bool(boolean)
        else:
            value = next((v for v in (integer, real, text) if v is not None), None)
        found[owner][name] = value
    return found


def put_artifact(connection: sqlite3.Connection, root: Path, artifact: Artifact) -> int:
    """Records a finished artifact below `root` as live, and returns its number."""
    stamp = now()
    number = connection.execute(
        "INSERT INTO Artifact (type_id, uri, state, create_time_since_epoch, "
        "last_update_time_since_epoch) VALUES (?, ?, ?, ?, ?)",
        (
            type_id(connection, ARTIFACT_TYPE, artifact.type),
            artifact.uri.relative_to(root).as_posix(),
            LIVE,
            stamp,
            stamp,
        ),
    ).lastrowid
    own = {"digest": artifact.digest, "listing": artifact.listing}
    put(connection, "Artifact", number, own)
    put(connection, "Artifact", number, artifact.properties, custom=True)
    return number


def artifact_id(connection: sqlite3.Connection, root: Path, artifact: Artifact) -> int | None:
    """Returns the number of an artifact that was recorded, or None."""
    if not artifact.uri.is_relative_to(root):
        return None
    uri = artifact.uri.relative_to(root).as_posix()
    rows = connection.execute("SELECT id FROM Artifact WHERE uri = ? ORDER BY id DESC", (uri,))
    return next((number for (number,) in rows), None)


def put_event(
    connection: sqlite3.Connection, execution: int, artifact: int, kind: int, key: str
) -> None:
    """Records that an execution read or wrote an artifact, under its input or output key."""
    event = connection.execute(
        "INSERT INTO Event (artifact_id, execution_id, type, milliseconds_since_epoch) "
        "VALUES (?, ?, ?, ?)",
        (artifact, execution, kind, now()),
    ).lastrowid
    connection.execute("INSERT INTO EventPath VALUES (?, 0, NULL, ?)", (event, key))


def events(
    connection: sqlite3.Connection, root: Path, executions: Iterable[int]
) -> dict[int, dict[int, dict[str, Artifact]]]:
    """Returns execution number to `INPUT` and `OUTPUT` to key to artifact."""
    rows = connection.execute(
        "SELECT Event.execution_id, Event.type, EventPath.step_key, Event.artifact_id FROM Event "
        "JOIN EventPath ON EventPath.event_id = Event.id "
        "WHERE Event.execution_id IN (SELECT value FROM json_each(?)) ORDER BY Event.id",
        (json.dumps(list(executions)),),
    ).fetchall()
    known = artifacts(connection, root, {row[3] for row in rows})
    found: dict[int, dict[int, dict[str, Artifact]]] = defaultdict(lambda: {INPUT: {}, OUTPUT: {}})
    for execution, kind, key, number in rows:
        found[execution][kind][key] = known[number]
    return found


def artifacts(
    connection: sqlite3.Connection, root: Path, numbers: Iterable[int]
) -> dict[int, Artifact]:
    """Returns artifacts by their numbers."""
    numbers = list(numbers)
    own = get(connection, "Artifact", numbers)
    given = get(connection, "Artifact", numbers, custom=True)
    rows = connection.execute(
        "SELECT Artifact.id, Type.name, Artifact.uri FROM Artifact "
        "JOIN Type ON Type.id = Artifact.type_id "
        "WHERE Artifact.id IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    )
    return {
        number: Artifact(
            kind,
            root / uri,
            given.get(number, {}),
            own[number]["digest"],
            dict(sorted(own[number]["listing"].items())),
        )
        for number, kind, uri in rows
    }


def context_id(
    connection: sqlite3.Connection,
    kind: str,
    name: str,
    properties: Mapping[str, Any] | None = None,
) -> int:
    """Returns the number of a context, which is made where it is new, with these properties."""
    number = type_id(connection, CONTEXT_TYPE, kind)
    found = connection.execute(
        "SELECT id FROM Context WHERE type_id = ? AND name = ?", (number, name)
    ).fetchone()
    if found:
        return found[0]
    made = connection.execute(
        "INSERT INTO Context (type_id, name, create_time_since_epoch, "
        "last_update_time_since_epoch) VALUES (?, ?, ?, ?)",
        (number, name, stamp := now(), stamp),
    ).lastrowid
    put(connection, "Context", made, properties or {})
    return made


def associate(connection: sqlite3.Connection, context: int, execution: int) -> None:
    """Records that an execution belongs to a context."""
    connection.execute(
        "INSERT INTO Association (context_id, execution_id) VALUES (?, ?)", (context, execution)
    )


def attribute(connection: sqlite3.Connection, execution: int, artifact: int) -> None:
    """Records that an artifact belongs to the contexts of the execution that wrote it."""
    connection.execute(
        "INSERT INTO Attribution (context_id, artifact_id) "
        "SELECT context_id, ? FROM Association WHERE execution_id = ?",
        (artifact, execution),
    )


def set_state(connection: sqlite3.Connection, table: str, number: int, state: int) -> None:
    """Records the state of an artifact or an execution."""
    column = {"Artifact": "state", "Execution": "last_known_state"}[table]
    connection.execute(
        f"UPDATE {table} SET {column} = ?, last_update_time_since_epoch = ? WHERE id = ?",
        (state, now(), number),
    )
