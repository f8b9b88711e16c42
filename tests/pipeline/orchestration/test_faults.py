"""Runs that are killed, run twice at once, or meet a full disk."""

import contextlib
import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

import pipeline
from pipeline import config
from pipeline.errors import PipelineError
from pipeline.orchestration import graph, runner, store
from pipeline.orchestration.view import Silent
from tests.pipeline import builders
from tests.pipeline.orchestration import job

_SECONDS = 0.3


def start(root, log, seconds=0.0):
    return subprocess.Popen(
        [sys.executable, "-m", job.__name__, root, log, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def finish(process):
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def counted(log, word, name):
    return log.read_text().splitlines().count(f"{word} {name}") if log.exists() else 0


def wait_for(log, name, process):
    """Waits until a component has begun."""
    end = time.monotonic() + 60
    while not counted(log, "begin", name):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def intact(root):
    connection = sqlite3.connect(root / ".system" / "metadata.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()


@pytest.mark.soak
def test_a_run_killed_in_each_component_goes_on_and_gives_what_an_undisturbed_one_gives(
    tmp_path, round_
):
    code, expected = finish(start(tmp_path / "undisturbed", tmp_path / "log"))
    assert code == 0
    chance = random.Random(round_)
    root, log = tmp_path / "root", tmp_path / "killed.log"
    for name in job.GRAPH:
        process = start(root, log, _SECONDS)
        wait_for(log, name, process)
        time.sleep(chance.uniform(0.0, 1.2 * _SECONDS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        intact(root)
    executions = store.Store(root)
    finished = {name: len(list(executions.completed(name))) for name in job.GRAPH}
    code, output = finish(start(root, log))
    assert (code, output) == (0, expected)
    for name in job.GRAPH:
        # What had finished did not run again, neither now nor before.
        assert len(list(executions.completed(name))) == 1
        if finished[name]:
            (step,) = (s for s in executions.runs(last=1)[0].steps if s.component == name)
            assert step.cached
    states = [run.state for run in executions.runs()]
    assert set(states[:-1]) <= {"FAILED", "COMPLETE"}
    assert states[-1] == "COMPLETE"
    assert not list((root / ".system" / "staging").iterdir())
    assert not list((root / ".system" / "running").iterdir())
    # Of each component one directory is there, and all else is gone.
    assert len(list(root.glob("[A-Z]*/out/*"))) == len(job.GRAPH)
    code, output = finish(start(root, log))
    assert (code, output) == (0, expected)
    assert executions.runs(last=1)[0].step("Pusher").cached


@pytest.mark.soak
def test_two_runs_at_once_do_no_harm_to_each_other(tmp_path, round_):
    code, expected = finish(start(tmp_path / "alone", tmp_path / "log"))
    root, log = tmp_path / "root", tmp_path / "both.log"
    chance = random.Random(round_)
    both = []
    for _ in range(2):
        both.append(start(root, log, 0.1))
        time.sleep(chance.uniform(0.0, 0.5))
    assert [finish(process) for process in both] == [(code, expected)] * 2
    intact(root)
    assert counted(log, "begin", "Trainer") == 1  # one waits for the other
    executions = store.Store(root)
    assert [run.state for run in executions.runs()] == ["COMPLETE"] * 2
    assert not list((root / ".system" / "staging").iterdir())
    assert not list((root / ".system" / "running").iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 40 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Filling(Silent):
    """Fills the disk when a component begins, but for a few pages."""

    def __init__(self, disk, component, left):
        self.disk, self.component, self.left = disk, component, left

    def started(self, component):
        if component == self.component:
            free = shutil.disk_usage(self.disk).free
            with contextlib.suppress(OSError):  # what runs beside it was faster
                (self.disk / "filler").write_bytes(bytes(max(0, free - self.left)))


@pytest.mark.parametrize("left", [0, 4096, 16384])
@pytest.mark.parametrize("name", job.GRAPH)
def test_a_full_disk_is_named_and_leaves_the_store_intact(small_disk, tmp_path, name, left):
    root, log = small_disk / "root", tmp_path / "log"
    nodes = job.nodes(log, size=200_000)
    with pytest.raises(PipelineError, match="the disk is full") as raised:
        runner.execute(nodes, "job", root, Filling(small_disk, name, left))
    assert "free space, or choose another --root, and run again" in str(raised.value)
    executions = store.Store(root)
    before = {n for n in job.GRAPH if list(executions.completed(n))}
    assert name not in before
    (small_disk / "filler").unlink()
    intact(root)
    results = runner.execute(nodes, "job", root, Silent())
    assert {n for n, result in results.items() if result.cached} == before
    assert [run.state for run in executions.runs()] == ["FAILED", "COMPLETE"]
    assert not list((root / ".system" / "staging").iterdir())
    assert len(list(root.glob("[A-Z]*/out/*"))) == len(job.GRAPH)


def test_on_a_disk_that_is_full_before_a_run_it_is_named_and_records_can_be_read(
    small_disk, tmp_path
):
    root, log = small_disk / "root", tmp_path / "log"
    runner.execute(job.nodes(log), "job", root, Silent())
    gc.collect()  # the last connection takes the log with it
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    (known,) = store.Store(root).runs()
    assert known.state == "COMPLETE"
    with pytest.raises(PipelineError, match="the disk is full; free space, or choose"):
        runner.execute(job.nodes(log), "job", root, Silent())
    (small_disk / "filler").unlink()
    results = runner.execute(job.nodes(log), "job", root, Silent())
    assert all(result.cached for result in results.values())
    assert [run.id for run in store.Store(root).runs()] == [1, 2]


@pytest.mark.exhaustive
@pytest.mark.parametrize("left", [8_192, 600_000])
def test_a_full_disk_in_each_component_of_the_pipeline(small_disk, left):
    values = {
        **builders.TINY_RUN,
        "root": str(small_disk / "runs"),
        "pusher": {"destination": str(small_disk / "saved_models")},
    }
    root = small_disk / "runs" / "tiny"
    names = [node.name for node in graph.build(config.validate(values, "test"))]
    for name in names:
        with pytest.raises(PipelineError, match=r"the disk is full|No space left on device"):
            pipeline.run(values, view=Filling(small_disk, name, left))
        (small_disk / "filler").unlink()
        intact(root)
        assert not list(root.glob(".system/staging/*"))
    results = pipeline.run(values).components
    assert [n for n in names if not results[n].cached] == ["Pusher"]
