"""Chief and workers: processes that die, one by one or all at once, and cost no finished trial."""

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Context
from pipeline.tuning import channel, chief
from tests.pipeline.tuning import synthetic

GOOD = {"score": 0.5}


def run(folder: Path, trials: list[dict], workers: int = 2, **fields: object) -> tuple:
    """Does a search, and returns it and what was said."""
    found = synthetic.search(folder / "state", trials, **fields)
    said = []
    job = synthetic.job(folder / "state", folder / "examples", workers)
    chief.run(found, job, Context("synthetic", say=said.append))
    return found, said


def begun(folder: Path) -> list[str]:
    """Returns the trials that workers began, in this order."""
    return [one["trial"] for one in synthetic.noted(folder / "examples") if one["what"] == "begin"]


def test_whatever_becomes_of_a_trial_the_search_goes_on(tmp_path):
    fates = ("reject", "memory", "crash", "misfit", "nan", "die", "die once", None)
    trials = [GOOD, *({"score": 0.1 * n, "fate": fate} for n, fate in enumerate(fates, 1))]
    found, said = run(tmp_path, trials)
    states = {t.values.get("fate", "first"): t.state for t in found.trials}
    assert states == {
        "first": "COMPLETED",
        "reject": "REJECTED",
        "memory": "FAILED",
        "crash": "FAILED",
        "misfit": "REJECTED",
        "nan": "FAILED",
        "die": "FAILED",
        "die once": "COMPLETED",
        None: "COMPLETED",
    }
    reasons = {t.values.get("fate"): t.reason for t in found.trials}
    assert "10,000 are allowed" in reasons["reject"]
    assert "out of memory" in reasons["memory"]
    assert reasons["crash"] == "ZeroDivisionError: division by zero"
    assert "died 2 times (SIGKILL)" in reasons["die"]
    assert any("out of memory" in line for line in said)
    attempts = {t.values.get("fate"): t.attempts for t in found.trials}
    assert (attempts["die"], attempts["die once"], attempts["crash"]) == (2, 2, 1)
    once = next(t for t in found.trials if t.values.get("fate") == "die once")
    assert once.objective == pytest.approx((0.7 / 3, 1.4 / 3, 0.7))
    assert {t.parameters for t in found.trials} == {1000}
    assert found.verdict.best == "0008"
    # A process goes on after a rejection or wrong use, and is replaced after anything else.
    noted = synthetic.noted(tmp_path / "examples")
    processes = {one["process"] for one in noted}
    assert 2 < len(processes) <= 2 + 6
    assert not (tmp_path / "state" / chief.TRIALS).exists() or not list(
        (tmp_path / "state" / chief.TRIALS).iterdir()
    )
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_each_worker_has_its_own_part_of_the_cores(tmp_path):
    run(tmp_path, [{"score": 0.5, "fate": "meet"}] * 2)
    noted = synthetic.noted(tmp_path / "examples")
    cores = {one["process"]: one["cores"] for one in noted}
    assert len(cores) == 2
    first, second = cores.values()
    everything = sorted(os.sched_getaffinity(0))
    if len(everything) > 1:
        assert sorted(first + second) == everything
    assert chief.places(1)[0].cores == ()


def test_gpus_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    own = [place.environment["CUDA_VISIBLE_DEVICES"] for place in chief.places(2)]
    assert own == ["0,2", "1,3"]
    assert all("CUDA_VISIBLE_DEVICES" not in place.environment for place in chief.places(5))


def test_trials_end_with_the_time_of_the_search(tmp_path):
    begin = time.monotonic()
    found, _ = run(tmp_path, [{"score": 0.5, "seconds": 300.0}] * 3, seconds=2.0)
    assert time.monotonic() - begin < 100
    assert {trial.state for trial in found.trials} == {"STOPPED"}


def test_workers_that_cannot_start_are_given_up(tmp_path):
    job = synthetic.job(tmp_path / "state", tmp_path / "examples", 1)
    broken = chief.Job(
        **{**vars(job), "program": ("python", "-c", "raise SystemExit('no library')")}
    )
    with pytest.raises(PipelineError, match=r"before their first trial; .*no library"):
        chief.run(synthetic.search(tmp_path / "state", [GOOD]), broken, Context("synthetic"))


def test_a_chief_that_is_asked_to_end_takes_its_workers_along(tmp_path):
    process = synthetic.start(tmp_path, [{"score": 0.5, "seconds": 300.0}] * 2, 2)
    _await(lambda: len(begun(tmp_path)) == 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=synthetic.PATIENCE) != 0
    for one in synthetic.noted(tmp_path / "examples"):
        with pytest.raises(ProcessLookupError):
            os.kill(one["process"], 0)


