"""Searches, each in a new process that has a core for each of its workers.

python -m benchmarks.sides.tuner_workers FOLDER WORKERS TRIALS EPOCHS
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.plan import Turn
from pipeline import config
from pipeline.config import RunConfig

_DIGITS = "digits"


def prepare(folder: Path) -> None:
    """Writes what every search reads: the digits' examples, and what is in front of Tuner."""
    from pipeline import api

    api.run(_config(folder, 1, 1, 1), to="ExampleValidator")


class Search:
    """A turn is a search.

    Args:
        folder: What `prepare` has filled.
        workers: Processes that train, each on a core of its own.
        trials: Of a search.
        epochs: Of a trial.

    Raises:
        RuntimeError: If there are fewer cores than workers, or another search has found other
            scores for the same trials.
    """

    def __init__(self, folder: Path, workers: int, trials: int, epochs: int):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < workers:
            raise RuntimeError(f"{workers} workers on a core each need {workers} cores")
        self._cores, self._trials = cores[:workers], trials
        self._scores = folder / "scores.json"
        numbers = map(str, (workers, trials, epochs))
        self._command = [sys.executable, "-m", __name__, str(folder), *numbers]

    def run(self) -> Turn:
        done = subprocess.run(
            self._command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, self._cores),
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise RuntimeError(f"the search ended with exit code {done.returncode}: {last}")
        found = json.loads(done.stdout.splitlines()[-1])
        self._compare(found["scores"])
        return Turn(self._trials, wall=found["seconds"])

    def _compare(self, scores: dict[str, float]) -> None:
        if not self._scores.exists():
            self._scores.write_text(json.dumps(scores))
        elif (others := json.loads(self._scores.read_text())) != scores:
            raise RuntimeError(f"the searches found different scores: {others} and {scores}")


def search(folder: Path, workers: int, trials: int, epochs: int) -> None:
    """Searches, and prints the seconds that Tuner took and the scores, as JSON."""
    from pipeline import api
    from pipeline.tuning.trial import RECORD, read

    found = _config(folder, workers, trials, epochs)
    component = api.run(found, from_="Tuner", to="Tuner").components["Tuner"]
    record = read(component.outputs["tuner_results"].uri / RECORD)
    scores = {trial.id: trial.score for trial in record.trials}
    print(json.dumps({"seconds": component.seconds, "scores": scores}))


def _config(folder: Path, workers: int, trials: int, epochs: int) -> RunConfig:
    values = {
        "root": folder,
        "tuner.space": {
            "learning_rate": {"type": "log", "min": 0.01, "max": 1.0},
            "weight_decay": {"type": "log", "min": 1e-5, "max": 1e-2},
        },
        "tuner.algorithm": "random",
        "tuner.max_trials": trials,
        "tuner.epochs": epochs,
        "tuner.finalists": 0,
        "tuner.workers": workers,
    }
    return config.load(_DIGITS, values=values)


if __name__ == "__main__":
    search(Path(sys.argv[1]), *map(int, sys.argv[2:]))
