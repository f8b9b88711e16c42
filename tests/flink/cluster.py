"""A standalone Flink cluster on this machine: a job manager, task managers, a pool of workers."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.flink.downloads import Distribution

_SECONDS = 90
_PATIENCE = 20
_ROOT = Path(__file__).parents[2]

# Flink reaches into the JDK; its own scripts open the same packages.
_PACKAGES = (
    *("java.io", "java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text"),
    *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("java.util.concurrent.locks", "sun.nio.ch"),
)
_JAVA = (
    "java",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _PACKAGES),
    *("--add-exports=java.base/sun.net.util=ALL-UNNAMED",),
    *("--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",),
    "-XX:TieredStopAtLevel=1",  # short jobs: do not compile twice
)
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"

# As JSON, which is YAML.
_CONFIGURATION = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.bind-host": "localhost",
    "jobmanager.memory.process.size": "1000m",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "taskmanager.host": "localhost",
    "taskmanager.bind-host": "localhost",
    "taskmanager.cpu.cores": 1.0,
    "taskmanager.memory.task.heap.size": "384mb",
    "taskmanager.memory.task.off-heap.size": "128mb",
    "taskmanager.memory.framework.heap.size": "128mb",
    "taskmanager.memory.framework.off-heap.size": "128mb",
    "taskmanager.memory.network.min": "192mb",
    "taskmanager.memory.network.max": "192mb",
    "taskmanager.memory.managed.size": "256mb",
    "taskmanager.memory.jvm-metaspace.size": "256mb",
    "taskmanager.memory.jvm-overhead.min": "192mb",
    "taskmanager.memory.jvm-overhead.max": "192mb",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 2,
    "restart-strategy.fixed-delay.delay": "1 s",
    # A task manager that was killed is missed soon.
    "heartbeat.interval": 1000,
    "heartbeat.timeout": 8000,
    "slot.request.timeout": 60000,
}
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n%throwable
"""


class Cluster:
    """A running cluster, with Python workers for its jobs and a job server.

    Args:
        distribution: What it is made of.
        folder: Receives configuration and logs.
        slots: Of each task manager.
    """

    def __init__(self, distribution: Distribution, folder: Path, slots: int = 2):
        self.distribution = distribution
        self._folder, self._slots = folder, slots
        self._rest, self._pool, self._jobs = (free_port() for _ in range(3))
        self._task_managers: list[subprocess.Popen] = []
        self._others: list[subprocess.Popen] = []

    @property
    def master(self) -> str:
        """The address of the job manager's REST server."""
        return f"localhost:{self._rest}"

    @property
    def pool(self) -> str:
        """The address of the pool of workers."""
        return f"localhost:{self._pool}"

    @property
    def job_endpoint(self) -> str:
        """The address of the job server, which serves many jobs."""
        return f"localhost:{self._jobs}"

    def options(self, parallelism: int) -> dict[str, Any]:
        """Returns what `beam.options` says of this cluster."""
        return {
            "flink_master": self.master,
            "job_endpoint": self.job_endpoint,
            "environment_type": "EXTERNAL",
            "environment_config": self.pool,
            "parallelism": parallelism,
        }

    def start(self, task_managers: int) -> None:
        """Starts everything, and waits until all slots are there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = {
            "rest.port": self._rest,
            "jobmanager.rpc.port": free_port(),
            "blob.server.port": str(free_port()),
            "taskmanager.numberOfTaskSlots": self._slots,
            "io.tmp.dirs": str(self._folder / "tmp"),
        }
        (self._folder / "tmp").mkdir(exist_ok=True)
        (self._folder / "config.yaml").write_text(json.dumps(_CONFIGURATION | own, indent=1))
        (self._folder / "log4j.properties").write_text(_LOGGING)
        self._others.append(self._java("job-manager", _JOB_MANAGER, "-Xmx512m"))
        for _ in range(task_managers):
            self.add_task_manager()
        pool = [sys.executable, "-m", "pipeline", "worker-pool", "--port", str(self._pool)]
        self._others.append(self._begin("pool", pool))
        server = [
            *(*_JAVA, "-Xmx512m", "-jar", str(self.distribution.jar)),
            *("--flink-master", f"http://{self.master}", "--job-port", str(self._jobs)),
            *("--artifact-port", "0", "--expansion-port", "0"),
            *("--artifacts-dir", str(self._folder / "artifacts")),
        ]
        self._others.append(self._begin("job-server", server))
        self.wait_for_slots(task_managers * self._slots)
        for port, name in ((self._pool, "pool"), (self._jobs, "job-server")):
            until(lambda port=port: _listens(port), f"{name} listens", self._logs)

    def add_task_manager(self) -> int:
        """Starts one more task manager, and returns its number."""
        number = len(self._task_managers)
        memory = ("-Xmx512m", "-XX:MaxDirectMemorySize=448m", "-XX:MaxMetaspaceSize=256m")
        started = self._java(f"task-manager-{number}", _TASK_MANAGER, *memory)
        self._task_managers.append(started)
        return number

    def kill_task_manager(self, number: int) -> None:
        """Kills a task manager as `kill -9` does."""
        self._task_managers[number].kill()
        self._task_managers[number].wait()

    def wait_for_slots(self, number: int) -> None:
        """Waits until there are so many slots."""
        until(
            lambda: self.ask("/overview").get("slots-total") == number,
            f"there are {number} slots",
            self._logs,
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Returns what the job manager knows of each job, the oldest first."""
        return sorted(self.ask("/jobs/overview")["jobs"], key=lambda job: job["start-time"])

    def ask(self, path: str, method: str = "GET") -> Any:
        """Returns the answer of the job manager's REST server; an empty one while there is none."""
        request = urllib.request.Request(f"http://{self.master}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return {}

    def bytes_between_stages(self, job: str) -> int:
        """Returns how many bytes the stages of a job have sent to each other."""
        stages = self.ask(f"/jobs/{job}")["vertices"]
        return sum(stage["metrics"]["write-bytes"] for stage in stages)

    def cancel(self, job: str) -> None:
        """Cancels a job."""
        self.ask(f"/jobs/{job}?mode=cancel", "PATCH")

    def log(self, name: str) -> str:
        """Returns what a process of the cluster has printed."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """Ends everything."""
        processes = [*self._task_managers, *reversed(self._others)]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _java(self, name: str, main: str, *memory: str) -> subprocess.Popen:
        libraries = ":".join(map(str, self.distribution.libraries))
        logging = f"-Dlog4j.configurationFile=file:{self._folder / 'log4j.properties'}"
        where = ("-cp", libraries, main, "-c", str(self._folder))
        return self._begin(name, [*_JAVA, *memory, logging, *where])

    def _begin(self, name: str, command: list[str]) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(_ROOT)}
        with (self._folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self._folder
            )

    def _logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted(self._folder.glob("*.log"))
        )


@contextlib.contextmanager
def running(
    distribution: Distribution, folder: Path, task_managers: int = 2, slots: int = 2
) -> Iterator[Cluster]:
    """Yields a cluster that runs for so long."""
    cluster = Cluster(distribution, folder, slots)
    try:
        cluster.start(task_managers)
        yield cluster
    finally:
        cluster.stop()


def until(
    holds: Callable[[], bool], what: str, details: Callable[[], str], seconds: float = _SECONDS
) -> None:
    """Waits until something holds.

    Raises:
        TimeoutError: It does not, with `details`.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds} s: {what}\n{details()}")
        time.sleep(0.2)


def free_port() -> int:
    """Returns a port that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("localhost", port)) == 0
