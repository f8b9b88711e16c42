"""Processes that are killed, and asked to stop, while they do a job; and what goes on from there."""

import os
import random
import signal
import subprocess
import time

import pytest

from pipeline.bulk import job
from tests.pipeline import builders
from tests.pipeline.bulk import models
from tests.pipeline.bulk.test_job import content, rows, run

_SHARD = 8
# The slow one leaves seconds between the second shard and the last.
_AT_ONCE, _SLOWLY = "0", "200"


def start(data, model, out):
    arguments = ["infer", str(data), "--model", str(model), "--output", str(out)]
    sizes = ["--shard-size", str(_SHARD), "--batch-size", "4"]
    return subprocess.Popen(
        [*builders.PYTHON, *arguments, *sizes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As of a person who has set nothing for TensorFlow.
        env={name: value for name, value in os.environ.items() if name[:3] != "TF_"},
    )


def finish(data, model, out):
    request = job.Request(str(data), model / "1", model.name, shard_size=_SHARD, batch_size=4)
    return run(request, out)


def shards_of(out):
    return len(list(out.glob("predictions-*")))


def wait_until(condition, process):
    end = time.monotonic() + 180
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def slow_job(tmp_path_factory):
    """Data, a model, the file that says how slow it is, and what an undisturbed job writes."""
    root = tmp_path_factory.mktemp("slow")
    (root / "pace").write_text(_AT_ONCE)
    data = models.pictures(root / "photos", 158)
    model = models.save(root / "lengths", pace=root / "pace")
    finish(data, model, root / "out")
    return data, model, root / "pace", content(root / "out")


@pytest.mark.soak
def test_a_job_killed_at_any_moment_gives_what_an_undisturbed_one_gives(slow_job, tmp_path, round_):
    data, model, pace, wanted = slow_job
    out = tmp_path / "out"
    chance = random.Random(round_)
    for number in range(1 if round_ < 2 else 2):
        pace.write_text(_SLOWLY)
        process = start(data, model, out)
        if (round_ + number) % 5 == 1:
            wait_until((out / ".job").exists, process)
            time.sleep(chance.uniform(0.0, 3.0))  # while it starts
        else:
            most = min(shards_of(out) + chance.randint(1, 6), 19)
            wait_until(lambda most=most: shards_of(out) >= most, process)
            time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        for path in out.glob("predictions-*"):
            assert path.read_bytes() == wanted[path.name]
    pace.write_text(_AT_ONCE)
    finish(data, model, out)
    assert content(out) == wanted
    assert len(rows(out)) == sum(1 for path in out.glob("predictions-*") for _ in path.open())
    assert len(rows(out)) == 158


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 75, "the shards that are complete are kept"),
        pytest.param(signal.SIGINT, 130, "what was finished is kept", marks=pytest.mark.exhaustive),
    ],
)
def test_it_can_be_asked_to_stop_and_goes_on(slow_job, tmp_path, number, code, said):
    data, model, pace, wanted = slow_job
    out = tmp_path / "out"
    pace.write_text(_SLOWLY)
    process = start(data, model, out)
    wait_until(lambda: shards_of(out) >= 2, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=180)
    assert process.returncode == code, error
    assert said in error
    assert error.count("\n") == 1
    assert not list((out / ".job").glob("*.part"))
    before = shards_of(out)
    assert 2 <= before < 20
    pace.write_text(_AT_ONCE)
    assert finish(data, model, out).done_before == before * _SHARD
    assert content(out) == wanted
