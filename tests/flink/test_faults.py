"""A task manager that dies, a person who stops a job, a driver that is killed, a cluster that is not there."""

import os
import signal
import subprocess
import threading
import time

import pytest

from pipeline.engine import FLINK, Engine
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Context
from tests.flink import cluster as clusters
from tests.flink.jobs import Jobs, content, engine
from tests.pipeline import builders

_READ_AGAIN = 3


@pytest.fixture(scope="module")
def long_list(real_images, tmp_path_factory):
    """A manifest that names each photo several times, so that reading takes a while."""
    path = tmp_path_factory.mktemp("data") / "photos.csv"
    photos = sorted((real_images / "photos").glob("*/*.jpg"))
    rows = [f"{photo},{photo.parent.name}" for photo in photos] * _READ_AGAIN
    path.write_text("path,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def here(long_list, tmp_path_factory):
    return content(Jobs(tmp_path_factory.mktemp("here")).ingest(long_list))


def test_a_task_manager_that_is_killed_costs_time_and_nothing_else(
    cluster, long_list, here, tmp_path
):
    cluster.wait_for_slots(4)
    reached, killed = threading.Event(), []
    said = len(cluster.log("job-manager"))

    def progress(done, total, **figures):
        if total * 0.2 < done < total * 0.7:
            reached.set()

    def kill():
        if reached.wait(120):
            cluster.kill_task_manager(0)
            killed.append(not over)

    over = []
    killer = threading.Thread(target=kill)
    killer.start()
    chosen = engine(cluster, 4)
    jobs = Jobs(tmp_path, chosen)
    try:
        # Where pods come back by themselves, one that was killed is replaced.
        replacement = threading.Timer(0, lambda: (killer.join(), cluster.add_task_manager()))
        replacement.start()
        examples = jobs.ingest(long_list, Context("jobs", progress, engine=chosen))
    finally:
        over.append(True)
        reached.set()
        replacement.join()
    assert content(examples) == here
    job = cluster.jobs()[-1]
    assert job["state"] == "FINISHED"
    assert killed == [True]
    assert "switched from RUNNING to FAILED" in cluster.log("job-manager")[said:]
    cluster.wait_for_slots(4)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.exhaustive),
    ],
)
def test_who_stops_a_run_stops_its_job_on_the_cluster(cluster, long_list, tmp_path, number, code):
    driver = start(cluster, long_list, tmp_path)
    job = running_job(cluster, driver)
    driver.send_signal(number)
    said = driver.communicate(timeout=90)[0]
    assert driver.returncode == code, said
    clusters.until(lambda: state(cluster, job) == "CANCELED", "the job is cancelled", lambda: said)
    for places in ("ExampleGen/examples/*", ".system/staging/*"):
        assert not list(tmp_path.glob(f"runs/*/{places}"))


@pytest.mark.exhaustive
def test_the_job_server_ends_with_a_driver_that_is_killed(cluster, long_list, tmp_path):
    own = {"job_endpoint": "", "flink_job_server_jar": str(cluster.distribution.jar)}
    driver = start(cluster, long_list, tmp_path, **own)
    job = running_job(cluster, driver)
    servers = children(driver.pid)
    driver.kill()
    driver.communicate()
    assert servers
    clusters.until(lambda: not any(map(alive, servers)), "no server is left", lambda: str(servers))
    # Flink does not miss who asked for a job; a person would end it in its page.
    cluster.cancel(job)
    clusters.until(lambda: state(cluster, job) != "RUNNING", "the job is over", str)


def test_a_master_that_is_none_is_named(tmp_path):
    port = clusters.free_port()
    chosen = Engine(
        runner=FLINK,
        options={
            "flink_master": f"localhost:{port}",
            "environment_type": "EXTERNAL",
            "environment_config": "localhost:50000",
        },
    )
    with pytest.raises(PipelineError, match=f"flink_master localhost:{port}: no Flink cluster"):
        Jobs(tmp_path, chosen).ingest("digits")


def test_a_job_server_of_another_version_of_flink_is_refused_before_it_is_fetched(
    cluster, tmp_path
):
    chosen = engine(cluster, 1, job_endpoint="", flink_version="2.0")
    with pytest.raises(PipelineError, match=r"is Flink .*, and the job server is made for 2\.0"):
        Jobs(tmp_path, chosen).ingest("digits")


@pytest.mark.exhaustive
def test_a_pool_of_workers_that_is_not_there_ends_the_job(cluster, tmp_path):
    chosen = engine(cluster, 1, environment_config=f"localhost:{clusters.free_port()}")
    with pytest.raises(PipelineError, match=r"UNAVAILABLE|refused"):
        Jobs(tmp_path, chosen).ingest("digits")


def start(cluster, data, folder, **others):
    """Starts a run on the cluster, as a person does."""
    options = engine(cluster, 4, **others).options
    flags = [
        flag for name, value in options.items() for flag in ("--beam-option", f"{name}={value}")
    ]
    command = [
        *(*builders.PYTHON, "run", "--data", str(data), "--to", "ExampleGen"),
        *("--root", "runs", "--runner", FLINK, *flags),
    ]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def running_job(cluster, driver):
    """Waits until the job of a driver reads images, and returns its identifier."""
    found = []

    def reads():
        assert driver.poll() is None, driver.communicate()[0]
        found[:] = [job for job in cluster.jobs() if job["state"] == "RUNNING"]
        return bool(found)

    clusters.until(reads, "a job runs", lambda: cluster.log("job-manager")[-2000:])
    time.sleep(2)
    return found[-1]["jid"]


def state(cluster, job):
    return next(found["state"] for found in cluster.jobs() if found["jid"] == job)


def children(process):
    """Returns the processes that a process has started, and theirs."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False
    )
    direct = [int(line) for line in found.stdout.split()]
    return direct + [below for child in direct for below in children(child)]


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:  # noqa: PTH123  of the system
        return file.read().rpartition(")")[2].split()[0] != "Z"