@pytest.mark.soak
def test_kill_9_at_any_moment_loses_no_finished_trial(tmp_path, round_):
    """The chief, a worker, or all of them are killed, three times at random moments."""
    draw = random.Random(round_)
    trials = [{"score": n / 20, "seconds": draw.uniform(0.0, 0.4)} for n in range(12)]
    path = tmp_path / "state" / "search.json"
    finished: dict[str, dict] = {}
    for _ in range(3):
        before = len(begun(tmp_path))
        process = synthetic.start(tmp_path, trials, 2)
        time.sleep(draw.uniform(0.3, 2.5))
        workers = {one["process"] for one in synthetic.noted(tmp_path / "examples")}
        alive = [number for number in workers if _is_ours(number)]
        victims = draw.choice([[process.pid], alive[:1], [process.pid, *alive]])
        for number in victims:
            _kill(number)
        if process.pid not in victims:
            time.sleep(draw.uniform(0.0, 0.5))
            _kill(process.pid)
        process.wait()
        assert not set(begun(tmp_path)[before:]) & set(finished)
        if path.exists():
            known = {t["id"]: t for t in json.loads(path.read_bytes())["record"]["trials"]}
            for number, trial in finished.items():
                assert known[number] == trial
            finished = {n: t for n, t in known.items() if t["state"] != "RUNNING"}
    before = len(begun(tmp_path))
    process = synthetic.start(tmp_path, trials, 2)
    output, errors = process.communicate(timeout=3 * synthetic.PATIENCE)
    assert process.returncode == 0, errors
    assert "best 0011" in output
    assert not set(begun(tmp_path)[before:]) & set(finished)
    known = {t["id"]: t for t in json.loads(path.read_bytes())["record"]["trials"]}
    assert [trial["state"] for trial in known.values()] == ["COMPLETED"] * 12
    assert {n: known[n] for n in finished} == finished


def test_workers_of_another_machine_join_and_end_with_the_search(tmp_path):
    trials = [{"score": 0.5, "fate": "meet"}] * 4
    found = synthetic.search(tmp_path / "state", trials)
    job = synthetic.job(tmp_path / "state", tmp_path / "examples", 1)
    chief.join(job, Context("another"))  # there is no chief yet
    said, path = [], tmp_path / "state" / "chief.json"

    def another() -> None:
        _await(path.exists)
        # The name that a machine is asked for need not mean the same to itself.
        port = int(json.loads(path.read_bytes())["address"].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=synthetic.PATIENCE).close()
        chief.join(job, Context("another", say=said.append))

    joined = threading.Thread(target=another)
    joined.start()
    chief.run(found, job, Context("synthetic"), "127.0.0.2")
    joined.join(synthetic.PATIENCE)
    assert not joined.is_alive()
    assert said[0].startswith("working for the search of 127.0.0.2:")
    assert len({one["process"] for one in synthetic.noted(tmp_path / "examples")}) == 2
    assert sorted(begun(tmp_path)) == sorted(trial.id for trial in found.trials)


def test_a_chief_listens_to_its_own_workers_alone():
    heard, left = [], []
    with channel.Chief(
        lambda *call: heard.append(call) or 7, lambda *w: left.append(w), "s"
    ) as one:
        address = f"localhost:{one.port}"
        stranger = channel.Worker(address, "another", "stranger")
        with pytest.raises(channel.GoneError):
            stranger.call("next")
        worker = channel.Worker(address, "s", "worker")
        assert worker.call("next", number=1) == 7
        assert heard == [("worker", "next", {"number": 1})]
        worker.close()
        _await(lambda: left == [("worker", "its connection ended")])
    with pytest.raises(channel.GoneError, match="there is no chief at"):
        channel.Worker(address, "s", "worker")


def test_a_worker_learns_that_its_chief_is_gone():
    gone = threading.Event()
    with channel.Chief(lambda *call: None, lambda *worker: None, "s") as one:
        worker = channel.Worker(f"localhost:{one.port}", "s", "worker", gone.set)
        worker.call("next")
        assert not gone.is_set()
    # The system closes the connections of a process that dies; here it goes on.
    worker._socket.shutdown(2)
    assert gone.wait(synthetic.PATIENCE)


def _await(condition) -> None:
    deadline = time.monotonic() + synthetic.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_ours(number: int) -> bool:
    """Whether a process lives and is a worker: numbers are given again."""
    with contextlib.suppress(OSError):
        return b"synthetic" in Path(f"/proc/{number}/cmdline").read_bytes()
    return False


def _kill(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
