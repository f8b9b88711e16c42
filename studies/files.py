"""Files that appear whole or not at all, and the lock on an output folder."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies.errors import UsageError


def write_bytes(path: Path, content: bytes) -> None:
    """Writes by write, fsync, rename: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON as `write_bytes` does; a loss that is no number stays `NaN`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Returns what `write_json` wrote; None where there is no such file.

    Raises:
        UsageError: If it is no JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(
            f"{path} must be a record of a study in JSON, but cannot be read ({error}); remove it "
            "to run its part again"
        ) from None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a folder; the system frees the lock when this one dies.

    Raises:
        UsageError: If the folder cannot be written to, or another process works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise UsageError(f"the output folder {folder} cannot be written to: {error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process runs a study in {folder}; wait for it, or give another --out"
            ) from None
        yield
