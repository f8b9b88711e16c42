"""TF Serving's REST interface: JSON over HTTP. Needs no TensorFlow."""

import base64
import binascii
import contextlib
import http.client
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import requests
import urllib3

from pipeline.serving.attempts import (
    Deadline,
    LateError,
    NotFoundError,
    ServingError,
    TooLargeError,
    UnavailableError,
)

Value = np.ndarray | Sequence[bytes]

# What may be otherwise the next time: a server that starts, that is full, a proxy without one.
_AGAIN = frozenset({429, 502, 503, 504})
_MOST_ANSWER_BYTES = 256 << 20
_PIECE = 1 << 16
_SHOWN = 200
# What urllib3 puts before a reason: the connection that it is about.
_OBJECT = re.compile(r"^(?:<[^>]*>|\w+\(host=[^)]*\)): ")
_B64 = "b64"
# Of a batch that is larger than the server's own; the code is that of any bad request.
_TOO_LARGE = "maximum input batch size"


class _Bearer(requests.auth.AuthBase):
    """A token; as a plain header, requests would let ~/.netrc overrule it."""

    def __init__(self, token: str):
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Rest:
    """One model of a server behind HTTP.

    Args:
        url: Such as `"http://localhost:8501"`, with what a proxy wants in front of `/v1`.
        model: The name of the model.
        version: A version of it, or None.
        label: A label of it, or None.
        token: A bearer token, or None.
        headers: Further headers.
        certificate: A PEM file with the authorities that are trusted, or None.
        connections: Kept open at most.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        label: str | None,
        *,
        token: str | None,
        headers: Mapping[str, str],
        certificate: str | None,
        connections: int,
    ):
        self._url = url.rstrip("/")
        self._model = f"/v1/models/{quote(model, safe='')}"
        self._spec = self._model
        if version is not None:
            self._spec += f"/versions/{version}"
        elif label is not None:
            self._spec += f"/labels/{quote(label, safe='')}"
        self._session = requests.Session()
        self._session.headers.update(headers)
        if token is not None:
            self._session.auth = _Bearer(token)
        # Of the session, REQUESTS_CA_BUNDLE would overrule it.
        self._certificate = certificate
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(1, connections))

    def ask(
        self, signature: str, inputs: Mapping[str, Value], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature; strings are an array of bytes objects."""
        path = f"{self._spec}:predict"
        answer = self._call("POST", path, deadline, _body(signature, inputs))
        try:
            outputs = answer["outputs"]
            if not isinstance(outputs, dict):  # of one output, the name is left out
                outputs = {"": outputs}
            return {name: _array(value) for name, value in outputs.items()}
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._foreign(path, f"JSON without usable outputs ({error})") from None

    def metadata(self, deadline: Deadline) -> dict[str, Any]:
        """Returns what the server says of the model's signatures."""
        return self._call("GET", f"{self._spec}/metadata", deadline)

    def status(self, deadline: Deadline, every: bool = False) -> dict[str, Any]:
        """Returns the states of the version, of `every` one where there is none or it is asked."""
        return self._call("GET", self._model if every else self._spec, deadline)

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _call(
        self, method: str, path: str, deadline: Deadline, body: bytes | None = None
    ) -> dict[str, Any]:
        url = self._url + path
        if not (left := deadline.left()):  # sockets know no timeout of zero
            raise _late(url, deadline)
        headers = {} if body is None else {"Content-Type": "application/json"}
        with (
            _named(url, deadline),
            self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=left,
                verify=self._certificate,
                stream=True,
                # A redirected POST would become a GET.
                allow_redirects=False,
            ) as response,
        ):
            content = _read(response, url, deadline)
        answer = _parsed(content)
        if response.status_code == requests.codes.ok:
            if answer is None:
                raise self._foreign(path, f"no JSON object: {_shortened(content)}")
            return answer
        raise self._refusal(path, response, content, answer)

    def _refusal(
        self,
        path: str,
        response: requests.Response,
        content: bytes,
        answer: dict[str, Any] | None,
    ) -> ServingError:
        """Returns the error for an answer that is none."""
        code = response.status_code
        said = None if answer is None else answer.get("error")
        message = f"{self._url}{path}: {code} {response.reason}: {said or _shortened(content)}"
        if code in _AGAIN:
            return UnavailableError(message, _retry_after(response))
        if code == requests.codes.request_entity_too_large or _TOO_LARGE in str(said):
            return TooLargeError(f"{message}; send fewer or smaller files in a request")
        if code in (requests.codes.unauthorized, requests.codes.forbidden):
            return ServingError(f"{message}; a token or a header that it expects may be missing")
        if said is None:
            moved = response.headers.get("Location")
            found = f"{code} {response.reason}"
            found += f" to {moved}" if moved else f": {_shortened(content)}"
            return self._foreign(path, found)
        # What the server calls a label that it does not know is a bad request.
        if code == requests.codes.not_found or "version label" in str(said):
            return NotFoundError(message)
        return ServingError(message)

    def _foreign(self, path: str, found: str) -> ServingError:
        return ServingError(
            f"{self._url}{path}: this is not how TF Serving answers, found {found}; expected the "
            "address of its REST port, such as http://localhost:8501"
        )


