"""Files by their path or URI: paths are read directly, `scheme://…` through Beam's file systems.

Beam is imported for URIs alone.
"""

import errno
import glob
import hashlib
import importlib.util
import io
import itertools
import os
import re
import stat
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.errors import DataError, UsageError
from pipeline.sources.base import MAX_BYTES

T = TypeVar("T")

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
# Of a URI that was taken for a path there is one slash left.
_URI_AS_PATH = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)
# The extra of Beam for each scheme, and the library that it brings.
_EXTRAS = {
    "gs": ("gcp", "google.cloud.storage"),
    "s3": ("aws", "boto3"),
    "azfs": ("azure", "azure.storage.blob"),
    "hdfs": ("hadoop", "hdfs"),
}
# Requests under way at once: each waits for the network nearly all of its time.
_THREADS = 16
# What is wrong with a file, not with the file system that it lies on.
_OF_FILE = (
    *(errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT),
    *(errno.ENOTDIR, errno.ENXIO, errno.EPERM),
)
_CHUNK = 1 << 20


class BadFileError(Exception):
    """A file cannot be used; the message is a stable reason code."""


def is_uri(path: str) -> bool:
    """Returns whether `path` is a URI, `scheme://…`."""
    return bool(_SCHEME.match(path))


def local(path: str) -> str:
    """Returns the path that a `file://` URI names; what is none stays as it is."""
    scheme, mark, rest = path.partition("://")
    host, _, below = rest.partition("/")
    if not mark or scheme.lower() != "file" or host not in ("", "localhost"):
        return path
    return "/" + urllib.parse.unquote(below, errors="surrogateescape")


def require_local(path: str | Path) -> Path:
    """Returns `path`, which is one of this machine or of a file system that is mounted here.

    Raises:
        UsageError: It is a URI of an object store.
    """
    text = local(str(path))
    found = _URI_AS_PATH.fullmatch(text)
    if found is None:
        return Path(text)
    raise UsageError(
        f"{found['scheme']}://{found['rest']}: is no path of this machine, and here nothing else "
        "will do; URIs are taken for the images to read and for pusher.destination, other files "
        "belong on a disk or on a file system that is mounted, such as NFS"
    )


def has_system(scheme: str) -> bool:
    """Returns whether Beam can read URIs of this scheme.

    Raises:
        UsageError: It could if more were installed.
    """
    if scheme in _EXTRAS and not _is_installed(_EXTRAS[scheme][1]):
        raise UsageError(f"{scheme}:// cannot be read; install apache-beam[{_EXTRAS[scheme][0]}]")
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(f"{scheme}://")
    except ValueError:
        return False
    return True


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def join(folder: str, path: str) -> str:
    """Returns `path` as seen from `folder`; a URI or an absolute path stays as it is."""
    path = local(path)
    if is_uri(path):
        return path
    if is_uri(folder) and not path.startswith("/"):
        return f"{folder.rstrip('/')}/{path}"
    return str(Path(folder, path))


def parent(path: str) -> str:
    """Returns the folder that `path` lies in."""
    return path.rpartition("/")[0] if is_uri(path) else str(Path(path).parent)


def has_wildcards(path: str) -> bool:
    """Returns whether `path` is a pattern, and no file or folder of just that name."""
    return glob.has_magic(path) and not (is_file(path) or is_folder(path))


def is_file(path: str) -> bool:
    """Returns whether there is a file at `path`.

    Raises:
        UsageError: It cannot be found out.
    """
    if is_uri(path):
        return path in _match(glob.escape(path), path)
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str) -> bool:
    """Returns whether there is a folder at `path`, or for a URI any file below it.

    Raises:
        UsageError: It cannot be found out.
    """
    if is_uri(path):
        return bool(files_below(path))
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def exists(path: str) -> bool:
    """Returns whether there is a file or a folder at `path`, or one that it is a pattern of.

    Raises:
        UsageError: It cannot be found out.
    """
    if has_wildcards(path):
        return bool(matching(path))
    return is_file(path) or is_folder(path)


def plain(path: str) -> Path | None:
    """Returns a local path as far as it holds no wildcards; None for a URI."""
    if is_uri(path):
        return None
    if not has_wildcards(path):
        return Path(path)
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(path).parts))


def matching(pattern: str) -> list[str]:
    """Returns the files that match the pattern, sorted; hidden ones only where it names them.

    Raises:
        UsageError: Nothing here can read URIs of this scheme.
    """
    if is_uri(pattern):
        found = _match(pattern, pattern)
        return sorted(path for path in found if not path.rpartition("/")[2].startswith("."))
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern
    return sorted(filter(is_file, found))


def files_below(root: str) -> list[tuple[str, ...]]:
    """Returns the path of every file below `root`, from there, in its parts; sorted.

    Hidden files and folders are left out; symbolic links are followed.

    Raises:
        UsageError: A folder cannot be listed.
    """
    if is_uri(root):
        base = f"{root.rstrip('/')}/"
        found = [path[len(base) :] for path in _match(f"{glob.escape(base)}**", root)]
        # Object stores know no folders; some keep empty objects that end in "/" in their stead.
        parts = (tuple(path.split("/")) for path in found if not path.endswith("/"))
        return sorted(path for path in parts if not any(name.startswith(".") for name in path))
    return sorted(_walk(root))


