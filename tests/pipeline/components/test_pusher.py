import multiprocessing
import os
import random
import signal
import time

import pytest

from pipeline import files
from pipeline.components import pusher
from pipeline.errors import PipelineError
from tests.pipeline import builders


def saved_model(root, content=b"graph", parts=3):
    """Writes what a push takes for a SavedModel; it looks at the bytes alone."""
    (root / "variables").mkdir(parents=True)
    (root / "saved_model.pb").write_bytes(content)
    for part in range(parts):
        (root / "variables" / f"part-{part}").write_bytes(content * 1000)
    return root


def test_versions_count_up_and_an_equal_model_is_pushed_once(tmp_path):
    first = saved_model(tmp_path / "a", b"first")
    second = saved_model(tmp_path / "b", b"second")
    base = tmp_path / "saved_models" / "m"

    assert pusher.push(first, base) == (base / "1", True)
    assert pusher.push(first, base) == (base / "1", False)
    assert pusher.push(second, base) == (base / "2", True)
    assert pusher.push(first, base) == (base / "3", True)
    assert files.tree_digest(base / "2") == files.tree_digest(second)
    assert pusher.versions(base) == [1, 2, 3]


def test_the_next_version_is_above_all_that_tf_serving_would_load(tmp_path):
    base = tmp_path / "m"
    for name in ("7", "12", "abc", "v20", "1.5"):
        (base / name).mkdir(parents=True)
    (base / "99").write_text("a file is no version")
    assert pusher.push(saved_model(tmp_path / "a"), base) == (base / "13", True)


def test_what_a_killed_push_left_is_removed_by_the_next(tmp_path):
    base = tmp_path / "m"
    (base / ".tmp-dead" / "variables").mkdir(parents=True)
    pusher.push(saved_model(tmp_path / "a"), base)
    assert sorted(path.name for path in base.iterdir()) == [".lock", "1"]


def test_what_is_no_saved_model_is_not_pushed(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(PipelineError, match=r"no SavedModel; expected a file saved_model.pb"):
        pusher.push(tmp_path / "a", tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("missing", ["blessing", "infra_blessing"])
def test_nothing_is_pushed_without_both_blessings(tmp_path, missing):
    model = builders.artifact(tmp_path / "model", "Model")
    saved_model(model.uri / "Format-Serving")
    inputs = {"model": model}
    for key in ("blessing", "infra_blessing"):
        inputs[key] = builders.artifact(tmp_path / key, key, blessed=int(key != missing))
    parameters = pusher.Parameters(destination=tmp_path / "saved_models")
    outputs = {"pushed_model": builders.artifact(tmp_path / "pushed")}
    with pytest.raises(PipelineError, match=f"nothing was pushed: .*{missing}"):
        pusher.run(inputs, outputs, parameters, builders.CONTEXT)
    assert not (tmp_path / "saved_models").exists()


def _push_at_once(model, base, barrier):
    barrier.wait()
    pusher.push(model, base)


@pytest.mark.soak
def test_eight_pushes_at_once_give_eight_complete_versions(tmp_path, round_):
    spawn = multiprocessing.get_context("spawn")
    base, barrier = tmp_path / "m", spawn.Barrier(8)
    models = [saved_model(tmp_path / f"{n}", b"model %d" % n) for n in range(8)]
    workers = [spawn.Process(target=_push_at_once, args=(m, base, barrier)) for m in models]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 8
    assert pusher.versions(base) == list(range(1, 9))
    pushed = {files.tree_digest(base / str(version)) for version in range(1, 9)}
    assert pushed == {files.tree_digest(model) for model in models}


def _push_again_and_again(models, base):
    number = 0
    while True:
        pusher.push(models[number % len(models)], base)
        number += 1


@pytest.mark.soak
def test_no_version_is_ever_seen_incomplete_while_pushes_are_killed(tmp_path, round_):
    """A poller, as TF Serving is one, looks at every numeric name while a push dies."""
    base = tmp_path / "m"
    models = [saved_model(tmp_path / str(n), b"model %d" % n, parts=20) for n in range(3)]
    complete = {files.tree_digest(model) for model in models}
    worker = multiprocessing.get_context("spawn").Process(
        target=_push_again_and_again, args=(models, base)
    )
    worker.start()
    chance = random.Random(round_)
    while not pusher.versions(base):
        time.sleep(0.005)
    end = time.monotonic() + chance.uniform(0.05, 0.6)
    while time.monotonic() < end:
        newest = pusher.versions(base)[-1]
        assert files.tree_digest(base / str(newest)) in complete
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()

    before = pusher.versions(base)
    assert all(files.tree_digest(base / str(version)) in complete for version in before)
    # The lock died with its holder, and the next push works.
    version, is_new = pusher.push(saved_model(tmp_path / "next", b"next"), base)
    assert (version.name, is_new) == (str(before[-1] + 1), True)
    assert not list(base.glob(".tmp-*"))
