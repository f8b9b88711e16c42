"""Files of trained weights: from the network into a cache, whole or not at all."""

import contextlib
import hashlib
import io
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from keras_resnet.weights.progress import Progress
from keras_resnet.weights.records import WeightsRecord

_HUB = "https://huggingface.co"
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_CHUNK = 1 << 20
_SECONDS = 30  # Without a byte, before a connection counts as dropped.
_MOST_REDIRECTIONS = 10
# A connection that brings nothing new is tried again as often as this, after so many seconds.
_ATTEMPTS = 4
_PAUSE = 1.0


class DownloadError(OSError):
    """A file of weights is neither in the cache nor to be had."""


def cache_folder() -> Path:
    """The folder of Keras for weights: `models` in `~/.keras`, or in what KERAS_HOME names."""
    home = os.environ.get("KERAS_HOME") or Path("~") / ".keras"
    return Path(home).expanduser() / "models"


def cache_path(record: WeightsRecord) -> Path:
    """Where the file of a record is kept, once it is there."""
    return cache_folder() / record.file


def fetch(record: WeightsRecord) -> Path:
    """The file of a record, downloaded unless it is in the cache.

    The file is verified with the digest of the record, or else with the one that the hub states,
    which is kept beside the file. An interrupted download goes on where it stopped. Of several
    processes one downloads, and the others wait.

    Raises:
        DownloadError: If it cannot be had; the message says where it is and where to put it.
    """
    return fetch_file(_address(record.url), cache_path(record), record.digest)


def fetch_file(url: str, path: Path, digest: str | None = None) -> Path:
    """A file of the network, at `path`; see `fetch`."""
    if _is_intact(path, digest):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            # Another process may have been first.
            if not _is_intact(path, digest):
                _Download(url, path, digest).run()
    except (OSError, HTTPException) as error:
        raise DownloadError(
            f"There is no {path.name} in the cache, and its download failed: {_reason(error)}. "
            f"Download {url} by other means and put it there as {path}, or give its path as "
            "`weights`"
        ) from error
    return path


def _address(url: str) -> str:
    if "://" in url:
        return url
    return f"{(os.environ.get('HF_ENDPOINT') or _HUB).rstrip('/')}/{url}"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = getattr(error, "reason", error)
    return str(reason) or type(reason).__name__


def _stated_digest(path: Path) -> Path:
    """Where the digest is kept that the hub stated for a file."""
    return path.with_name(f"{path.name}.sha256")


def _is_intact(path: Path, digest: str | None) -> bool:
    if not path.is_file():
        return False
    stated = _stated_digest(path)
    if digest is None and stated.is_file():
        first = stated.read_text(errors="replace").split()[:1]
        digest = _as_sha256("".join(first))
    # A file without either was put there by hand.
    return digest is None or _matches(path, digest)


