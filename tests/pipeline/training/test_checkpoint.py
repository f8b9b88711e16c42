import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError, PipelineError
from pipeline.training.checkpoint import Checkpoints

_TENSORS = "tensors.safetensors"


def tensors(seed):
    generator = np.random.default_rng(seed)
    return {
        "model/0000/kernel": generator.normal(size=(3, 4)).astype(np.float32),
        "model/0001/seed": np.array([seed, 2**40], np.int64),
        "optimizer/0000/iteration": np.array(seed, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "odd": np.array([-0.0, np.inf, np.nan], np.float32),
    }


def make(directory, fingerprint="f", keep_last=2, said=None):
    return Checkpoints(
        directory, fingerprint, keep_last, said.append if said is not None else print
    )


def assert_is(checkpoint, step):
    assert checkpoint.step == step
    assert checkpoint.facts == {"number": step}
    wanted = tensors(step)
    assert checkpoint.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert checkpoint.tensors[name].tobytes() == tensor.tobytes()


def save(checkpoints, *steps, **arguments):
    for step in steps:
        checkpoints.save(step, tensors(step), {"number": step}, **arguments)


def test_what_is_saved_comes_back_to_the_bit(tmp_path):
    save(make(tmp_path / "new"), 5)
    assert_is(make(tmp_path / "new").latest(), 5)


def test_without_checkpoints_there_is_none(tmp_path):
    assert make(tmp_path / "none").latest() is None
    assert make(tmp_path / "none").steps() == []


def test_the_last_ones_and_the_protected_stay(tmp_path):
    checkpoints = make(tmp_path)
    save(checkpoints, 1, 2)
    save(checkpoints, 3, 4, 15, protected=[2])
    assert checkpoints.steps() == [2, 4, 15]
    assert_is(checkpoints.load(2), 2)
    save(checkpoints, 16)
    assert checkpoints.steps() == [15, 16]
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000015", "step-00000016"}


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def another_format(path):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 99}))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (_TENSORS, cut),
        (_TENSORS, flip),
        (_TENSORS, Path.unlink),
        ("checkpoint.json", cut),
        ("checkpoint.json", Path.unlink),
        ("checkpoint.json", lambda path: path.write_text("[]")),
        ("checkpoint.json", lambda path: path.write_text('{"format": 1}')),
        ("checkpoint.json", another_format),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_named(tmp_path, file, damage):
    said = []
    checkpoints = make(tmp_path, said=said)
    save(checkpoints, 7, 8)
    damage(tmp_path / "step-00000008" / file)
    assert_is(checkpoints.latest(), 7)
    (line,) = said
    assert "step-00000008" in line
    assert line.endswith("going back to that of step 7")
    with pytest.raises(DataError, match="step-00000008"):
        checkpoints.load(8)
    save(checkpoints, 8)  # trained again
    assert_is(checkpoints.latest(), 8)


def test_when_all_are_damaged_it_begins_anew(tmp_path):
    said = []
    checkpoints = make(tmp_path, said=said)
    save(checkpoints, 7, 8)
    for step in ("step-00000007", "step-00000008"):
        flip(tmp_path / step / _TENSORS)
    assert checkpoints.latest() is None
    assert said[-1].endswith("going back to the beginning")


def test_checkpoints_of_another_training_are_refused(tmp_path):
    save(make(tmp_path), 7)
    with pytest.raises(DataError, match="belongs to a training on other data or with other"):
        make(tmp_path, "another").latest()


def test_a_step_that_is_saved_already_is_left_alone(tmp_path):
    checkpoints = make(tmp_path)
    save(checkpoints, 7)
    before = (tmp_path / "step-00000007" / _TENSORS).stat()
    save(checkpoints, 7)
    assert (tmp_path / "step-00000007" / _TENSORS).stat().st_ino == before.st_ino


def test_a_full_disk_leaves_the_last_good_one_and_says_what_to_do(tmp_path):
    checkpoints = make(tmp_path, keep_last=1)
    save(checkpoints, 7)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(PipelineError) as raised:
            save(checkpoints, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "no space for a checkpoint of 0.0 MiB" in str(raised.value)
    assert "the checkpoint of step 7 is intact; free some space" in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000007"}
    assert_is(checkpoints.latest(), 7)


def test_bytes_that_the_disk_did_not_keep_are_found_out_before_they_appear(tmp_path, monkeypatch):
    checkpoints = make(tmp_path)
    save(checkpoints, 7)
    from pipeline import files

    write = files.write_bytes

    def lossy(path, content):
        write(path, content[:-1] + b"?" if path.name == _TENSORS else content)

    monkeypatch.setattr(files, "write_bytes", lossy)
    with pytest.raises(PipelineError, match=r"could not be written .*step 7 is intact"):
        save(checkpoints, 8)
    assert checkpoints.steps() == [7]


_WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from pipeline.training.checkpoint import Checkpoints
    checkpoints = Checkpoints(Path(sys.argv[1]), "f", 2)
    found = checkpoints.latest()
    step = found.step if found else 0
    print("ready", flush=True)
    while True:
        step += 1
        checkpoints.save(step, {"t": np.full(100_000, step, np.int64)}, {"number": step})
"""


@pytest.mark.slow
@pytest.mark.soak
def test_a_writer_that_is_killed_leaves_whole_checkpoints(tmp_path, round_):
    chance = random.Random(round_)
    before = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WRITER), str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        writer.stdout.readline()
        time.sleep(chance.uniform(0.02, 0.4))
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        said = []
        checkpoints = make(tmp_path, said=said)
        found = checkpoints.latest()
        assert not said
        assert found.step > before
        assert (found.tensors["t"] == found.step).all()
        # The first writer may have come to one alone; a third one is about to be removed.
        assert len(checkpoints.steps()) in (min(found.step, 2), 3)
        before = found.step


def test_the_file_is_what_its_digest_says(tmp_path):
    save(make(tmp_path), 3)
    record = json.loads((tmp_path / "step-00000003" / "checkpoint.json").read_text())
    content = (tmp_path / "step-00000003" / _TENSORS).read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