def children(folder: str) -> list[str]:
    """Returns the names of the files and folders in `folder`, sorted, without hidden ones.

    Raises:
        UsageError: The folder cannot be listed.
    """
    if is_uri(folder):
        return sorted({path[0] for path in files_below(folder)})
    try:
        return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise _cannot_list(folder, error) from None


def opened(path: str) -> BinaryIO:
    """Returns the file at `path`, open for reading, its bytes as they are stored.

    Raises:
        BadFileError: There is no such file, or it cannot be read.
        DataError: Its file system fails.
    """
    if not is_uri(path):
        return _opened_locally(path)
    return io.BufferedReader(_Remote(path), _CHUNK)


def read(path: str, most: int = MAX_BYTES) -> bytes:
    """Returns the bytes of the file at `path`.

    Raises:
        BadFileError: There is no such file, or it cannot be read, or has more than `most` bytes.
        DataError: Its file system fails.
    """
    chunks = []
    size = 0
    with opened(path) as file:
        while chunk := _chunk(file):
            size += len(chunk)
            if size > most:
                raise BadFileError("too_many_bytes")
            chunks.append(chunk)
    return b"".join(chunks)


def sha256(path: str) -> str:
    """Returns the SHA-256 of the file at `path` in hexadecimal, or why it cannot be read.

    Raises:
        DataError: Its file system fails.
    """
    digest = hashlib.sha256()
    try:
        with opened(path) as file:
            while chunk := _chunk(file):
                digest.update(chunk)
    except BadFileError as error:
        return str(error)
    return digest.hexdigest()


def over(function: Callable[[str], T], paths: Iterable[str]) -> Iterator[T]:
    """Yields `function` of each path in order, at the same time where they are URIs."""
    paths = list(paths)
    if not any(map(is_uri, paths)):
        yield from map(function, paths)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(function, paths)


def _opened_locally(path: str) -> BinaryIO:
    try:
        # Opening a pipe would wait for somebody to write to it.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise BadFileError("unreadable")
        return Path(path).open("rb")
    except ValueError:  # a NUL in the name
        raise BadFileError("unreadable") from None
    except OSError as error:
        raise _of_file(error, path) from None


def _chunk(file: BinaryIO) -> bytes:
    try:
        return file.read(_CHUNK)
    except OSError as error:
        raise _of_file(error, str(getattr(file, "name", "a file"))) from None


def _of_file(error: OSError, path: str) -> Exception:
    """Returns what an error says of a file; where it speaks of the file system, another may go well."""
    if error.errno in _OF_FILE:
        return BadFileError("unreadable")
    return DataError(
        f"{path}: its file system fails ({error.strerror or error}); nothing is said of the image; "
        "run again when it works"
    )


class _Remote(io.RawIOBase):
    """A file behind a URI, whose errors are those of this module."""

    def __init__(self, path: str):
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        self._path = path
        self._file = _remotely(
            path, lambda: FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: memoryview) -> int:
        content = _remotely(self._path, lambda: self._file.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        _remotely(self._path, lambda: self._file.seek(offset, whence))
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _remotely(path: str, work: Callable[[], T]) -> T:
    """Returns what `work` returns; tells a file that is not there from a network that fails."""
    from apache_beam.io.filesystems import FileSystems

    try:
        return work()
    # Every file system has errors of its own.
    except Exception as error:
        try:
            exists = FileSystems.exists(path)
        except ValueError:
            raise BadFileError("unreadable") from None  # no name that its file system allows
        except Exception as second:
            raise DataError(f"{path}: cannot be read: {one_line(second)}") from second
        if not exists:
            raise BadFileError("unreadable") from None
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from error


def _match(pattern: str, uri: str) -> list[str]:
    """Returns the URIs of the files that match Beam's `pattern`."""
    from apache_beam.io.filesystems import FileSystems

    scheme = uri.partition("://")[0]
    if not has_system(scheme):
        raise UsageError(f"data {uri!r}: Apache Beam has no file system for {scheme}://")
    try:
        (found,) = FileSystems.match([pattern])
    except Exception as error:
        raise UsageError(f"data {uri!r}: cannot be listed: {one_line(error)}") from error
    return [metadata.path for metadata in found.metadata_list]


def one_line(error: Any) -> str:
    """Returns the message of an error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _walk(root: str) -> Iterator[tuple[str, ...]]:
    pending: list[tuple[tuple[str, ...], frozenset[tuple[int, int]]]] = [((), frozenset())]
    while pending:
        parts, above = pending.pop()
        folder = Path(root, *parts)
        try:
            info = folder.stat()
            inside = above | {(info.st_dev, info.st_ino)}
            if len(inside) == len(above):
                continue  # a link to a folder that it lies in
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        pending.append(((*parts, entry.name), inside))
                    else:
                        yield (*parts, entry.name)
        except OSError as error:
            raise _cannot_list(folder, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself is a file, which nobody can read
            return False
        raise _cannot_list(entry.path, error) from None


def _cannot_list(folder: str | Path, error: OSError) -> UsageError:
    return UsageError(f"data {str(folder)!r}: cannot be listed ({error.strerror})")


def _status(path: str) -> os.stat_result | None:
    """Returns what the system knows of the file or folder at `path`, or None where there is none."""
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return None
    except OSError as error:
        raise UsageError(f"data {path!r}: {error.strerror}") from None