@contextlib.contextmanager
def _named(url: str, deadline: Deadline) -> Iterator[None]:
    """Turns what can go wrong with a connection into errors that name the address."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise ServingError(
            f"{url}: no secure connection: {_reason(_innermost(error))}; expected a server of "
            "TLS, with a certificate of a known authority, or of the one that `certificate` names"
        ) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise _late(url, deadline) from None
    except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL) as error:
        raise ServingError(f"{url}: {error}") from None
    except OSError as error:
        if isinstance(error, (requests.RequestException, ConnectionError, TimeoutError)):
            raise _broken(url, error) from None
        # requests' own, of a file that is not there.
        raise ServingError(f"{url}: {error}") from None
    except urllib3.exceptions.HTTPError as error:
        raise _broken(url, error) from None


def _broken(url: str, error: Exception) -> UnavailableError:
    cause = _innermost(error)
    if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, ConnectionError):
        return UnavailableError(
            f"{url}: what answers is no HTTP, perhaps TF Serving's gRPC port, which is asked as "
            "grpc://…"
        )
    hint = "; is the server running?" if "Connection refused" in str(cause) else ""
    return UnavailableError(f"{url}: no answer: {_reason(cause)}{hint}")


def _late(url: str, deadline: Deadline) -> LateError:
    return LateError(
        f"{url}: no answer within {deadline.seconds:g} s; the server is busy or gone; a longer "
        "timeout, or fewer files in a request, may help"
    )


def _innermost(error: BaseException) -> BaseException:
    """Returns the reason itself, without the wrappings of two libraries."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((a for a in reversed(error.args) if isinstance(a, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _reason(error: BaseException) -> str:
    return _OBJECT.sub("", str(error)) or type(error).__name__


def _read(response: requests.Response, url: str, deadline: Deadline) -> bytes:
    """Returns the body; requests' own timeout is one for each piece that comes."""
    pieces, size = [], 0
    while piece := response.raw.read1(_PIECE, decode_content=True):
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_ANSWER_BYTES:
            raise ServingError(
                f"{url}: an answer of more than {_MOST_ANSWER_BYTES >> 20} MiB; expected "
                "predictions, which are smaller; ask for fewer files in a request"
            )
        if not deadline.left():
            raise _late(url, deadline)
    return b"".join(pieces)


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        # TF Serving writes strings as they are, also where they are no UTF-8.
        answer = json.loads(content.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _retry_after(response: requests.Response) -> float:
    """Returns the seconds of the header Retry-After, a number or a date; 0 without a usable one."""
    value = response.headers.get("Retry-After")
    if value is None:
        return 0.0
    try:
        return urllib3.Retry().parse_retry_after(value)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0  # no number or date, or one beyond all calendars


def _shortened(content: bytes) -> str:
    text = " ".join(content[: 4 * _SHOWN].decode(errors="replace").split())
    return repr(f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text)


def _body(signature: str, inputs: Mapping[str, Value]) -> bytes:
    """Returns a request in columns: names once, and answers of the same form."""
    # Put together by hand: files are by far the most of it, and each copy is memory.
    parts = [b'{"signature_name": ', json.dumps(signature).encode(), b', "inputs": {']
    for number, (name, value) in enumerate(inputs.items()):
        parts += [b", " if number else b"", json.dumps(name).encode(), b": "]
        if isinstance(value, np.ndarray) and value.dtype != object:
            parts.append(json.dumps(value.tolist()).encode())
            continue
        parts.append(b"[")
        for place, file in enumerate(value):
            parts += [b'{"b64": "' if not place else b', {"b64": "', base64.b64encode(file), b'"}']
        parts.append(b"]")
    parts.append(b"}}")
    return b"".join(parts)


def _array(value: Any) -> np.ndarray:
    """Returns numbers as they are, strings as bytes objects, which may be longer than they look."""
    flat, shape = _flattened(value)
    if any(isinstance(element, (str, dict)) for element in flat):
        array = np.empty(len(flat), object)
        array[:] = [_bytes(element) for element in flat]
    else:
        array = np.array(flat)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"expected numbers or strings, got {array.dtype}")
    return array.reshape(shape)


def _flattened(value: Any) -> tuple[list[Any], tuple[int, ...]]:
    shape: tuple[int, ...] = ()
    flat = [value]
    while flat and all(isinstance(element, list) for element in flat):
        lengths = {len(element) for element in flat}
        if len(lengths) > 1:
            raise ValueError("rows of different lengths")
        shape += tuple(lengths)
        flat = [inner for element in flat for inner in element]
    return flat, shape


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    if isinstance(value, dict) and set(value) == {_B64}:
        return base64.b64decode(value[_B64], validate=True)
    raise ValueError(f"expected strings, got {type(value).__name__}")
