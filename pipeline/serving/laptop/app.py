"""The paths: TF Serving's REST API, the page, and how the server is."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.records import example_proto
from pipeline.records.examples import IMAGE
from pipeline.serving.laptop import codec, limits, page
from pipeline.serving.laptop.batching import Batcher
from pipeline.serving.laptop.limits import Budget, Limits, RefusedError
from pipeline.serving.laptop.models import Repository, Version
from pipeline.serving.session import SessionError

_MODEL = (
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
)
_PREDICT = re.compile(rf"{_MODEL}:(?P<verb>\w+)")
_ABOUT = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?")

# What an error of TensorFlow is in HTTP, as TF Serving has it; others are 500.
_STATUSES = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}

# The beginning of a PNG of 4 × 10⁹ pixels: what is exported says of it that it is too large, too.
_TOO_LARGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0" + bytes(4)
_EXAMPLES = "examples"


class Service:
    """What answers the paths.

    Args:
        repository: The models.
        bounds: How much is taken on.
        allowed: The names by which the server may be called; None for any.
    """

    def __init__(self, repository: Repository, bounds: Limits, allowed: Any):
        self._repository = repository
        self._limits = bounds
        self._budget = Budget(bounds)
        self.batcher = Batcher(bounds)
        # One, so that only one body is a tree of objects at a time, which takes many times its size.
        self._codec = ThreadPoolExecutor(1, "codec")
        self.app = Starlette(
            routes=[
                Route("/", self.show),
                Route("/health", self.health),
                Route("/models", self.list),
                Route("/v1/{rest:path}", self.rest, methods=["GET", "POST"]),
            ],
            middleware=[Middleware(_Guard, allowed=allowed)],
            exception_handlers={
                RefusedError: _refused,
                ClientDisconnect: _gone,
                HTTPException: _not_here,
                Exception: _failed,
            },
        )

    def close(self) -> None:
        """Ends the threads."""
        self.batcher.close()
        self._codec.shutdown(cancel_futures=True)

    async def show(self, request: Request) -> Response:
        """Answers with the page."""
        return HTMLResponse(page.html(), headers={"Content-Security-Policy": page.policy()})

    async def health(self, request: Request) -> Response:
        """Answers 200 when every model has a version that answers, else 503."""
        models = self._repository.models
        waiting = [name for name, model in sorted(models.items()) if not model.available()]
        if not models or waiting:
            found = f"no version answers of {', '.join(waiting)}" if waiting else "no model"
            raise RefusedError(503, found, retry_after=1)
        return JSONResponse({"status": "ok", "models": sorted(models)})

    async def list(self, request: Request) -> Response:
        """Answers with all models, their versions and labels."""
        return JSONResponse(
            {
                "models": [
                    {
                        "name": name,
                        "labels": dict(sorted(model.labels.items())),
                        "versions": model.statuses(None, None),
                        "takes_files": any(
                            _takes_files(version) for version in model.versions.values()
                        ),
                    }
                    for name, model in sorted(self._repository.models.items())
                ],
                "max_body": self._limits.max_body,
            }
        )

    async def rest(self, request: Request) -> Response:
        """Answers TF Serving's paths."""
        path = request.scope["path"]
        if (found := _PREDICT.fullmatch(path)) and found["verb"] == "predict":
            if request.method != "POST":
                raise HTTPException(405, headers={"Allow": "POST"})
            return await self._predict(request, *_asked(found))
        if found:
            raise RefusedError(
                501 if found["verb"] in ("classify", "regress") else 404,
                f"{found['verb'][:100]}: this server knows predict alone",
            )
        if found := _ABOUT.fullmatch(path):
            if request.method == "POST":
                raise HTTPException(405, headers={"Allow": "GET"})
            name, number, label = _asked(found)
            if found["metadata"]:
                return self._metadata(name, number, label)
            statuses = self._repository.find(name).statuses(number, label)
            return JSONResponse({"model_version_status": statuses})
        raise HTTPException(404)

    def _metadata(self, name: str, number: int | None, label: str | None) -> Response:
        with self._repository.hold(name, number, label) as version:
            specification = {"name": name, "signature_name": "", "version": str(version.number)}
            metadata = {"signature_def": {"signature_def": version.loaded.metadata}}
        return JSONResponse({"model_spec": specification, "metadata": metadata})

    async def _predict(
        self, request: Request, name: str, number: int | None, label: str | None
    ) -> Response:
        self._repository.find(name).find(number, label)  # before anything is read
        async with self._budget.body(request.headers, request.stream()) as body:
            with self._repository.hold(name, number, label) as version:
                signatures = version.loaded.signatures
                parsed, costs = await self._aside(_understood, body, signatures, self._limits)
                body.clear()
                queue = version.queues[parsed.signature.name]
                try:
                    outputs = await self.batcher.run(queue, parsed, costs)
                except SessionError as error:
                    raise RefusedError(_STATUSES.get(error.code, 500), _line(error)) from None
            content = await self._aside(codec.answer, outputs, parsed.is_columnar)
        headers = {"Model-Version": str(version.number)}
        return Response(content, headers=headers, media_type="application/json")

    async def _aside(self, function: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._codec, function, *arguments)


