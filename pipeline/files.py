"""Files and directories that appear whole or not at all."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

_CHUNK = 1 << 20


def fsync_directory(path: Path) -> None:
    """Makes the entries of the directory `path` (names, renames) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path`: a reader sees the old file or the new one, never a part."""
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
    fsync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` by write, fsync, rename."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as readable JSON to `path` by write, fsync, rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fsync_tree(root: Path) -> None:
    """Flushes every file and directory below `root`, then `root` itself, to the disk."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            descriptor = os.open(Path(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(directory))


def publish_directory(staging: Path, destination: Path) -> None:
    """Makes the finished directory `staging` appear as `destination` by one rename.

    Args:
        staging: A complete directory on the same file system as `destination`.
        destination: The name that readers know; it must not exist, or be an empty directory.

    Raises:
        OSError: `destination` exists and is not empty; `staging` is left as it was.
    """
    fsync_tree(staging)
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(destination)
    fsync_directory(destination.parent)


@contextlib.contextmanager
def staged_directory(destination: Path) -> Iterator[Path]:
    """Yields a hidden directory beside `destination`, which takes that name on success.

    Leaves nothing behind when the body raises.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = destination.with_name(f".tmp-{uuid.uuid4().hex}")
    staging.mkdir()
    try:
        yield staging
        publish_directory(staging, destination)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def require_writable(directory: Path, name: str) -> None:
    """Raises UsageError when `directory` is not there and cannot be made, or not be written to.

    Args:
        directory: Need not exist; nothing is created.
        name: What the message calls it.
    """
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"{name} {str(directory)!r}: {nearest} is a file, not a directory")
    try:
        # Trying is the one test that holds for every user and every file system.
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise UsageError(
            f"{name} {str(directory)!r}: no permission to write in {nearest} ({error.strerror})"
        ) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`; the system frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Holds a lock on the file `path` that many may hold at once, but none beside `locked`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def relative(path: Path) -> Path:
    """Returns `path` relative to the working directory when it lies below it."""
    # Not resolved: the interpreter of a virtual environment is a link to another one.
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def tree_listing(root: Path) -> dict[str, int]:
    """Returns the size in bytes of every file below `root`, keyed by its relative path, sorted."""
    return {
        path.relative_to(root).as_posix(): path.stat().st_size
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def tree_digest(root: Path) -> str:
    """Returns one SHA-256 over the names and the contents of all files below `root`."""
    digest = hashlib.sha256()
    for name in tree_listing(root):
        digest.update(f"{sha256_file(root / name)}  {name}\n".encode())
    return digest.hexdigest()
