"""Beam's options for a runner, and what is said where its job server cannot be had."""

import re
import sys

import pytest
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PortableOptions,
    StandardOptions,
)

from pipeline.beam import cluster
from pipeline.engine import DATAFLOW, FLINK, LOCAL, LOCALLY, PORTABLE, SPARK, Engine
from pipeline.errors import PipelineError, UsageError


def embedded(**options):
    return Engine(runner=FLINK, options=options)


def test_this_process_needs_nothing():
    with cluster.options(LOCALLY, "digits") as found:
        assert found.view_as(StandardOptions).runner == LOCAL
        assert not found.view_as(PortableOptions).job_endpoint


def test_jobs_of_a_pipeline_have_names_of_their_own():
    chosen = Engine(runner=PORTABLE, options={"job_endpoint": "localhost:8099"})
    names = []
    for _ in range(2):
        with cluster.options(chosen, "My digits!") as found:
            names.append(found.view_as(GoogleCloudOptions).job_name)
            assert found.view_as(PortableOptions).job_endpoint == "localhost:8099"
    assert names[0] != names[1]
    assert all(re.fullmatch(r"my-digits-[0-9a-f]{8}", name) for name in names)


def test_what_beam_does_not_take_is_said_in_a_line(capfd):
    with (
        pytest.raises(UsageError, match=r"does not take .*argument --parallelism: invalid int"),
        cluster.options(embedded(parallelism="two"), "digits"),
    ):
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "chosen",
    [
        embedded(),
        Engine(runner=SPARK, options={"environment_type": "LOOPBACK"}),
    ],
    ids=["Flink", "Spark"],
)
def test_a_machine_without_java_says_so(chosen, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(PipelineError, match=r"needs Java, .* install a Java 17 runtime, or name"),
        cluster.options(chosen, "digits"),
    ):
        pass
    with pytest.raises(PipelineError, match="needs Java"):
        cluster.check(chosen)


def test_a_job_server_that_cannot_be_fetched_is_named_with_what_to_do(monkeypatch, tmp_path):
    from urllib.error import URLError

    from apache_beam.utils.subprocess_server import JavaJarServer

    def refuse(*arguments, **options):
        raise URLError("no such host")

    monkeypatch.setattr(JavaJarServer, "local_jar", refuse)
    java = str(tmp_path / "java")
    (tmp_path / "java").touch(0o755)
    with (
        pytest.raises(PipelineError, match=r"no such host.*flink_job_server_jar=PATH"),
        cluster.options(embedded(job_server_java_launcher=java), "digits"),
    ):
        pass


def test_google_needs_no_job_server():
    options = {"project": "p", "region": "europe-west1", "temp_location": "gs://b/t"}
    with cluster.options(Engine(runner=DATAFLOW, options=options), "digits") as found:
        assert not found.view_as(PortableOptions).job_endpoint
        assert found.view_as(GoogleCloudOptions).region == "europe-west1"


def test_the_job_server_is_started_on_a_leash_with_what_beam_gives_it(monkeypatch, tmp_path):
    from apache_beam.runners.portability.job_server import SubprocessJobServer

    commands = []
    monkeypatch.setattr(
        SubprocessJobServer,
        "start",
        lambda self: commands.append(self.subprocess_cmd_and_endpoint()[0]),
    )
    monkeypatch.setattr(SubprocessJobServer, "stop", lambda self: None)
    java, jar = tmp_path / "java", tmp_path / "beam-runners-flink-2.2-job-server.jar"
    java.touch(0o755)
    jar.touch()
    options = {"job_server_java_launcher": str(java), "flink_job_server_jar": str(jar)}
    with cluster.options(embedded(**options), "digits") as found:
        endpoint = found.view_as(PortableOptions).job_endpoint
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pipeline.beam.leash", str(java)]
    assert command[command.index("-jar") + 1] == str(jar)
    assert f"localhost:{command[command.index('--job-port') + 1]}" == endpoint
    assert command[command.index("--flink-master") + 1] == "[auto]"