def _asked(found: re.Match) -> tuple[str, int | None, str | None]:
    number = found["version"]
    return found["name"], None if number is None else int(number), found["label"]


def _takes_files(version: Version) -> bool:
    if version.loaded is None or codec.DEFAULT not in version.loaded.signatures:
        return False
    signature = version.loaded.signatures[codec.DEFAULT]
    return set(signature.inputs) == {"image_bytes"} and {"classes", "scores"} <= set(
        signature.outputs
    )


def _understood(
    body: bytearray, signatures: dict[str, codec.Signature], bounds: Limits
) -> tuple[codec.Request, list[int]]:
    """Returns the request and the pixels of each of its rows; called in a thread.

    Raises:
        RefusedError: It cannot be understood, or an image is too large.
    """
    request = codec.parse(body, signatures, bounds)
    costs = [0] * request.rows
    for name, array in request.inputs.items():
        if array.dtype != object:
            if array.ndim == 4 and request.rows:  # pixels
                costs = [array.shape[1] * array.shape[2]] * request.rows
            continue
        values = array.reshape(-1)
        for place, value in enumerate(values):
            cost = limits.pixels(_image_in(value) if name == _EXAMPLES else value)
            if cost > bounds.max_pixels:
                if not request.signature.has_row_errors:
                    raise RefusedError(
                        413,
                        f"input {name!r}, value {place}: an image of {cost:,} pixels; this server "
                        f"takes at most {bounds.max_pixels:,}",
                    )
                values[place] = _example(_TOO_LARGE) if name == _EXAMPLES else _TOO_LARGE
            elif request.rows:
                costs[place * request.rows // len(values)] += cost
    return request, costs


def _image_in(example: bytes) -> bytes:
    from google.protobuf.message import DecodeError

    try:
        features = example_proto.example_class().FromString(example).features.feature
    except DecodeError:
        return b""
    values = features[IMAGE].bytes_list.value if IMAGE in features else ()
    return values[0] if values else b""


def _example(image: bytes) -> bytes:
    message = example_proto.example_class()()
    message.features.feature[IMAGE].bytes_list.value.append(image)
    return message.SerializeToString()


class _Guard:
    """Refuses requests of foreign pages, and says on every answer what a browser may do with it."""

    def __init__(self, app: ASGIApp, allowed: Any):
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            limits.check_origin(Headers(scope=scope), self._allowed)
        except RefusedError as error:
            await _json(error.status, str(error))(scope, receive, answer)
            return
        await self._app(scope, receive, answer)


_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


def _json(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps({"error": message}).encode()
    return Response(content, status, headers, media_type="application/json")


async def _refused(request: Request, error: RefusedError) -> Response:
    headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return _json(error.status, str(error), headers)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _not_here(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        expected = (error.headers or {}).get("Allow", "")
        return _json(
            405, f"{request.method} is not answered here; expected {expected}", error.headers
        )
    return _json(
        error.status_code,
        f"nothing is at {request.scope['path'][:200]}; there are /, /health, /models and "
        "/v1/models/NAME[/versions/N|/labels/LABEL][:predict|/metadata]",
    )


async def _failed(request: Request, error: Exception) -> Response:
    return _json(500, f"{type(error).__name__}: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:2000]
