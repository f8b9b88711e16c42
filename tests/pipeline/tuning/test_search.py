"""A search: its budget, its file, and what a kill between any two changes leaves of it."""

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError, PipelineError
from pipeline.tuning.budget import Budget
from pipeline.tuning.finals import Rules
from pipeline.tuning.oracle import Oracle
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.search import Search
from pipeline.tuning.space import Space
from pipeline.tuning.trial import Trial

pytestmark = pytest.mark.filterwarnings("ignore:currentThread", "ignore:getName")

EPOCHS = 4
SPACE = {"learning_rate": {"type": "log", "min": 1e-3, "max": 1.0}}
DEFAULT = {"learning_rate": 3.0}


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def search(
    path: Path,
    algorithm: str = "random",
    clock: Any = None,
    budget: Any = None,
    **parameters: Any,
) -> Search:
    found = Parameters(
        **{"space": SPACE, "algorithm": algorithm, "max_trials": 6, "iterations": 1, **parameters}
    )
    space = Space(found.space)
    return Search(
        path,
        algorithm,
        Oracle(found, space.to_keras_tuner(), DEFAULT, EPOCHS, "max"),
        DEFAULT,
        space.decode,
        Rules("eval_accuracy", "max", EPOCHS, found.finalists, found.final_seeds, seed=0),
        budget or Budget(found.max_trials),
        clock or Clock(),
    )


def score(trial: Trial, epoch: int = EPOCHS) -> float:
    """Returns what a training reaches: the same each time, greatest near 0.1."""
    rate = trial.values["learning_rate"]
    noise = hashlib.sha256(f"{rate} {trial.seed}".encode()).digest()[0] / 255
    return 1 / (1 + abs(rate - 0.1)) - 0.1 / epoch + noise / 1000


def do(found: Search, trial: Trial) -> None:
    """Does a trial: some fail, some are rejected."""
    kind = hashlib.sha256(f"{trial.values}".encode()).digest()[1] if trial.kind == "search" else 0
    if kind > 230:
        found.end(trial.id, "REJECTED", reason="too large")
        return
    found.measured(trial.id, 1000, 2000)
    if kind > 200:
        found.end(trial.id, "FAILED", reason="diverged")
        return
    for epoch in range(trial.first_epoch + 1, trial.epochs + 1):
        found.epoch(trial.id, epoch, {"eval_accuracy": score(trial, epoch), "eval_loss": 1.0})
    found.end(trial.id, "COMPLETED", {"eval_accuracy": score(trial, trial.epochs)})


def finish(found: Search, workers: int = 1, seed: int = 0) -> list[str]:
    """Does all that is left, so much at once, and returns what was begun, in this order."""
    draw, running, begun = random.Random(seed), [], []
    while not found.over():
        trial = found.next("somebody") if len(running) < workers else "wait"
        if isinstance(trial, Trial):
            running.append(trial)
            begun.append(trial.id)
        else:
            assert running, "it waits for nothing"
            do(found, running.pop(draw.randrange(len(running))))
    assert not running
    return begun


def told(trials: tuple[Trial, ...]) -> list[tuple]:
    """Returns what does not depend on when or by whom it was done."""
    return [(t.id, t.kind, t.values, t.seed, t.epochs, t.state, t.score) for t in trials]


@pytest.mark.parametrize("algorithm", ["random", "hyperband", "bayesian"])
def test_a_search_goes_on_from_any_moment(algorithm, tmp_path, monkeypatch):
    """Killed after each change of its file: what had ended stays, and is not done again."""
    from pipeline import files

    written, write = [], files.write_json

    def noted(path: Path, value: Any) -> None:
        write(path, value)
        written.append(path.read_bytes())

    monkeypatch.setattr(files, "write_json", noted)
    whole = search(tmp_path / "search.json", algorithm)
    finish(whole)
    monkeypatch.undo()
    expected = told(whole.trials)
    assert {t.kind for t in whole.trials} == {"default", "search", "final"}
    step = max(1, len(written) // 8)
    for content in written[::step]:
        path = tmp_path / "again" / "search.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        before = {
            t["id"]: t for t in json.loads(content)["record"]["trials"] if t["state"] != "RUNNING"
        }
        again = search(path, algorithm)
        begun = finish(again)
        assert not set(begun) & set(before)
        assert len(set(begun)) == len(begun)
        assert told(again.trials) == expected
        assert again.verdict == whole.verdict
        for one in again.trials:
            if one.id in before:
                assert list(one.objective) == before[one.id]["objective"]
                assert one.begin == before[one.id]["begin"]
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
@pytest.mark.parametrize("workers", [2, 5])
def test_workers_share_a_search(algorithm, workers, tmp_path):
    found = search(tmp_path / "search.json", algorithm)
    begun = finish(found, workers)
    assert sorted(begun) == sorted({trial.id for trial in found.trials})
    assert all(trial.ended for trial in found.trials)


