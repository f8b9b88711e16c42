"""Servers for a SavedModel to try it in, started for a moment: TF Serving, or its loader alone."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from pipeline.serving import loader, messages

MODEL_SERVER, DOCKER, LOADER = "tensorflow_model_server", "docker", "c++ loader"
Backend = Literal["tensorflow_model_server", "docker", "c++ loader"]
_IMAGE = "tensorflow/serving"
_MODEL = "tried"
_WAIT = 0.1
_PATIENCE = 10.0
_MOST_MESSAGE_BYTES = 1 << 30
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_KEPT += ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


class ServerError(Exception):
    """A server could not load the model, or gave no answer; the message says why."""


class Server(Protocol):
    """A model that is being served."""

    def ask(self, signature: str, inputs: Mapping[str, messages.Value]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature.

        Raises:
            ServerError: There is no answer, or it is an error.
        """

    def replay(self, request: predict_pb2.PredictRequest) -> None:
        """Answers a request under whatever name of the model, as a warmup does.

        Raises:
            ServerError: There is no answer, or it is an error.
        """

    def peak_memory(self) -> int | None:
        """Returns the most memory that the server has had, in bytes, where it can be found out."""


def best() -> Backend:
    """Returns the backend that is nearest to production on this machine."""
    if shutil.which(MODEL_SERVER):
        return MODEL_SERVER
    return DOCKER if shutil.which("docker") and _has_image() else LOADER


def _has_image() -> bool:
    """Whether Docker answers and has the image of TF Serving: nothing is downloaded unasked."""
    command = ["docker", "image", "inspect", _IMAGE]
    try:
        found = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return found.returncode == 0


