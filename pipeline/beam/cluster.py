"""Beam's options for a runner, and the job server that a cluster of Flink or Spark needs."""

import contextlib
import copy
import io
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from urllib.error import URLError

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
)
from apache_beam.utils import subprocess_server

from pipeline import engine
from pipeline.beam import flink
from pipeline.engine import Engine
from pipeline.errors import PipelineError, UsageError


@contextlib.contextmanager
def options(chosen: Engine, name: str) -> Iterator[PipelineOptions]:
    """Yields Beam's options for the runner, with a job server where it needs one of its own.

    Args:
        chosen: The runner and its options.
        name: Of the pipeline; the job gets one that no other has.

    Raises:
        UsageError: An option has a value that Beam does not take.
        PipelineError: There is no Java, no job server or no cluster.
    """
    if chosen.is_local:
        yield PipelineOptions(flags=[], runner=chosen.runner)
        return
    found = _parsed(chosen)
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    found.view_as(GoogleCloudOptions).job_name = f"{plain}-{uuid.uuid4().hex[:8]}"
    make = _needed(chosen, found)
    with contextlib.ExitStack() as stack:
        if make:
            # Beam's own handling of it takes over Ctrl-C, which only the main thread may.
            endpoint = stack.enter_context(_started(make, found))
            found.view_as(PortableOptions).job_endpoint = endpoint
        yield found


def check(chosen: Engine) -> None:
    """Looks whether a job could begin, and begins none.

    Raises:
        UsageError: An option has a value that Beam does not take.
        PipelineError: There is no Java or no cluster.
    """
    if not chosen.is_local:
        _needed(chosen, _parsed(chosen))


def _needed(chosen: Engine, found: PipelineOptions) -> type | None:
    """Returns the job server to start, or None; raises PipelineError where something is missing."""
    if chosen.runner == engine.FLINK:
        flink.require(found)
    if found.view_as(PortableOptions).job_endpoint:
        return None
    make = _job_server(chosen, found)
    java = found.view_as(JobServerOptions).job_server_java_launcher
    if make and shutil.which(java) is None:
        raise PipelineError(
            f"the job server of Beam needs Java, and there is no {java!r} on PATH; install a Java "
            "17 runtime, or name a job server that runs elsewhere: "
            "--beam-option job_endpoint=HOST:PORT"
        )
    return make


def _parsed(chosen: Engine) -> PipelineOptions:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = PipelineOptions(flags=chosen.flags, runner=chosen.runner)
            found.get_all_options()
    except SystemExit:  # of argparse, which prints all that there is, and at the end what is wrong
        why = said.getvalue().strip().rpartition("error: ")[2]
        raise UsageError(f"beam.options: Beam does not take {chosen.options}: {why}") from None
    return found


def _job_server(chosen: Engine, found: PipelineOptions) -> type | None:
    """Returns the job server of Beam that has to be started for this job, or None."""
    if chosen.runner == engine.FLINK:
        from apache_beam.runners.portability import flink_runner

        wanted = found.view_as(FlinkRunnerOptions)
        if wanted.flink_submit_uber_jar and wanted.flink_master not in engine.EMBEDDED:
            return None  # the job goes to Flink as a jar
        wanted.flink_master = flink_runner.FlinkRunner.add_http_scheme(wanted.flink_master)
        return flink_runner.FlinkJarJobServer
    if chosen.runner == engine.SPARK:
        from apache_beam.runners.portability import spark_runner

        return spark_runner.SparkJarJobServer
    return None


@contextlib.contextmanager
def _started(make: type, found: PipelineOptions) -> Iterator[str]:
    """Yields the address of a job server that runs for so long."""
    wanted = found.view_as(JobServerOptions)
    java = wanted.job_server_java_launcher
    (port,) = subprocess_server.pick_port(wanted.job_port or None)
    own = copy.deepcopy(found)
    own.view_as(JobServerOptions).job_port = port
    # It ends with this process, also when that is killed.
    own.view_as(JobServerOptions).job_server_java_launcher = sys.executable
    own.view_as(JobServerOptions).job_server_jvm_properties = [
        *("-m", "pipeline.beam.leash", java),
        *wanted.job_server_jvm_properties,
    ]
    server = make(own)
    try:
        server.start()
    # What cannot be downloaded raises any of these, and what does not start the first.
    except (RuntimeError, URLError, OSError, ValueError) as error:
        raise PipelineError(
            f"the job server of Beam {beam.__version__} cannot be started ({error}); where its jar "
            "is not to be had, fetch it, and name it: --beam-option flink_job_server_jar=PATH; else "
            f"see that {java!r} is Java 17"
        ) from error
    try:
        yield f"localhost:{port}"
    finally:
        server.stop()
