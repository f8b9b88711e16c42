"""The whole of it, with real trainings: a run that searches is killed five times."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.tuning.trial import RECORD, read
from tests.pipeline import builders

_KILLS = 5
_CONFIG = {
    **builders.TINY_RUN,
    "tuner": {
        "space": {"learning_rate": {"type": "log", "min": 1e-3, "max": 1.0}},
        "algorithm": "hyperband",
        "epochs": 4,
        "iterations": 1,
        "max_trials": 9,
        "finalists": 1,
        "final_seeds": 1,
        "workers": 2,
    },
}


@pytest.mark.exhaustive
def test_a_run_that_is_killed_loses_no_finished_trial(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(_CONFIG))
    command = [*builders.PYTHON, "run", str(path), "--root", str(tmp_path), "--to", "Trainer"]
    draw, finished, killed = random.Random(0), {}, 0
    while killed < _KILLS:
        with (tmp_path / "output").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        begin, before = time.monotonic(), len(_trials(tmp_path))
        # The first steps load libraries: what is killed has begun with the search.
        while len(_trials(tmp_path)) <= before and process.poll() is None:
            assert time.monotonic() - begin < 300
            time.sleep(0.1)
        time.sleep(draw.uniform(0.0, 6.0))
        assert process.poll() is None, (tmp_path / "output").read_text()[-3000:]
        workers = _workers(process.pid)
        for number in draw.choice([[process.pid], [process.pid, *workers], workers[:1]]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        killed += 1
        if process.poll() is None:
            time.sleep(draw.uniform(0.0, 2.0))
            process.kill()
        process.wait()
        known = _trials(tmp_path)
        assert {number: known[number] for number in finished} == finished
        finished = {n: trial for n, trial in known.items() if trial["state"] != "RUNNING"}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = tmp_path.glob("tiny/Tuner/tuner_results/*")
    record = read(found / RECORD)
    known = {trial.id: trial for trial in record.trials}
    assert all(trial.ended for trial in record.trials)
    assert record.best is not None
    for number, trial in finished.items():
        assert (known[number].score, known[number].attempts) == (trial["score"], trial["attempts"])


def _trials(root: Path) -> dict[str, Any]:
    """Returns the trials of the search that goes on."""
    for path in root.glob("tiny/Tuner/.system/stateful_working_dir/*/search.json"):
        return {trial["id"]: trial for trial in json.loads(path.read_bytes())["record"]["trials"]}
    return {}


def _workers(number: int) -> list[int]:
    """Returns the processes that a process has started."""
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    return [int(child) for child in children]
