"""The client of a server that speaks TF Serving's REST or gRPC interface.

This module needs no TensorFlow; gRPC's messages do, and bring it when a `grpc://` server is asked.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np

from pipeline.errors import UsageError
from pipeline.serving import answers, configs, streams
from pipeline.serving.answers import (
    ImagePrediction,
    Metadata,
    Signature,
    Tensor,
    VersionStatus,
    without_answer,
)
from pipeline.serving.attempts import (
    Deadline,
    NotFoundError,
    Patience,
    ServingError,
    TooLargeError,
)
from pipeline.serving.client_rest import Rest, Value
from pipeline.sources import uris

__all__ = [
    "Client",
    "ImagePrediction",
    "Metadata",
    "ServingError",
    "Signature",
    "Tensor",
    "VersionStatus",
]

T = TypeVar("T")

_SIGNATURE = "serving_default"
_INPUT = "image_bytes"
_TOO_MANY_BYTES = "too_many_bytes"
_SCHEMES = ("http", "https", "grpc", "grpcs")
_GRPC_PORT = 8500
# Base64 makes four bytes of three, and protocol buffers end at two gigabytes.
_MOST_REQUEST_BYTES = 1 << 30
# What sockets and gRPC wait at most is a little more.
_LONGEST_TIMEOUT = 1e6
# What both HTTP and gRPC's metadata can carry.
_HEADER_NAME = re.compile(r"[\w.-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?|")
# Seconds to find out what a server has, for the message of an error.
_LOOK = 5.0


class _Transport(Protocol):
    def ask(
        self, signature: str, inputs: Mapping[str, Value], deadline: Deadline
    ) -> dict[str, np.ndarray]: ...

    def metadata(self, deadline: Deadline) -> dict[str, Any]: ...

    def status(self, deadline: Deadline, every: bool = False) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Client:
    """Asks a server for predictions: TF Serving, or `python -m pipeline serve`.

    Requests are repeated when the server cannot be reached, is full or starts; all of them are
    idempotent. It may be used from several threads, and closes its connections at the end of a
    `with` statement.

    Args:
        server: `http://host:8501` or `https://…` for REST, with the path that a proxy wants in
            front of `/v1`; `grpc://host:8500`, `grpcs://…` with TLS, or `host:port` for gRPC.
        model: The name that the server knows it by.
        version: A version number. Without it, and without a label, the highest that is loaded.
        label: A label, such as `"stable"`.
        timeout: Seconds for one request with all its repetitions.
        retries: How often a request is repeated, at waits of 0.2 s, 0.4 s and so on up to 5 s.
        max_batch: Images in a request; TF Serving refuses more than its `max_batch_size`.
        max_request_bytes: Bytes of images in a request; a file that has more goes alone.
        in_flight: Requests under way at once.
        token: Sent as `Authorization: Bearer …`.
        headers: Further headers; of gRPC, metadata.
        certificate: A PEM file with the authorities that vouch for the server; by default those
            of the system, or of `REQUESTS_CA_BUNDLE` and `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`.

    Example:
        ```python
        with Client("http://localhost:8501", "digits", label="stable") as client:
            for prediction in client.predict(Path("photos").glob("*.jpg")):
                print(prediction.path, prediction.error or prediction.classes[0])
        ```

    Raises:
        UsageError: An argument is wrong.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        max_batch: int = configs.MAX_BATCH,
        max_request_bytes: int = 16 << 20,
        in_flight: int = 4,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        certificate: str | Path | None = None,
    ):
        _require(model != "" and "/" not in model, "model", model, "a name, such as 'digits'")
        _require(version is None or label is None, "label", label, "no label beside a version")
        _require(version is None or version >= 0, "version", version, "a whole number")
        _require(label != "", "label", label, "a name, such as 'stable'")
        limit = f"seconds, more than 0 and at most {_LONGEST_TIMEOUT:.0f}"
        _require(0 < timeout <= _LONGEST_TIMEOUT, "timeout", timeout, limit)
        _require(retries >= 0, "retries", retries, "at least 0")
        _require(max_batch >= 1, "max_batch", max_batch, "at least 1")
        _require(in_flight >= 1, "in_flight", in_flight, "at least 1")
        limit = f"1 to {_MOST_REQUEST_BYTES}"
        good = 1 <= max_request_bytes <= _MOST_REQUEST_BYTES
        _require(good, "max_request_bytes", max_request_bytes, limit)
        _require_headers(token, headers or {})
        scheme, address = _parse(server)
        self._server = f"{scheme}://{address}"
        self._model, self._version, self._label = model, version, label
        self._patience = Patience(timeout, retries)
        self._max_batch, self._max_request_bytes = max_batch, max_request_bytes
        self._in_flight = in_flight
        self._closed = threading.Event()
        authorities = None if certificate is None else str(certificate)
        given = {"token": token, "headers": headers or {}, "certificate": authorities}
        self._transport: _Transport
        if scheme in ("http", "https"):
            self._transport = Rest(
                self._server, model, version, label, connections=in_flight, **given
            )
        else:
            from pipeline.serving.client_grpc import Grpc

            self._transport = Grpc(
                address, model, version, label, is_secure=scheme == "grpcs", **given
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._closed.set()
        self._transport.close()

    def predict(self, images: Iterable[str | Path | bytes]) -> Iterator[ImagePrediction]:
        """Yields a prediction for each image, in their order.

        However many there are, `in_flight` requests are the most that is in memory. A file that is
        bad, or too large for the server, or that cannot be read, has an `error` and stops nothing.

        Args:
            images: Paths or URIs of image files, or the bytes of such files.

        Raises:
            UsageError: The server has no such model, version or label, or it is none that takes
                image files.
            ServingError: The server cannot be reached, fails, or is no TF Serving.
        """
        chunks = streams.chunks(
            map(_read, images), self._max_batch, self._max_request_bytes, lambda file: len(file[1])
        )
        for chunk in streams.in_order(self._classify, chunks, self._in_flight):
            yield from chunk

    def ask(self, signature: str, inputs: Mapping[str, Value]) -> dict[str, np.ndarray]:
        """Returns the outputs of any signature, such as `features`.

        Args:
            signature: Its name.
            inputs: For each input an array, or byte strings, the batch in front.

        Returns:
            Arrays; strings are bytes objects. REST does not say the type of numbers, which are
            float64 or int64 then; gRPC gives the model's own.

        Raises:
            UsageError: The server has no such model, version or label.
            ServingError: There is no answer.
        """
        return self._persistently(lambda deadline: self._transport.ask(signature, inputs, deadline))

    def status(self) -> list[VersionStatus]:
        """Returns the versions of the model, lowest first, or the one of `version`.

        Of a `label`, TF Serving gives all versions, and the laptop server the one that it names.

        Raises:
            UsageError: The server has no such model, version or label.
            ServingError: There is no answer.
        """
        return answers.versions(self._persistently(self._transport.status), self._server)

    def metadata(self) -> Metadata:
        """Returns the name, version and signatures of the model that answers.

        Raises:
            UsageError: The server has no such model, version or label.
            ServingError: There is no answer.
        """
        return answers.metadata(self._persistently(self._transport.metadata), self._server)

    def _classify(self, files: list[tuple[str | None, bytes, str]]) -> list[ImagePrediction]:
        """Returns a row for each file (path, content, why it could not be read)."""
        sent = [file for file in files if not file[2]]
        rows = iter(self._rows(sent) if sent else [])
        return [without_answer(path, error) if error else next(rows) for path, _, error in files]

    def _rows(self, files: list[tuple[str | None, bytes, str]]) -> list[ImagePrediction]:
        try:
            outputs = self.ask(_SIGNATURE, {_INPUT: [content for _, content, _ in files]})
        except TooLargeError:
            # What one request may have, only the server knows, or a proxy before it.
            if len(files) > 1:
                middle = len(files) // 2
                return self._rows(files[:middle]) + self._rows(files[middle:])
            return [without_answer(files[0][0], _TOO_MANY_BYTES)]
        if missing := set(answers.OUTPUTS) - set(outputs):
            raise UsageError(
                f"{self._server}: {_SIGNATURE} of model {self._model!r} gives "
                f"{', '.join(sorted(outputs)) or 'nothing'} and not {', '.join(sorted(missing))}; "
                "expected a model that this pipeline exported"
            )
        return answers.rows([path for path, _, _ in files], outputs, self._server)

    def _persistently(self, request: Callable[[Deadline], T]) -> T:
        try:
            return self._patience.ask(request, self._closed)
        except NotFoundError as error:
            raise UsageError(f"{error}; {self._known()}") from None

    def _known(self) -> str:
        """Returns what the server has of the model instead of what it was asked for."""
        try:
            deadline = Deadline(min(_LOOK, self._patience.timeout))
            status = self._transport.status(deadline, every=True)
            versions = answers.versions(status, self._server)
        except ServingError:
            return (
                f"the server has no model {self._model!r}, or none yet; its models.config says "
                "what it serves, and `push` writes that"
            )
        found = ", ".join(f"{version.version} ({version.state})" for version in versions)
        asked = "" if self._version is None else f"version {self._version} of "
        asked += "" if self._label is None else f"label {self._label!r} of "
        return f"asked for {asked}{self._model!r}, of which it has {found or 'no version'}"


def _require(good: bool, name: str, value: object, expected: str) -> None:
    if not good:
        raise UsageError(f"{name} {value!r}: expected {expected}")


def _require_headers(token: str | None, headers: Mapping[str, str]) -> None:
    """Raises UsageError for what cannot be sent; values may be secret, and are not shown."""
    expected = "printable ASCII without spaces or line breaks at its ends"
    if token is not None and not (token and _HEADER_VALUE.fullmatch(token)):
        raise UsageError(f"token: empty, or with what no header can carry; expected {expected}")
    for name, value in headers.items():
        _require(bool(_HEADER_NAME.fullmatch(name)), "header", name, "a name, such as 'X-Team'")
        if not _HEADER_VALUE.fullmatch(value):
            raise UsageError(f"header {name!r}: no value that can be sent; expected {expected}")


def _parse(server: str) -> tuple[str, str]:
    """Returns the scheme of an address and what follows it."""
    expected = "expected http://host:8501, https://…, grpc://host:8500, grpcs://…, or host:port"
    given = server if "://" in server else f"grpc://{server}"
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"server {server!r}: {error}; {expected}") from None
    bare = "://" not in server and port is None
    if parts.scheme not in _SCHEMES or not host or bare or parts.query or parts.fragment:
        raise UsageError(f"server {server!r}: no address of a server; {expected}")
    if "@" in parts.netloc:
        raise UsageError(
            f"server {parts.scheme}://…@{parts.netloc.rpartition('@')[2]}: passwords have no place "
            "in an address, which is printed; expected a token or headers"
        )
    if parts.scheme in ("http", "https"):
        return parts.scheme, f"{parts.netloc}{parts.path.rstrip('/')}"
    if parts.path.strip("/"):
        raise UsageError(f"server {server!r}: gRPC knows no path; {expected}")
    return parts.scheme, parts.netloc if port is not None else f"{parts.netloc}:{_GRPC_PORT}"


def _read(image: str | Path | bytes) -> tuple[str | None, bytes, str]:
    """Returns the path of an image, its bytes, and why they could not be read."""
    if isinstance(image, bytes):
        return None, image, ""
    path = str(image)
    try:
        return path, uris.read(path), ""
    except uris.BadFileError as error:
        return path, b"", str(error)
