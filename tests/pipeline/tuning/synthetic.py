"""Workers and searches without TensorFlow, to be killed: `python -m tests.pipeline.tuning.synthetic`.

Without an argument the process is a worker: the values of a trial say what becomes of it. With the
path of a JSON file (`state`, `examples`, `trials`, `workers`, `seconds`) it is the chief of a whole
search. Both note what they do in `examples/log`, a line of JSON for each thing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.tuning import chief, worker
from pipeline.tuning.budget import Budget
from pipeline.tuning.execution import RejectedError, Reports, TimeOverError
from pipeline.tuning.finals import Rules
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.search import Proposal, Search
from pipeline.tuning.trial import Trial

PROGRAM = (sys.executable, "-m", "tests.pipeline.tuning.synthetic")
EPOCHS = 3
# Seconds: a process that only loads its libraries takes some, on a busy machine many.
PATIENCE = 60.0


class Scripted:
    """An oracle that proposes what it was given, in order."""

    def __init__(self, values: list[dict[str, Any]]):
        self._values = values
        self.space: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {"next": 0, "ended": []}

    def propose(self) -> Any:
        number = self.state["next"]
        if number >= len(self._values):
            return "stop"
        self.state = {**self.state, "next": number + 1}
        return Proposal(f"{number:04}", self._values[number], EPOCHS)

    def conclude(self, number: str, score: float | None, *, rejected: bool = False) -> None:
        self.state = {**self.state, "ended": [*self.state["ended"], number]}

    def goes_on(self, number: str) -> bool:
        return False


def search(state: Path, trials: list[dict[str, Any]], **fields: Any) -> Search:
    """Returns a search whose trials have these values, the configuration first."""
    rules = {"finalists": 0, **fields.pop("rules", {})}
    return Search(
        state / "search.json",
        "random",
        Scripted(trials),
        trials[0],
        dict,
        Rules("eval_accuracy", "max", EPOCHS, **rules),
        Budget(len(trials), **fields),
    )


def job(state: Path, examples: Path, workers: int) -> chief.Job:
    examples.mkdir(parents=True, exist_ok=True)
    return chief.Job(
        {"examples": Artifact("Examples", examples)}, Parameters(workers=workers), state, PROGRAM
    )


def noted(examples: Path) -> list[dict[str, Any]]:
    """Returns what workers and chiefs noted."""
    path = examples / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def note(examples: Path, **what: Any) -> None:
    line = json.dumps({"process": os.getpid(), **what}) + "\n"
    descriptor = os.open(examples / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def train(
    trial: Trial,
    inputs: Mapping[str, Artifact],
    parameters: Parameters,
    state: Path,
    reports: Reports,
    remaining: Callable[[], float],
) -> Mapping[str, float]:
    """Does a trial: `score`, `seconds`, and `fate` are its values."""
    note(
        inputs["examples"].uri, trial=trial.id, what="begin", cores=sorted(os.sched_getaffinity(0))
    )
    reports.measured(1000, 20_000)
    done = state / "epochs"
    begun = int(done.read_text()) if done.exists() else 0
    fate = trial.values.get("fate")
    if fate == "meet":
        # However late another worker begins: none does all the trials by itself.
        deadline = time.monotonic() + PATIENCE
        while len({one["process"] for one in noted(inputs["examples"].uri)}) < 2:
            assert time.monotonic() < deadline, "no other worker came"
            time.sleep(0.02)
    if fate == "reject":
        raise RejectedError("20,000 multiply-adds, and 10,000 are allowed")
    for epoch in range(begun + 1, trial.epochs + 1):
        end = time.monotonic() + trial.values.get("seconds", 0.0) / trial.epochs
        while time.monotonic() < end:
            if remaining() <= 0:
                raise TimeOverError
            time.sleep(0.005)
        reports.epoch(epoch, {"eval_accuracy": trial.values["score"] * epoch / trial.epochs})
        files.write_text(done, str(epoch))
        if epoch == 2 + (begun > 0) and fate in ("die", "die once")[: 2 - (begun > 0)]:
            os.kill(os.getpid(), signal.SIGKILL)
    match fate:
        case "memory":
            raise PipelineError("out of memory with 64 images")
        case "crash":
            raise ZeroDivisionError("division by zero")
        case "misfit":
            raise UsageError("trainer.batch_size 64: more than there are examples")
        case "nan":
            return {"eval_accuracy": float("nan")}
    return {"eval_accuracy": trial.values["score"]}


def start(folder: Path, trials: list[dict[str, Any]], workers: int) -> subprocess.Popen:
    """Starts the chief of a search in a process of its own."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / "job.json"
    path.write_text(json.dumps({"folder": str(folder), "trials": trials, "workers": workers}))
    return subprocess.Popen(
        [*PROGRAM, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _chief(path: Path) -> None:
    found = json.loads(path.read_text())
    folder = Path(found["folder"])
    one = search(folder / "state", found["trials"])
    context = Context("synthetic", say=lambda line: print(line, flush=True))
    chief.run(one, job(folder / "state", folder / "examples", found["workers"]), context)
    print(f"best {one.verdict.best}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(_chief(Path(sys.argv[1])))
    sys.exit(worker.main(train))