def _matches(path: Path, digest: str) -> bool:
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == expected


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes from downloading the same file."""
    try:
        import fcntl
    except ImportError:  # Not on Windows, where two processes may both download.
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class _Answer:
    """What a server says before the bytes."""

    response: HTTPResponse | io.BytesIO
    start: int
    size: int | None
    digest: str | None


class _Download:
    """One file on its way."""

    def __init__(self, url: str, path: Path, digest: str | None) -> None:
        self.url = url
        self.path = path
        self.digest = digest
        self.part = path.with_name(f"{path.name}.part")

    def run(self) -> None:
        resumed = self.part.exists()
        self._get_all()
        if self.digest is not None and not _matches(self.part, self.digest):
            self.part.unlink()
            # What was there already may have been of another version of the file.
            if not resumed:
                raise OSError(f"its digest is not {self.digest}")
            self._get_all()
            if not _matches(self.part, self.digest):
                self.part.unlink()
                raise OSError(f"its digest is not {self.digest}")
        self._place()

    def _get_all(self) -> None:
        """Gets the whole file as `part`, over as many connections as it takes."""
        failures = 0
        with Progress(self.path.name) as progress:
            while True:
                before = self._size()
                try:
                    if self._get_some(progress):
                        return
                    failure: Exception = OSError("the connection was dropped")
                except urllib.error.HTTPError as error:
                    if error.code < 500:
                        raise
                    failure = error
                except urllib.error.URLError as error:
                    if not self._size():
                        raise  # There is no network; waiting would not bring it.
                    failure = error
                except (HTTPException, ConnectionError, TimeoutError) as error:
                    failure = error
                failures = 0 if self._size() > before else failures + 1
                if failures == _ATTEMPTS:
                    raise failure
                time.sleep(_PAUSE * failures)

    def _get_some(self, progress: Progress) -> bool:
        """Reads from one connection until it ends; returns whether the file is whole."""
        answer = self._ask(self._size())
        self.digest = self.digest or answer.digest
        if answer.start and self.digest is None:
            # Nothing would tell if the beginning were of another version of the file.
            answer.response.close()
            answer = self._ask(0)
        with answer.response, self.part.open("r+b" if answer.start else "wb") as file:
            file.seek(answer.start)
            file.truncate()
            progress.begin(answer.start, answer.size)
            try:
                while chunk := answer.response.read(_CHUNK):
                    file.write(chunk)
                    progress.add(len(chunk))
                file.flush()
                os.fsync(file.fileno())
            except (HTTPException, ConnectionError, TimeoutError):
                raise
            except OSError:
                # The disk is full, or broken: what is there is only in the way.
                self.part.unlink()
                raise
        return answer.size is None or self._size() == answer.size

    def _ask(self, start: int) -> _Answer:
        """Asks for the file from a byte on, following redirections."""
        url, digest, size = self.url, None, None
        for _ in range(_MOST_REDIRECTIONS):
            _check_address(url, self.url)
            headers = {"User-Agent": "keras_resnet", "Accept-Encoding": "identity"}
            if start:
                headers["Range"] = f"bytes={start}-"
            request = urllib.request.Request(url, headers=headers)
            try:
                response = _OPENER.open(request, timeout=_SECONDS)
            except urllib.error.HTTPError as error:
                response = error
            digest = digest or _sha256(response.headers)
            # The hub states what it will send on before it redirects.
            linked_size = response.headers.get("X-Linked-Size", "")
            size = int(linked_size) if linked_size.isdigit() else size
            if response.status in (301, 302, 303, 307, 308):
                location = response.headers.get("Location", "")
                response.close()
                try:
                    url = urllib.parse.urljoin(url, location)
                except ValueError as error:
                    raise OSError(f"it leads to {location}, which is no address") from error
            elif response.status == 416 and start:
                response.close()
                # All of it was there already, or more than there is.
                if start != size:
                    return self._ask(0)
                return _Answer(io.BytesIO(), start, size, digest)
            elif response.status not in (200, 206):
                raise urllib.error.HTTPError(
                    url, response.status, response.reason, response.headers, None
                )
            elif response.headers.get_content_type() == "text/html":
                response.close()
                raise OSError(f"{url} answered with a page and not with a file")
            else:
                begin, total = _range(response)
                if begin not in (0, start):
                    response.close()
                    raise HTTPException(f"bytes from {begin} on were sent, not from {start} on")
                return _Answer(response, begin, total if size is None else size, digest)
        raise OSError(f"more than {_MOST_REDIRECTIONS} redirections")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _place(self) -> None:
        if self.digest is not None and self.digest.startswith("sha256:"):
            stated = _stated_digest(self.path)
            temporary = stated.with_name(f"{stated.name}.part")
            temporary.write_text(f"{self.digest.removeprefix('sha256:')}  {self.path.name}\n")
            temporary.replace(stated)
        self.part.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Leaves redirections to `_ask`, which reads the headers of each."""

    def http_error_302(self, *_: object) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


_OPENER = urllib.request.build_opener(_NoRedirection)


def _check_address(url: str, first: str) -> None:
    """Raises OSError unless an address is encrypted, or of this machine as the first one was."""
    try:
        here, start = urllib.parse.urlsplit(url), urllib.parse.urlsplit(first)
    except ValueError as error:
        raise OSError(f"it leads to {url}, which is no address") from error
    local = here.hostname in _LOCAL_HOSTS and start.hostname in _LOCAL_HOSTS
    if here.scheme != "https" and not (here.scheme == "http" and local):
        raise OSError(f"only https is trusted, and it leads to {url}")


def _sha256(headers: object) -> str | None:
    """The SHA-256 that the hub states as the tag of a large file."""
    for name in ("X-Linked-Etag", "ETag"):
        if digest := _as_sha256((headers.get(name) or "").removeprefix("W/").strip('"').lower()):
            return digest
    return None


def _as_sha256(value: str) -> str | None:
    """The digest, if a text is the 64 digits of one."""
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return f"sha256:{value}"
    return None


def _range(response: HTTPResponse) -> tuple[int, int | None]:
    """First byte of an answer, and the number of bytes of the whole file."""
    length = response.headers.get("Content-Length", "")
    if response.status == 200:
        return 0, int(length) if length.isdecimal() else None
    content_range = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if not found:
        raise HTTPException(f"a part was sent whose place is not told (range {content_range!r})")
    begin, total = found.groups()
    return int(begin), int(total) if total.isdecimal() else None
