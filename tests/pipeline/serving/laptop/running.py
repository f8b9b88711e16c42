"""`python -m pipeline serve` in a process of its own, and asking it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What the server answered.

    Args:
        status: The HTTP status.
        headers: By name in lower case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """Returns the body as JSON; NaN is none."""
        return json.loads(self.content, parse_constant=lambda text: 1 / 0)

    @property
    def error(self) -> str:
        """Returns the message of an error, which has the form of TF Serving's."""
        (message,) = self.json.values()
        assert list(self.json) == ["error"]
        assert self.headers["content-type"] == "application/json"
        return message


@dataclass
class Laptop:
    """A server that runs.

    Args:
        process: Its process.
        port: Where it listens.
        errors: The file of what it printed on the standard error.
    """

    process: subprocess.Popen
    port: int
    errors: Path
    _kept: http.client.HTTPConnection | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        """Returns the answer to a request on a connection of its own.

        Args:
            path: Behind the host.
            body: JSON, or bytes, or an iterator of bytes that is sent in chunks.
            method: By default GET, and POST where there is a body.
            headers: With `_` for `-`.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        with contextlib.closing(connection):
            return ask(connection, path, body, method, **headers)

    def predict(self, model: str, body: Any) -> Any:
        """Returns the rows, or columns, that a model answers."""
        answer = self.ask(f"/v1/models/{model}:predict", body)
        assert answer.status == 200, answer.content[:2000]
        (found,) = answer.json.values()
        return found

    def memory(self, name: str = "VmRSS") -> int:
        """Returns the memory that the process has in bytes; `VmHWM` is the most that it had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) << 10

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it by a signal and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_SECONDS)


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: Any = None,
    method: str | None = None,
    **headers: str,
) -> Answer:
    """Returns the answer to a request on a connection; see `Laptop.ask`."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read())


@contextlib.contextmanager
def serve(folder: Path, logs: Path, *options: str) -> Iterator[Laptop]:
    """Yields a server of a folder once it answers; it is ended with the block.

    Args:
        folder: What it serves.
        logs: An existing directory.
        options: Of the command.
    """
    errors = logs / "errors.txt"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "pipeline", "serve", str(folder), "--port", "0", *options]
    with errors.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, env=environment, text=True
        )
    late = threading.Timer(2 * _SECONDS, process.kill)
    late.start()
    try:
        line = process.stdout.readline()
        late.cancel()
        found = re.search(r"http://[^/]*:(\d+)/", line)
        assert found, (line, errors.read_text())
        yield Laptop(process, int(found[1]), errors)
    finally:
        late.cancel()
        if process.poll() is None:
            process.kill()
        process.wait(_SECONDS)
        process.stdout.close()


def until(condition: Any, seconds: float = _SECONDS) -> Any:
    """Waits until a condition holds, and returns what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("never came")


def scaling(folder: Path, factor: float) -> Path:
    """Writes a SavedModel that multiplies by a factor, which is loaded at once."""
    module = tf.Module()
    module.factor = tf.constant(factor)
    numbers = [tf.TensorSpec([None], tf.float32, name="x")]
    texts = [tf.TensorSpec([None], tf.string, name="text")]
    signatures = {
        "serving_default": tf.function(
            lambda x: {"y": x * module.factor, "factor": tf.zeros_like(x) + module.factor},
            input_signature=numbers,
        ),
        "mean": tf.function(lambda x: {"mean": tf.reduce_mean(x)}, input_signature=numbers),
        "root": tf.function(lambda x: {"root": tf.sqrt(x)}, input_signature=numbers),
        "parse": tf.function(
            lambda text: {"number": tf.strings.to_number(text)}, input_signature=texts
        ),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder
