"""Measures what a second worker saves of the time of a search.

    python -m benchmarks.tuner_workers [--trials 10] [--epochs 5] [--rounds 3]

The same search, random values for the learning rate and the weight decay of the digits' network, is
done by one worker process that is held on one core, and by two that are held on one each. The two
take turns. What is compared is the wall time of Tuner as a whole: starting the processes, loading
TensorFlow in each, compiling and training, choosing the next trial. The chief has the same cores
as its workers. Medians over the rounds; both have to find the same scores. The time that they
computed is said beside it: where it is much less than what passed, other programs were at work, and
the comparison says nothing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline import config
from pipeline.config import RunConfig

_DIGITS = "digits"
_TARGET = 0.70


def prepare(folder: Path) -> None:
    """Writes what every round reads: the digits' examples, and what is in front of Tuner."""
    from pipeline import api

    api.run(_config(folder, 1, 1), to="ExampleValidator")


def search(folder: Path, workers: int, trials: int, epochs: int) -> None:
    """Searches, and prints the seconds that Tuner took and the scores, as JSON."""
    from pipeline import api
    from pipeline.tuning.trial import RECORD, read

    found = _config(folder, trials, epochs, workers)
    component = api.run(found, from_="Tuner", to="Tuner").components["Tuner"]
    record = read(component.outputs["tuner_results"].uri / RECORD)
    scores = {trial.id: trial.score for trial in record.trials}
    own, workers_ = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    busy = [used.ru_utime + used.ru_stime for used in (own, workers_)]
    print(json.dumps({"seconds": component.seconds, "busy": busy, "scores": scores}))


def _config(folder: Path, trials: int, epochs: int, workers: int = 1) -> RunConfig:

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


def _measured(folder: Path, cores: list[int], trials: int, epochs: int) -> dict:
    """Does a search in a new process that has these cores, with a worker for each."""
    command = [sys.executable, "-m", __spec__.name, "--search", str(folder)]
    command += ["--workers", str(len(cores)), "--trials", str(trials), "--epochs", str(epochs)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return json.loads(done.stdout.splitlines()[-1])


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.search:
        search(given.search, given.workers, given.trials, given.epochs)
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two workers on a core each need two cores")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for number in range(given.rounds):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                found = _measured(Path(folder), cores[:workers], given.trials, given.epochs)
                seconds[workers].append(found["seconds"])
                scores.append(found["scores"])
                chief, busy = found["busy"]
                print(
                    f"round {number + 1}, {workers} on a core each: {found['seconds']:.1f} s; the "
                    f"chief computed for {chief:.1f} s, the workers for {busy:.1f} s",
                    flush=True,
                )
    if any(found != scores[0] for found in scores):
        sys.exit("the searches found different scores")
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    print(
        f"{given.trials} trials of {given.epochs} epochs: one worker {one:.1f} s, two {two:.1f} s, "
        f"which is {two / one:.2f} of it (aim: at most {_TARGET:.2f})"
    )


if __name__ == "__main__":
    _main()
