"""The chief of a search: starts workers, gives them trials, and misses those that die."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter

from pipeline import files
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.tuning.channel import Chief
from pipeline.tuning.desk import Desk, ended
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.search import Search
from pipeline.tuning.worker import AGAIN

PROGRAM = (sys.executable, "-m", "pipeline.tuning.worker")
TRIALS = "trials"
_LOCK = "workers.lock"
_ADDRESS = "chief.json"
_LOCAL = "localhost"
_POLL = 0.1
# A worker that is asked to end writes a checkpoint.
_GRACE = 30.0
# Processes in a row that end before they ask for a trial.
_STILLBORN = 3
_TAIL = 4


@dataclass(frozen=True)
class Job:
    """What the workers of a search have in common.

    Args:
        inputs: Those of Tuner.
        parameters: Those of Tuner.
        state: What is kept of the search.
        program: What a worker's process is.
    """

    inputs: Mapping[str, Artifact]
    parameters: Parameters
    state: Path
    program: Sequence[str] = PROGRAM

    def described(self, chief: str, secret: str, name: str, cores: Sequence[int]) -> dict[str, Any]:
        """Returns what a worker has to know, as JSON values."""
        return {
            "chief": chief,
            "secret": secret,
            "name": name,
            "cores": list(cores),
            "inputs": {
                key: {**asdict(artifact), "uri": str(artifact.uri.absolute())}
                for key, artifact in self.inputs.items()
            },
            "state": str(self.state.absolute()),
            "parameters": TypeAdapter(Parameters).dump_python(self.parameters, mode="json"),
            "path": sys.path,
        }


def run(search: Search, job: Job, context: Context, host: str = _LOCAL) -> None:
    """Does a search with as many workers as the parameters say, and with those that come.

    Args:
        search: New, or one that was killed.
        job: What the workers are told.
        context: Shows how far it has come.
        host: Where workers of other machines find this one.

    Raises:
        PipelineError: All trials failed, or no worker could be started.
        KeyboardInterrupt: The workers were asked to write checkpoints, and have ended.
    """
    # Workers of a chief that died die too, and must not write any more.
    with files.locked(job.state / _LOCK):
        pass
    before = sum(trial.ended for trial in search.trials)
    if before:
        context.say(f"going on with the search after {before} trial{'s' if before > 1 else ''}")
    desk = Desk(search, job.state / TRIALS)
    secret = secrets.token_hex()
    # Under its own name a machine may be known to itself alone, as 127.0.1.1.
    with Chief(desk.answer, desk.left, secret, _LOCAL if host == _LOCAL else "") as chief:
        address = f"{host}:{chief.port}"
        with _findable(job.state, address, secret), Crew(job, address, secret, desk) as crew:
            while True:
                desk.tell(context)
                if desk.failure is not None:
                    raise desk.failure
                if search.over():
                    break
                crew.tend()
            crew.dismiss()
    desk.tell(context)


def join(job: Job, context: Context) -> None:
    """Works for the chief of another machine, which shares the file system, until it ends.

    Args:
        job: The same as the chief's.
        context: Shows what is waited for.
    """
    path = job.state / _ADDRESS
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return  # it has not begun, or has ended
    context.say(f"working for the search of {found['address']}")
    with Crew(job, found["address"], found["secret"], None) as crew:
        while crew.tend():
            pass


@dataclass
class _Place:
    """The place of one worker, which one process after the other takes."""

    index: int
    cores: Sequence[int]
    environment: Mapping[str, str]
    starts: int = 0
    stillborn: int = 0
    process: subprocess.Popen | None = None

    @property
    def crew(self) -> str:
        """What tells it from those of other crews, on other machines perhaps of the same name."""
        return f"{os.uname().nodename}-{os.getpid()}-{self.index}"

    @property
    def name(self) -> str:
        """What tells the process from those before it."""
        return f"{self.crew}.{self.starts}"


class Crew:
    """The workers' processes on this machine.

    Args:
        job: What they are told.
        address: Of the chief.
        secret: What it wants to hear.
        desk: Where they have asked, None where the chief is another process.
    """

    def __init__(self, job: Job, address: str, secret: str, desk: Desk | None):
        self._job = job
        self._address = address
        self._secret = secret
        self._desk = desk
        self._places = places(job.parameters.workers)

    def __enter__(self) -> Self:
        for place in self._places:
            self._start(place)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._desk:
            self._desk.closing = True
        self._end(signal.SIGTERM)

    def tend(self) -> bool:
        """Waits a moment, and replaces the workers that died; returns whether there are any left.

        Raises:
            PipelineError: They end before they begin.
        """
        time.sleep(_POLL)
        for place in self._places:
            if place.process is None or (code := place.process.poll()) is None:
                continue
            place.process.stdin.close()
            place.process = None
            if code == 0 or (self._desk is None and code != AGAIN):
                continue
            self._require_born(place, code)
            self._start(place)
        return any(place.process for place in self._places)

    def dismiss(self) -> None:
        """Waits for the workers, which find out that there is nothing left."""
        deadline = time.monotonic() + _GRACE
        while self._alive() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _start(self, place: _Place) -> None:
        place.starts += 1
        log = self._log(place)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            place.process = subprocess.Popen(
                self._job.program,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environment(place),
                text=True,
                process_group=0,  # so that Ctrl-C comes once, from here
            )
        if self._desk:
            self._desk.processes[place.name] = place.process
        job = self._job.described(self._address, self._secret, place.name, place.cores)
        with contextlib.suppress(BrokenPipeError):  # it is found dead soon
            # Stays open: that it closes tells the process of our death.
            place.process.stdin.write(json.dumps(job) + "\n")
            place.process.stdin.flush()

    def _require_born(self, place: _Place, code: int) -> None:
        born = self._desk is None or place.name in self._desk.asked
        place.stillborn = 0 if born else place.stillborn + 1
        if place.stillborn >= _STILLBORN:
            said = self._log(place).read_text(errors="replace").splitlines()
            last = " / ".join([line for line in said if line.strip()][-_TAIL:])
            raise PipelineError(
                f"{_STILLBORN} worker processes in a row ended with {ended(code)} before their "
                f"first trial; {self._log(place)} ends with: {last}"
            )

    def _log(self, place: _Place) -> Path:
        return self._job.state / "logs" / f"{place.crew}.log"

    def _alive(self) -> list[subprocess.Popen]:
        found = [place.process for place in self._places if place.process]
        return [process for process in found if process.poll() is None]

    def _end(self, number: signal.Signals) -> None:
        """Asks the workers to end, which takes them a checkpoint, and sees to it."""
        try:
            for process in self._alive():
                process.send_signal(number)
            self.dismiss()
        finally:
            for process in self._alive():
                process.kill()
            for place in self._places:
                if place.process:
                    place.process.wait()
                    place.process.stdin.close()


def _environment(place: _Place) -> dict[str, str]:
    """Returns the environment of a worker; a trial has one process, whatever Trainer has."""
    own = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return {**own, **place.environment}


def places(workers: int) -> list[_Place]:
    """Returns where the workers compute: each on cores, and where they suffice GPUs, of its own.

    Args:
        workers: How many.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = sorted(affinity(0)) if affinity else []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    gpus = present if named is None else [one for one in named.split(",") if one]
    found = []
    for index in range(workers):
        own = cores[index * len(cores) // workers : (index + 1) * len(cores) // workers]
        # Of several processes on one GPU, none may take all of its memory.
        environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if 1 < workers <= len(gpus):
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index::workers])
        found.append(_Place(index, own if 1 < workers <= len(cores) else (), environment))
    return found


@contextlib.contextmanager
def _findable(state: Path, address: str, secret: str) -> Iterator[None]:
    """Lets processes of other machines find the chief."""
    path = state / _ADDRESS
    files.write_json(path, {"address": address, "secret": secret})
    path.chmod(0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
