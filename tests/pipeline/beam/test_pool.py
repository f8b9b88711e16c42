"""Workers that are started for whoever asks, and what each makes of the answers of its runner."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_services
from apache_beam.portability.api import beam_runner_api_pb2 as runner
from google.protobuf import struct_pb2

from pipeline.beam import boot, pool
from pipeline.errors import UsageError
from tests.pipeline.builders import PYTHON

_SECONDS = 30


class Provision(provision_services.ProvisionServiceServicer):
    """Tells workers of a job."""

    def __init__(self, **fields):
        options = struct_pb2.Struct()
        options.update({"beam:option:job_name:v1": "digits"})
        self.info = provision.ProvisionInfo(pipeline_options=options, **fields)
        self.asked_by = []

    def GetProvisionInfo(self, request, context):
        self.asked_by += [value for key, value in context.invocation_metadata() if "worker" in key]
        return provision.GetProvisionInfoResponse(info=self.info)


@contextlib.contextmanager
def serving(servicer):
    server = grpc.server(ThreadPoolExecutor(2))
    provision_services.add_ProvisionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(0)


def until(holds):
    end = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def running():
    """Yields the stub of a pool in this process, and the lines that it says."""
    said, over = [], threading.Event()
    thread = threading.Thread(target=pool.serve, args=("localhost", 0, said.append, over))
    thread.start()
    until(lambda: said)
    try:
        with grpc.insecure_channel(said[0].rpartition(" ")[2]) as channel:
            yield services.BeamFnExternalWorkerPoolStub(channel), said
    finally:
        over.set()
        thread.join()


def request(name, provision_endpoint):
    endpoint = {"url": provision_endpoint}
    return messages.StartWorkerRequest(worker_id=name, provision_endpoint=endpoint)


def test_each_worker_is_a_process_that_is_said_to_start_and_to_end():
    with running() as (stub, said):
        # Nobody answers where it asks for its job, so it ends, and says so by its status.
        assert stub.StartWorker(request("1-1", "localhost:9")).error == ""
        until(lambda: len(said) == 3)
    assert re.fullmatch(r"worker 1-1 started, process \d+", said[1])
    assert re.fullmatch(r"worker 1-1 ended, status [1-9]\d*", said[2])


@pytest.fixture
def sleepers(monkeypatch, tmp_path):
    """Workers that do nothing until they are ended."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(pool.sys, "executable", str(script))


def test_a_worker_is_stopped_when_asked_for(sleepers):
    with running() as (stub, said):
        stub.StartWorker(request("1-1", "x"))
        stub.StopWorker(messages.StopWorkerRequest(worker_id="another"))
        assert len(said) == 2
        stub.StopWorker(messages.StopWorkerRequest(worker_id="1-1"))
        until(lambda: len(said) == 3)
        assert said[2] == f"worker 1-1 ended, status {-signal.SIGTERM}"


def test_of_two_with_one_name_none_is_taken_for_the_other(sleepers):
    with running() as (stub, said):
        for _ in range(2):
            stub.StartWorker(request("1-1", "x"))
        stub.StopWorker(messages.StopWorkerRequest(worker_id="1-1"))
        assert len(said) == 3
    # With the pool both end.
    until(lambda: len(said) == 5)


def test_a_worker_that_cannot_be_started_is_an_error_of_the_answer(monkeypatch, tmp_path):
    monkeypatch.setattr(pool.sys, "executable", str(tmp_path / "no python"))
    with running() as (stub, said):
        assert "no worker could be started" in stub.StartWorker(request("1-1", "x")).error
    assert len(said) == 1


def test_a_port_that_is_taken_is_wrong_use():
    with running() as (_, said):
        host, _, port = said[0].rpartition(" ")[2].rpartition(":")
        with pytest.raises(UsageError, match=f"--port {port}: cannot listen there"):
            pool.serve(host, int(port), print, threading.Event())


def test_the_command_says_where_it_listens_and_ends_when_told(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    command = [*PYTHON, "worker-pool", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith(
        "workers are started for whoever asks at localhost:"
    )
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=_SECONDS)
    assert (process.returncode, said, errors) == (0, "", "")


@pytest.fixture
def become(monkeypatch):
    """What a worker becomes: its command and its environment."""
    found = {}
    monkeypatch.setattr(boot.os, "environ", found)
    monkeypatch.setattr(boot.os, "execv", lambda path, command: found.update(command=command[1:]))
    monkeypatch.setattr(boot.os, "dup2", lambda *descriptors: None)
    return found


def test_a_worker_asks_for_its_job_and_becomes_that_of_beam(become):
    servicer = Provision(runner_capabilities=["a", "b"])
    with serving(servicer) as endpoint:
        boot.main(
            [
                *("--id=1-7", f"--provision_endpoint={endpoint}", "--control_endpoint=c:1"),
                *("--logging_endpoint=l:2", "--artifact_endpoint=a:3"),
            ]
        )
    assert servicer.asked_by == ["1-7"]
    assert become["command"] == ["-m", "apache_beam.runners.worker.sdk_worker_main"]
    assert become["WORKER_ID"] == "1-7"
    assert json.loads(become["PIPELINE_OPTIONS"]) == {"beam:option:job_name:v1": "digits"}
    assert become["CONTROL_API_SERVICE_DESCRIPTOR"] == 'url: "c:1"'
    assert become["LOGGING_API_SERVICE_DESCRIPTOR"] == 'url: "l:2"'
    assert become["RUNNER_CAPABILITIES"] == "a b"


def test_what_the_command_does_not_say_the_runner_does(become):
    servicer = Provision(control_endpoint={"url": "c:8"}, logging_endpoint={"url": "l:9"})
    with serving(servicer) as endpoint:
        boot.main(["--id=1-1", f"--provision_endpoint={endpoint}"])
    assert become["CONTROL_API_SERVICE_DESCRIPTOR"] == 'url: "c:8"'
    assert become["LOGGING_API_SERVICE_DESCRIPTOR"] == 'url: "l:9"'


def test_what_was_staged_and_is_not_installed_is_said(become, capsys):
    staged = [
        runner.ArtifactInformation(
            role_payload=runner.ArtifactStagingToRolePayload(staged_name=name).SerializeToString()
        )
        for name in ("submission_environment_dependencies.txt", "extra.tar.gz")
    ]
    with serving(Provision(dependencies=staged)) as endpoint:
        boot.main(["--id=1-1", f"--provision_endpoint={endpoint}"])
    assert "does not install what was staged with the job (extra.tar.gz)" in capsys.readouterr().err


def test_a_worker_without_a_runner_fails():
    command = [
        sys.executable,
        "-m",
        "pipeline.beam.boot",
        "--id=1",
        "--provision_endpoint=localhost:9",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr
