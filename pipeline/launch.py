"""Starts the processes of a training on several workers, and starts all again when one dies.

Each worker is `python -m pipeline run` with the same arguments and a `TF_CONFIG` of its own. The
first is the chief, which does everything; the others wait for what it ingests, train with it, and
end with the training.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import PipelineError, UsageError

TF_CONFIG = "TF_CONFIG"
_PORT = 12345
_MOUNT = "/srv/pipeline"
_STOPPED = 75
_INTERRUPTED = 130
# TensorFlow's workers miss a dead one after about ten seconds, and then end by themselves.
_GRACE = 30.0
_POLL = 0.2
_TAIL = 5


def cluster(addresses: Sequence[str], index: int) -> str:
    """Returns the `TF_CONFIG` of worker `index`.

    Args:
        addresses: `host:port` of every worker, the chief first.
        index: The worker's place among them.
    """
    return json.dumps(
        {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
    )


def is_peer(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether this process is a worker that is not the chief, by its `TF_CONFIG`.

    Raises:
        UsageError: `TF_CONFIG` is not what TensorFlow expects.
    """
    text = environment.get(TF_CONFIG)
    if not text:
        return False
    try:
        config = json.loads(text)
        task = config["task"]
        workers = config["cluster"]["worker"]
        return task["type"] == "worker" and 0 < int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{TF_CONFIG} is {text!r}; expected JSON such as {cluster(['a:1', 'b:1'], 0)}"
        ) from None


@dataclass
class Supervisor:
    """Runs workers on this machine until all have ended well.

    Args:
        arguments: What follows `python -m pipeline`.
        workers: How many processes.
        restarts: How often all are started again after one died.
        logs: Directory that receives the output of all workers but the chief.
        say: Prints a line.
        program: What is started; the arguments follow it.
    """

    arguments: Sequence[str]
    workers: int
    restarts: int
    logs: Path
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
    program: Sequence[str] = (sys.executable, "-m", "pipeline")
    _processes: list[subprocess.Popen] = field(default_factory=list)
    _asked_to_stop: bool = False

    def run(self) -> int:
        """Returns the exit code: 0, that of a worker that was used wrongly, or 75 when stopped.

        Raises:
            PipelineError: Workers died more often than they may.
            KeyboardInterrupt: Ctrl-C; all workers have ended.
        """
        previous = signal.signal(signal.SIGTERM, self._stop)
        try:
            for attempt in range(self.restarts + 1):
                codes = self._attempt()
                if self._asked_to_stop:
                    return _STOPPED
                bad = [code for code in codes if code]
                if not bad:
                    return 0
                # Wrong use and a refusal stay the same however often they are tried.
                if codes[0] in (1, 2) and not any(code < 0 for code in codes):
                    return codes[0]
                self.say(f"{self._described(codes)}; attempt {attempt + 1} of {self.restarts + 1}")
            raise PipelineError(
                f"workers died in {self.restarts + 1} attempts; their output is in {self.logs}"
                f"{self._last_words()}"
            )
        except KeyboardInterrupt:
            # The terminal has told the workers as well; they save before they end.
            deadline = time.monotonic() + _GRACE
            while self._running() and time.monotonic() < deadline:
                time.sleep(_POLL)
            raise
        finally:
            self._kill()
            signal.signal(signal.SIGTERM, previous)

    def _attempt(self) -> list[int]:
        """Starts all workers and returns their exit codes."""
        addresses = [f"localhost:{port}" for port in _free_ports(self.workers)]
        self.logs.mkdir(parents=True, exist_ok=True)
        self._processes = []
        for index in range(self.workers):
            environment = os.environ | {TF_CONFIG: cluster(addresses, index)}
            command = [*self.program, *self.arguments]
            if index == 0:
                process = subprocess.Popen(command, env=environment)
            else:
                with (self.logs / f"worker-{index}.log").open("ab") as log:
                    process = subprocess.Popen(
                        command, env=environment, stdout=log, stderr=subprocess.STDOUT
                    )
            self._processes.append(process)
        deadline = None
        while self._running():
            time.sleep(_POLL)
            ended_badly = any(process.poll() not in (None, 0) for process in self._processes)
            if deadline is None and (ended_badly or self._processes[0].poll() == 0):
                deadline = time.monotonic() + _GRACE
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
        return [process.wait() for process in self._processes]

    def _stop(self, number: int, frame: Any) -> None:
        self._asked_to_stop = True
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def _running(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def _kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _described(self, codes: list[int]) -> str:
        parts = [
            f"worker {index} ended with "
            + (signal.Signals(-code).name if code < 0 else f"code {code}")
            for index, code in enumerate(codes)
            if code
        ]
        return ", ".join(parts)

    def _last_words(self) -> str:
        lines = []
        for path in sorted(self.logs.glob("worker-*.log")):
            last = path.read_text(errors="replace").splitlines()[-_TAIL:]
            lines += [f"{path.name}: {line}" for line in last if line.strip()][-1:]
        return "; " + "; ".join(lines) if lines else ""


def commands(arguments: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """Returns the command for each of several hosts, the chief first.

    Args:
        arguments: What follows `python -m pipeline`.
        hosts: `host` or `host:port` each; they share a file system that holds root and data.
    """
    addresses = [host if ":" in host else f"{host}:{_PORT}" for host in hosts]
    line = shlex.join(("python", "-m", "pipeline", *arguments))
    return [
        f"{host}: {TF_CONFIG}='{cluster(addresses, index)}' {line}"
        for index, host in enumerate(hosts)
    ]


def kubernetes(arguments: Sequence[str], workers: int, image: str, name: str, claim: str) -> str:
    """Returns the manifest of an indexed Job, with the Service through which its pods meet.

    Args:
        arguments: What follows `python -m pipeline`.
        workers: How many pods.
        image: A container image with this package.
        name: Name of the Job.
        claim: A PersistentVolumeClaim, ReadWriteMany, that becomes the working directory.
    """
    addresses = [f"{name}-{index}.{name}:{_PORT}" for index in range(workers)]
    template = cluster(addresses, 0).replace('"index": 0', '"index": $(JOB_COMPLETION_INDEX)')
    labels = {"job-name": name}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "backoffLimit": 10 * workers,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "subdomain": name,
                    "restartPolicy": "OnFailure",
                    "containers": [
                        {
                            "name": "worker",
                            "image": image,
                            "command": ["python", "-m", "pipeline", *arguments],
                            "workingDir": _MOUNT,
                            "env": [
                                {
                                    "name": "JOB_COMPLETION_INDEX",
                                    "valueFrom": {
                                        "fieldRef": {
                                            "fieldPath": "metadata.annotations"
                                            "['batch.kubernetes.io/job-completion-index']"
                                        }
                                    },
                                },
                                {"name": TF_CONFIG, "value": template},
                            ],
                            "ports": [{"containerPort": _PORT}],
                            "volumeMounts": [{"name": "work", "mountPath": _MOUNT}],
                        }
                    ],
                    "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": claim}}],
                },
            },
        },
    }
    return yaml.safe_dump_all([service, job], sort_keys=False)


def _free_ports(number: int) -> list[int]:
    """Returns ports that nobody listens on; all are held until all are known."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
