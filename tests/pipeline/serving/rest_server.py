"""A server behind HTTP that answers as the test says, in full, in part, late or not at all."""

import base64
import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What is sent.

    Args:
        body: Bytes, or what becomes JSON.
        code: The status.
        headers: Further headers.
        delay: Seconds before anything is sent.
        cut: How many bytes of the body are sent before the connection ends, or None for all.
        drip: Seconds between the bytes of the body, which come one by one.
    """

    body: Any = b""
    code: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    cut: int | None = None
    drip: float = 0.0

    def content(self) -> bytes:
        """Returns the bytes of the body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def error(code: int, text: str, **options: Any) -> Answer:
    """Returns an error as TF Serving sends it."""
    return Answer({"error": text}, code, **options)


def predictions(body: bytes) -> Answer:
    """Returns outputs that tell the images apart: scores and classes are of their lengths."""
    request = json.loads(body)
    files = [base64.b64decode(file["b64"]) for file in request["inputs"]["image_bytes"]]
    outputs = {
        "classes": [[f"{len(file)} bytes", "other"] for file in files],
        "scores": [[0.75, 0.25] for _ in files],
        "probabilities": [[0.25, 0.75] for _ in files],
        "error": ["" if file else "empty" for file in files],
    }
    return Answer({"outputs": outputs})


STATUS = {
    "model_version_status": [
        {
            "version": "3",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]
}


@dataclass
class Request:
    """What was received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers requests one by one from `script`, and by `answer` when that is empty."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.answer: Callable[[Request], Answer] = lambda request: (
            predictions(request.body) if request.method == "POST" else Answer(STATUS)
        )
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.url = ""

    def _handle(self, request: Request, handler: http.server.BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            answer = self.script.pop(0) if self.script else self.answer(request)
        time.sleep(answer.delay)
        content = answer.content()
        handler.send_response(answer.code)
        for name, value in {**JSON, **dict(answer.headers)}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with self._lock:
            self._at_once -= 1
        if answer.drip:
            for byte in content:
                handler.wfile.write(bytes([byte]))
                time.sleep(answer.drip)
        handler.wfile.write(content[: answer.cut])
        handler.close_connection = answer.cut is not None

    @contextlib.contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator["Server"]:
        """Listens on this machine until the body ends, with TLS where a context is given."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers), body)
                with contextlib.suppress(OSError):  # the client has gone
                    outer._handle(request, self)

            do_GET = do_POST

            def log_message(self, *arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda request, address: None  # of clients that go away
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
