"""What the job manager of a Flink cluster says and does, through its REST interface."""

import re
from typing import Any

import apache_beam as beam
import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from pipeline import engine
from pipeline.errors import PipelineError

_SECONDS = 10.0
_OF_JAR = re.compile(r"flink-(\d+\.\d+)-job-server")


def require(options: PipelineOptions) -> None:
    """Looks whether a cluster answers, of the version that the job server is made for.

    Raises:
        PipelineError: There is none, or it is of another version.
    """
    flink = options.view_as(FlinkRunnerOptions)
    if flink.flink_master in engine.EMBEDDED:
        return
    running = _ask(flink.flink_master, "/overview", "flink-version")
    jar = flink.flink_job_server_jar
    named = _OF_JAR.search(jar or "")
    if options.view_as(PortableOptions).job_endpoint or (jar and not named):
        return
    wanted = named[1] if named else flink.flink_version
    if not running.startswith(f"{wanted}."):
        raise PipelineError(
            f"flink_master {flink.flink_master}: is Flink {running}, and the job server is made for "
            f"{wanted}; set flink_version={'.'.join(running.split('.')[:2])}, if Beam "
            f"{beam.__version__} has it, or run a cluster of that version"
        )


def cancel(options: PipelineOptions) -> int:
    """Cancels the job on the cluster: the job server would forget it, and let it run.

    Returns:
        How many jobs were told to end: none where it is not there yet, or has ended.

    Raises:
        PipelineError: The cluster does not answer.
    """
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master in engine.EMBEDDED:
        return 0  # it ends with the job server
    name = options.view_as(GoogleCloudOptions).job_name
    found = [
        job["jid"]
        for job in _ask(master, "/jobs/overview", "jobs")
        if job["name"] == name and job["end-time"] < 0
    ]
    for identifier in found:
        _answer(master, f"/jobs/{identifier}?mode=cancel", "PATCH")
    return len(found)


def _ask(master: str, path: str, key: str) -> Any:
    """Returns a value of what the job manager answers."""
    try:
        return _answer(master, path).json()[key]
    except (ValueError, KeyError, TypeError) as error:
        raise _no_cluster(master, error) from error


def _answer(master: str, path: str, method: str = "GET") -> requests.Response:
    url = master if "://" in master else f"http://{master}"
    try:
        answer = requests.request(method, f"{url.rstrip('/')}{path}", timeout=_SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise _no_cluster(master, error) from error
    return answer


def _no_cluster(master: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"flink_master {master}: no Flink cluster answers there ({type(error).__name__}: {error}); "
        "expected the REST port of a job manager, 8081 by default"
    )