@contextlib.contextmanager
def serving(model: Path, backend: Backend, timeout: float) -> Iterator[Server]:
    """Serves a SavedModel until the body ends.

    Args:
        model: The directory with `saved_model.pb`.
        backend: What serves it.
        timeout: Seconds after which starting, or an answer, counts as failed.

    Raises:
        ServerError: It does not start, or does not load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = {MODEL_SERVER: _model_server, DOCKER: _docker, LOADER: _loader}[backend]
        with start(model, Path(folder), timeout) as server:
            yield server


class _Loader:
    def __init__(self, process: subprocess.Popen, log: Path, timeout: float):
        self._process = process
        self._log = log
        self._timeout = timeout
        try:
            self._receive()
        except ServerError as error:
            raise ServerError(f"the model is not loaded: {error}") from None

    def ask(self, signature: str, inputs: Mapping[str, messages.Value]) -> dict[str, np.ndarray]:
        return self._answer(messages.request(_MODEL, signature, inputs))

    def replay(self, request: predict_pb2.PredictRequest) -> None:
        self._answer(request)

    def _answer(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        content = request.SerializeToString()
        try:
            self._process.stdin.write(loader.LENGTH.pack(len(content)) + content)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ServerError(_ended(self._process, self._log)) from None
        return messages.parsed(self._receive())

    def peak_memory(self) -> int | None:
        return _peak_memory(self._process.pid)

    def _receive(self) -> bytes:
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(self._timeout, end)
        clock.start()
        try:
            kind = self._process.stdout.read(1)
            (length,) = loader.LENGTH.unpack(self._process.stdout.read(8)) if kind else (0,)
            content = self._process.stdout.read(length)
        finally:
            clock.cancel()
        if late.is_set():
            raise ServerError(f"no answer within {self._timeout:g} s")
        if not kind or len(content) < length:
            raise ServerError(_ended(self._process, self._log))
        if kind == loader.ERROR:
            raise ServerError(content.decode(errors="replace"))
        return content


class _Remote:
    """TF Serving behind gRPC."""

    def __init__(self, process: subprocess.Popen, log: Path, port: int, timeout: float):
        self._process = process
        self._timeout = timeout
        limits = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", [(name, _MOST_MESSAGE_BYTES) for name in limits]
        )
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._log = log

    def ask(self, signature: str, inputs: Mapping[str, messages.Value]) -> dict[str, np.ndarray]:
        return self._answer(messages.request(_MODEL, signature, inputs))

    def replay(self, request: predict_pb2.PredictRequest) -> None:
        renamed = predict_pb2.PredictRequest()
        renamed.CopyFrom(request)
        renamed.model_spec.name = _MODEL
        self._answer(renamed)

    def _answer(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        try:
            return messages.outputs(self._service.Predict(request, timeout=self._timeout))
        except grpc.RpcError as error:
            raise ServerError(f"{error.code().name}: {error.details()}") from None

    def peak_memory(self) -> int | None:
        return _peak_memory(self._process.pid)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def wait(self) -> None:
        """Returns when the model is available.

        Raises:
            ServerError: It has not been loaded in time, or cannot be.
        """
        states = get_model_status_pb2.ModelVersionStatus
        status = model_service_pb2_grpc.ModelServiceStub(self._channel)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = _MODEL
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ServerError(_ended(self._process, self._log))
            # Until the server listens, and knows the model, there is nothing to ask.
            with contextlib.suppress(grpc.RpcError):
                for version in status.GetModelStatus(request, timeout=1).model_version_status:
                    if version.state == states.AVAILABLE:
                        return
                    if version.state == states.END:
                        raise ServerError(
                            f"the model is not loaded: {version.status.error_message}"
                        )
            time.sleep(_WAIT)
        raise ServerError(f"no answer within {self._timeout:g} s")


@contextlib.contextmanager
def _loader(model: Path, folder: Path, timeout: float) -> Iterator[Server]:
    command = [sys.executable, "-m", loader.__name__, str(model.resolve())]
    with _running(command, folder / "log", piped=True) as process:
        yield _Loader(process, folder / "log", timeout)


@contextlib.contextmanager
def _model_server(model: Path, folder: Path, timeout: float) -> Iterator[Server]:
    shutil.copytree(model, folder / _MODEL / "1")
    port = _free_port()
    command = [
        MODEL_SERVER,
        f"--port={port}",
        "--rest_api_port=0",
        f"--model_name={_MODEL}",
        f"--model_base_path={folder / _MODEL}",
        "--max_num_load_retries=0",
    ]
    with _connected(command, folder / "log", port, timeout) as server:
        yield server


@contextlib.contextmanager
def _docker(model: Path, folder: Path, timeout: float) -> Iterator[Server]:
    shutil.copytree(model, folder / _MODEL / "1")
    name, port = f"infra-validator-{uuid.uuid4().hex}", _free_port()
    command = ["docker", "run", "--rm", "--name", name]
    command += ["--publish", f"127.0.0.1:{port}:8500", "--env", f"MODEL_NAME={_MODEL}"]
    command += ["--volume", f"{folder / _MODEL}:/models/{_MODEL}:ro", _IMAGE]
    command += ["--max_num_load_retries=0"]
    try:
        with _connected(command, folder / "log", port, timeout) as server:
            # The memory of the client says nothing of the container's.
            server.peak_memory = lambda: None
            yield server
    finally:
        # Ending the client would leave the container running.
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


@contextlib.contextmanager
def _connected(command: list[str], log: Path, port: int, timeout: float) -> Iterator[_Remote]:
    with _running(command, log) as process:
        server = _Remote(process, log, port, timeout)
        try:
            server.wait()
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def _running(command: list[str], log: Path, piped: bool = False) -> Iterator[subprocess.Popen]:
    """Runs a process on the CPU, in a clean environment, and ends it in any case."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "1"}
    pipe = subprocess.PIPE if piped else None
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or file,
            stderr=file,
            env=environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _ended(process: subprocess.Popen, log: Path) -> str:
    code = process.wait()
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"the server ended with code {code}: {lines[-1] if lines else 'no message'}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _peak_memory(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # Linux alone tells
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
