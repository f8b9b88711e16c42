"""Trainings that are killed and started again, against one that nothing happens to."""

import random
import signal
import time

import pytest

from tests.pipeline.training import data, job

pytestmark = pytest.mark.slow

_STEPS = 110
_PARAMETERS = {"epochs": 10, "export": "best"}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("data"), train=90, eval=21).uri


@pytest.fixture(scope="module")
def undisturbed(examples, tmp_path_factory):
    """What the training prints at its end: figures and the digest of the weights."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return job.finished(job.start(folder, examples, folder / "state", **_PARAMETERS))[-2:]


def until_step(process, step):
    """Reads what a process prints until it has done so many steps; returns those it has done."""
    for line in process.stdout:
        if line.startswith("step ") and int(line[5:]) >= step:
            return int(line[5:])
    raise AssertionError(process.communicate())


def checkpoints(state):
    return sorted((state / "checkpoints").glob("step-*"))


def last_step(state):
    return max((int(path.name[5:]) for path in checkpoints(state)), default=0)


@pytest.mark.soak
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(
    examples, undisturbed, tmp_path, round_
):
    chance = random.Random(round_)
    state = tmp_path / "state"
    for latest in (30, 74):
        process = job.start(tmp_path, examples, state, **_PARAMETERS)
        until_step(process, chance.randint(last_step(state) + 9, latest))
        time.sleep(chance.uniform(0, 0.1))  # somewhere within a round, or while it saves
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    # And the newest checkpoint was on a bad block.
    newest, before = last_step(state), sorted(int(p.name[5:]) for p in checkpoints(state))[-2]
    tensors = checkpoints(state)[-1] / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    lines = job.finished(job.start(tmp_path, examples, state, **_PARAMETERS))
    assert any(f"step-{newest:08}: tensors.safetensors has" in line for line in lines)
    assert f"going on after step {before} of {_STEPS}" in lines
    assert lines[-2:] == undisturbed


def test_a_training_that_is_told_to_stop_saves_and_says_so(examples, undisturbed, tmp_path):
    state = tmp_path / "state"
    parameters = {**_PARAMETERS, "checkpoint_steps": 0}
    for signal_, code, least in ((signal.SIGTERM, 75, 20), (signal.SIGINT, 130, 50)):
        process = job.start(tmp_path, examples, state, **parameters)
        done = until_step(process, least)
        process.send_signal(signal_)
        output, errors = process.communicate()
        assert process.returncode == code, output + errors
        saved = last_step(state)
        assert done <= saved < _STEPS
        if signal_ == signal.SIGTERM:
            told = f"error: stopped by SIGTERM after step {saved} of {_STEPS}; the same command"
            assert told in output
    lines = job.finished(job.start(tmp_path, examples, state, **parameters))
    assert f"going on after step {saved} of {_STEPS}" in lines
    assert lines[-2:] == undisturbed


def test_stopped_before_the_first_step_it_keeps_nothing(examples, tmp_path):
    process = job.start(tmp_path, examples, "", **_PARAMETERS)
    until_step(process, 0)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert process.returncode == 75, output + errors
    assert "error: stopped by SIGTERM before the first step was done" in output


def test_a_rollback_ends_with_the_same_weights_whatever_is_killed_around_it(examples, tmp_path):
    """Told to stop before it, where a checkpoint is then, and killed right after it."""
    parameters = {"epochs": 6, "checkpoint_steps": 12, "bad_step": 44}
    wanted = job.finished(job.start(tmp_path, examples, tmp_path / "undisturbed", **parameters))
    back = (
        "the loss is nan in step 44: going back to step 36 with 0.5 times the learning rate "
        "(rollback 1 of 3); rollbacks.json beside the checkpoints names the images"
    )
    assert wanted.count(back) == 1

    state = tmp_path / "state"
    process = job.start(tmp_path, examples, state, **parameters)
    until_step(process, 38)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert process.returncode == 75, output + errors
    assert 36 < last_step(state) < 44
    process = job.start(tmp_path, examples, state, **parameters)
    assert any(line.startswith(back) for line in process.stdout)
    process.kill()
    process.communicate()
    lines = job.finished(job.start(tmp_path, examples, state, **parameters))
    assert "going on after step 36 of 66" in lines
    assert lines[-2:] == wanted[-2:]
