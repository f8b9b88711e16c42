"""What is asked of a job manager, and what is said where it answers something else, or not at all."""

import http.server
import json
import threading

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.beam import flink
from pipeline.errors import PipelineError

ENDED = {"jid": "a", "name": "digits-1", "end-time": 5}
OTHER = {"jid": "b", "name": "digits-2", "end-time": -1}
OURS = {"jid": "c", "name": "digits-1", "end-time": -1}


class JobManager(http.server.ThreadingHTTPServer):
    """Answers as a job manager does, and remembers what it was asked."""

    def __init__(self, version="2.2.1"):
        super().__init__(("localhost", 0), _Handler)
        self.asked = []
        self.answers = {
            "/overview": {"flink-version": version, "slots-total": 4},
            "/jobs/overview": {"jobs": [ENDED, OTHER, OURS]},
            "/jobs/c?mode=cancel": {},
        }

    @property
    def address(self):
        return f"localhost:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        found = self.server.answers.get(self.path)
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

    do_PATCH = do_GET

    def log_message(self, *arguments):
        """Is silent."""


@pytest.fixture
def manager():
    with JobManager() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def options(master, **others):
    return PipelineOptions(flags=[], flink_master=master, **others)


@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.parametrize("ending", ["", "/"])
def test_a_cluster_of_the_right_version_is_taken(manager, scheme, ending):
    master = f"{scheme}{manager.address}{ending}"
    flink.require(options(master, flink_version="2.2"))
    assert manager.asked == [("GET", "/overview")]


@pytest.mark.parametrize(
    ("others", "fits"),
    [
        ({"flink_version": "1.19"}, False),
        ({"flink_version": "2.2"}, True),
        # The name of a jar says more than the version, of which there is a default.
        ({"flink_job_server_jar": "/x/beam-runners-flink-1.19-job-server-2.77.0.jar"}, False),
        ({"flink_job_server_jar": "/x/beam-runners-flink-2.2-job-server-2.77.0.jar"}, True),
        # Whoever names one of their own knows what it is made for.
        ({"flink_job_server_jar": "/x/own.jar", "flink_version": "1.19"}, True),
        ({"job_endpoint": "localhost:8099", "flink_version": "1.19"}, True),
    ],
)
def test_a_job_server_for_another_version_is_refused(manager, others, fits):
    if fits:
        flink.require(options(manager.address, **others))
        return
    with pytest.raises(PipelineError, match=r"is Flink 2\.2\.1, and .* is made for 1\.19; set"):
        flink.require(options(manager.address, **others))


def test_a_version_is_not_taken_for_one_that_begins_alike(manager):
    manager.answers["/overview"] = {"flink-version": "2.20.0"}
    with pytest.raises(PipelineError, match=r"is Flink 2\.20\.0"):
        flink.require(options(manager.address, flink_version="2.2"))


@pytest.mark.parametrize("answer", [None, b"<html>", {}, []], ids=["404", "page", "empty", "list"])
def test_what_is_no_job_manager_is_named(manager, answer):
    manager.answers["/overview"] = answer
    with pytest.raises(PipelineError, match=r"no Flink cluster answers there .* 8081 by default"):
        flink.require(options(manager.address))


@pytest.mark.parametrize("master", ["[local]", "[auto]"])
def test_a_cluster_within_the_job_server_is_not_asked(master):
    flink.require(options(master))
    flink.cancel(options(master))


def test_only_the_job_that_runs_under_the_name_is_cancelled(manager):
    assert flink.cancel(options(manager.address, job_name="digits-1")) == 1
    assert flink.cancel(options(manager.address, job_name="digits-3")) == 0
    assert manager.asked[:2] == [("GET", "/jobs/overview"), ("PATCH", "/jobs/c?mode=cancel")]


def test_a_job_that_cannot_be_cancelled_is_said(manager):
    del manager.answers["/jobs/c?mode=cancel"]
    with pytest.raises(PipelineError, match="HTTPError: 404"):
        flink.cancel(options(manager.address, job_name="digits-1"))
