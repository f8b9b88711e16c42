"""How the command begins and ends: what it prints, what it refuses, its exit codes."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.serving import push
from pipeline.serving.laptop import limits, server
from pipeline.serving.laptop.app import Service
from pipeline.serving.laptop.loading import Loaded, LoadError
from pipeline.serving.session import SessionError
from tests.pipeline.serving.laptop import running
from tests.pipeline.serving.models import saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A destination with one small model."""
    made = tmp_path_factory.mktemp("made")
    push.push(running.scaling(made / "model", 2.0), made / "served" / "scale")
    return made / "served"


def _command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("../nowhere", {}, "no such directory"),
        ("..", {}, "no versions in it"),
        ("scale/1", {}, "is one version; name the directory above it"),
        (".", {"host": "no..name"}, "no address of this machine"),
        (".", {"host": "192.0.2.1"}, "no address of this machine"),
    ],
)
def test_what_cannot_be_served_is_refused(folder, place, options, said):
    with pytest.raises(UsageError, match=said):
        server.Server(folder / place, port=0, **options)


def test_what_cannot_be_served_ends_the_command_with_one_line(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, code, said in (
            ((folder, "--port", port), 1, f"port {port}: in use by another program; --port takes"),
            (("gs://bucket/models",), 2, "only models in directories of this machine"),
            ((folder, "--max-batch", "0"), 2, "max-batch"),
        ):
            done = _command(*arguments)
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            (line,) = done.stderr.splitlines()
            assert line.startswith("error: ")
            assert said in line


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # it was closed while we came
        return True
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_what_has_been_asked_is_answered_before_the_end(folder, tmp_path, number, code):
    with running.serve(folder / "scale", tmp_path, "--timeout", "20") as laptop:
        connection = http.client.HTTPConnection("127.0.0.1", laptop.port, timeout=30)
        body = json.dumps({"instances": [1]}).encode()
        connection.putrequest("POST", "/v1/models/scale:predict")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert b" 100 " in connection.sock.recv(1000)  # it has begun to read
        connection.send(body[:5])
        ending = threading.Thread(target=laptop.stop, args=(number,))
        ending.start()
        running.until(lambda: not _listens(laptop.port), seconds=15)
        connection.send(body[5:])
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["predictions"][0]["y"]) == (200, 2)
        ending.join(30)
        assert laptop.process.returncode == code
        last = laptop.errors.read_text().splitlines()[-1]
        assert "stopped" in last
        assert laptop.process.stdout.read() == ""


def test_what_it_prints(folder, tmp_path):
    with running.serve(folder, tmp_path, "--host", "localhost") as laptop:
        assert laptop.ask("/health").status == 200
        # What it says on the standard error comes through a process that leaves out noise.
        (line,) = running.until(lambda: laptop.errors.read_text().splitlines())
        assert line.startswith("scale: version 1 is served")
        push.push(saved_model(tmp_path / "damaged"), folder / "scale")
        running.until(lambda: "version 2 cannot be loaded" in laptop.errors.read_text())
        status = laptop.ask("/v1/models/scale/versions/2").json["model_version_status"][0]
        assert status["state"] == "END"
        assert status["status"]["error_code"] != "OK"
        assert laptop.predict("scale", {"instances": [1]})[0]["y"] == 2
        assert (
            laptop.ask("/v1/models/scale/labels/stable:predict", {"instances": [1]}).status == 200
        )


def test_a_warmup_that_fails_or_is_damaged_is_an_error_of_loading(folder, tmp_path):
    from pipeline.serving import messages, versions, warmup

    stopping = threading.Event()
    model = running.scaling(tmp_path / "model", 3.0)
    Loaded(model, stopping).close()
    warmup.write(model / versions.WARMUP, "scale", [b"an image"], 1)
    with pytest.raises(LoadError, match="serving_default takes"):
        Loaded(model, stopping)
    (model / versions.WARMUP).write_bytes(b"cut")
    with pytest.raises(LoadError, match="warmup"):
        Loaded(model, stopping)
    stopping.set()
    assert messages.request("scale", "mean", {}).model_spec.name == "scale"
    with pytest.raises(LoadError, match=r"has no saved_model\.pb"):
        Loaded(tmp_path, stopping)


def test_what_is_being_computed_is_not_freed_before_it_is_done(folder, monkeypatch):
    """Nobody waits any more for a request that took too long, and its version may go meanwhile."""
    loaded = Loaded(folder / "scale" / "1", threading.Event())
    began, go, session = threading.Event(), threading.Event(), loaded._session

    class Slow:
        def run(self, signature, inputs):
            began.set()
            assert go.wait(60)
            return session.run(signature, inputs)

        def close(self):
            assert go.is_set()
            session.close()

    monkeypatch.setattr(loaded, "_session", Slow())
    inputs = {"x": np.ones(2, np.float32)}
    with ThreadPoolExecutor(2) as threads:
        computing = threads.submit(loaded.run, "serving_default", inputs)
        assert began.wait(60)
        closing = threads.submit(loaded.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        go.set()
        assert computing.result(60)["y"].tolist() == [2, 2]
        closing.result(60)
    with pytest.raises(SessionError, match="is unloaded"):
        loaded.run("serving_default", inputs)


def test_no_route_is_left_out_of_what_unknown_paths_are_told():
    service = Service(None, limits.Limits(), None)
    try:
        paths = {route.path for route in service.app.routes}
    finally:
        service.close()
    assert paths == {"/", "/health", "/models", "/v1/{rest:path}"}


@pytest.fixture(scope="module")
def impatient(folder):
    """A server in this process that waits for nobody longer than a second and a half."""
    ready = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_PATIENCE", 1.5)
        own = server.Server(folder, port=0, ready=lambda own: ready.set())
        running_ = threading.Thread(target=own.run, daemon=True)
        running_.start()
        try:
            assert ready.wait(60)
            yield own
        finally:
            own.stop()
            running_.join(60)
        assert not running_.is_alive()


def test_connections_on_which_nothing_more_comes_are_closed(impatient):
    beginnings = (
        b"",
        b"GET /hea",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        # Refused at once, and then the rest of it never comes.
        b"POST /v1/models/scale:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    )
    with contextlib.ExitStack() as stack:
        all_of_them = []
        for sent in beginnings:
            slow = socket.create_connection(("127.0.0.1", impatient.port), timeout=60)
            all_of_them.append(stack.enter_context(slow))
            slow.sendall(sent)
        for sent, slow in zip(beginnings, all_of_them, strict=True):
            content = b""
            while more := slow.recv(10_000):
                content += more
            assert (b" 403 " in content) == sent.startswith(b"POST")


def test_connections_whose_answers_are_not_read_are_closed(impatient):
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=60) as slow:
        ask = b"GET /v1/models/scale/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises(OSError, match=r"reset|Broken"):
            for _ in range(1_000_000):
                slow.sendall(ask * 100)
    connection = http.client.HTTPConnection("127.0.0.1", impatient.port, timeout=60)
    assert running.ask(connection, "/health").status == 200
    connection.close()


def test_a_connection_that_is_idle_is_kept(impatient):
    connection = http.client.HTTPConnection("127.0.0.1", impatient.port, timeout=60)
    assert running.ask(connection, "/health").status == 200
    time.sleep(1.8)
    assert running.ask(connection, "/health").status == 200
    connection.close()