def test_trials_epochs_and_rejections_are_counted(tmp_path):
    found = search(tmp_path / "a.json", max_trials=5, finalists=0)
    finish(found)
    assert sum(trial.state != "REJECTED" for trial in found.trials) == 5

    # 4 of the default, 2 · 4 of the finals, and 13 that suffice for three trials.
    found = search(tmp_path / "b.json", budget=Budget(100, epochs=25), finalists=1, final_seeds=1)
    finish(found)
    own = [t for t in found.trials if t.kind != "final"]
    assert sum(t.epochs for t in own if t.state == "COMPLETED") <= 17
    assert [t.state for t in own].count("STOPPED") == 1
    assert sum(len(t.objective) for t in found.trials) <= 25


def test_the_time_goes_on_over_restarts_and_leaves_some_for_the_finals(tmp_path):
    clock, path = Clock(), tmp_path / "search.json"

    def restarted() -> Search:
        return search(path, clock=clock, budget=Budget(1000, seconds=100.0))

    found = restarted()
    while not found.over():
        trial = found.next("somebody")
        clock.time += 5.0
        do(found, trial)
        before = found.seconds
        clock.time += 1000.0  # nobody works
        found = restarted()
        assert found.seconds == pytest.approx(before, abs=0.1)
    assert 80 <= found.seconds <= 100
    assert {t.kind for t in found.trials} == {"default", "search", "final"}
    assert all(t.state != "STOPPED" for t in found.trials)


def test_what_the_time_does_not_suffice_for_is_stopped(tmp_path):
    clock = Clock()
    found = search(tmp_path / "s.json", clock=clock, budget=Budget(9, seconds=10.0))
    trial = found.next("somebody")
    assert found.left == 10
    clock.time = 11.0
    assert found.next("another") == "stop"
    found.end(trial.id, "STOPPED", reason="the time was over")
    assert found.over()
    assert found.verdict.best is None


def test_a_worker_that_hangs_is_not_waited_for_when_the_time_is_over(tmp_path):
    clock = Clock()
    found = search(tmp_path / "s.json", clock=clock, budget=Budget(9, seconds=10.0))
    done, hanging = found.next("somebody"), found.next("another")
    do(found, done)
    clock.time = 60.0
    assert not found.over()  # it may be about to end
    clock.time = 80.0
    assert found.over()
    assert [trial.state for trial in found.trials] == ["COMPLETED", "STOPPED"]
    late = found.end(hanging.id, "COMPLETED", {"eval_accuracy": 1.0})
    assert (late.state, late.score) == ("STOPPED", None)
    assert found.verdict.best == done.id


def test_a_trial_whose_process_dies_goes_on_once(tmp_path):
    found = search(tmp_path / "s.json")
    do(found, found.next("first"))
    trial = found.next("first")
    found.epoch(trial.id, 1, {"eval_accuracy": 0.5})
    assert not found.lose(trial.id, "SIGKILL").ended
    again = found.next("second")
    assert (again.id, again.attempts, again.worker) == (trial.id, 2, "second")
    lost = found.lose(trial.id, "SIGKILL")
    assert (lost.state, lost.objective) == ("FAILED", (0.5,))
    assert "SIGKILL" in lost.reason
    assert found.next("third").id != trial.id


def test_what_is_no_number_is_no_score(tmp_path):
    found = search(tmp_path / "s.json")
    trial = found.next("somebody")
    found.epoch(trial.id, 1, {"eval_accuracy": float("nan"), "eval_loss": float("inf")})
    ended = found.end(trial.id, "COMPLETED", {"eval_accuracy": float("nan"), "loss": 1.0})
    assert (ended.state, ended.score, ended.objective) == ("FAILED", None, (None,))
    assert "eval_accuracy is no finite number" in ended.reason
    assert search(tmp_path / "s.json").trials == found.trials


def test_a_search_in_which_all_fails_ends_with_the_reason(tmp_path):
    found = search(tmp_path / "s.json", max_trials=100)
    with pytest.raises(PipelineError, match=r"none of 8 trials has a score.*no memory"):
        while not found.over():
            found.end(found.next("somebody").id, "FAILED", reason="no memory")


def test_checkpoints_are_kept_as_long_as_somebody_may_go_on_from_them(tmp_path):
    found = search(tmp_path / "s.json", "hyperband", max_trials=100)
    gone: set[str] = set()
    while not found.over():
        trial = found.next("somebody")
        assert found.first_of(trial).id not in gone
        do(found, trial)
        gone |= found.removable()
    assert gone == {trial.id for trial in found.trials}


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"format": 9}'])
def test_a_file_that_is_none_is_named(content, tmp_path):
    path = tmp_path / "search.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"search\.json: is no record of a search.*begin anew"):
        search(path)
