"""The files of an object store, through Beam's file systems."""

import contextlib
import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, UsageError
from pipeline.sources import uris

_CHUNK = 1 << 20


def require_system(uri: str) -> None:
    """Raises UsageError when nothing here can read such URIs."""
    scheme = uri.partition("://")[0]
    if not uris.has_system(scheme):
        raise UsageError(f"{uri!r}: Apache Beam has no file system for {scheme}://")


@contextlib.contextmanager
def explained(uri: str, advice: str) -> Iterator[None]:
    """Says of which place an error of a file system is, and what to do.

    Args:
        uri: The place.
        advice: What follows from it for whoever reads the message.

    Raises:
        PipelineError: In place of whatever the file system raised.
    """
    try:
        yield
    except PipelineError:
        raise
    # Every file system has errors of its own.
    except Exception as error:
        raise PipelineError(f"{uri}: {uris.one_line(error)}; {advice}") from error


def is_file(uri: str) -> bool:
    """Returns whether there is a file at `uri`."""
    return uri in _match(glob.escape(uri))


def listing(folder: str) -> dict[str, int]:
    """Returns the size of each file below `folder` by its path from there, sorted."""
    prefix = f"{folder}/"
    found = _match(f"{glob.escape(prefix)}**")
    # Some stores keep empty objects that end in "/" in the stead of folders.
    return {
        path[len(prefix) :]: size for path, size in sorted(found.items()) if not path.endswith("/")
    }


def read(uri: str) -> bytes:
    """Returns the bytes of a file."""
    return b"".join(_chunks(uri))


def sha256(uri: str) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in _chunks(uri):
        digest.update(chunk)
    return digest.hexdigest()


def write(uri: str, content: bytes) -> None:
    """Writes a file; one that is there is replaced."""
    with _opened(uri, create=True) as file:
        file.write(content)


def download(folder: str, destination: Path) -> None:
    """Copies the files below `folder` into a local directory."""
    for name in listing(folder):
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as copy:
            for chunk in _chunks(f"{folder}/{name}"):
                copy.write(chunk)


def delete(paths: list[str]) -> None:
    """Removes files, as far as they are there."""
    from apache_beam.io.filesystems import FileSystems

    for path in paths:
        try:
            FileSystems.delete([path])
        # Each file system says in its own way that there is no such file.
        except Exception:
            if FileSystems.exists(path):
                raise


def _match(pattern: str) -> dict[str, int]:
    from apache_beam.io.filesystems import FileSystems

    (found,) = FileSystems.match([pattern])
    return {metadata.path: metadata.size_in_bytes for metadata in found.metadata_list}


def _opened(uri: str, create: bool = False) -> Any:
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    make = FileSystems.create if create else FileSystems.open
    return make(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def _chunks(uri: str) -> Iterator[bytes]:
    with _opened(uri) as file:
        while chunk := file.read(_CHUNK):
            yield chunk
