import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from unittest import mock

import pytest

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import configs, labels, push, versions
from tests.pipeline.serving.models import saved_model


@pytest.fixture
def base(tmp_path):
    return tmp_path / "saved_models" / "m"


@pytest.fixture
def model(tmp_path):
    """A function that returns a model of the given content."""

    def make(content: str):
        root = tmp_path / "models" / content
        return root if root.exists() else saved_model(root, content.encode())

    return make


def result(pushed):
    return pushed.path, pushed.is_new


def stable(base):
    return labels.load(base, versions.versions(base)).labels["stable"]


def test_versions_count_up_and_an_equal_model_is_pushed_once(base, model):
    assert result(push.push(model("a"), base)) == (base / "1", True)
    assert result(push.push(model("a"), base)) == (base / "1", False)
    # Both in the same second.
    assert result(push.push(model("b"), base)) == (base / "2", True)
    assert result(push.push(model("a"), base)) == (base / "3", True)
    assert versions.digest(base / "2") == versions.digest(model("b"))
    assert versions.versions(base) == [1, 2, 3]


def test_what_of_stable_is_pushed_again_beside_a_canary_is_no_new_version(base, model):
    push.push(model("a"), base)
    push.push(model("b"), base, label="canary")
    assert result(push.push(model("a"), base)) == (base / "1", False)
    assert result(push.push(model("b"), base)) == (base / "2", False)
    assert stable(base) == 2


def test_a_version_that_was_damaged_is_not_taken_for_the_model(base, model):
    push.push(model("a"), base)
    (base / "1" / "variables" / "part-0").write_bytes(b"damaged")
    assert result(push.push(model("a"), base)) == (base / "2", True)


def test_the_next_version_is_above_all_that_tf_serving_would_load(base, model):
    for name in ("7", "12", "abc", "v20", "1.5", "9" * 30):
        (base / name).mkdir(parents=True)
    (base / "99").write_text("a file is no version")
    assert result(push.push(model("a"), base)) == (base / "13", True)


def test_a_number_that_was_given_is_never_given_again(base, model):
    for content in "abc":
        push.push(model(content), base)
    shutil.rmtree(base / "3")
    assert push.push(model("d"), base).number == 4
    shutil.rmtree(base / "4")
    shutil.rmtree(base / "2")
    assert push.push(model("e"), base).number == 5


def test_a_number_that_was_seen_is_not_given_again_although_its_push_died(base, model, monkeypatch):
    push.push(model("a"), base)
    with monkeypatch.context() as patched:
        patched.setattr(push, "_settle", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            push.push(model("b"), base)
    assert versions.versions(base) == [1, 2]
    shutil.rmtree(base / "2")
    assert push.push(model("c"), base).number == 3


def test_a_push_that_died_before_the_labels_is_finished_by_the_same_again(base, model, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(push, "_settle", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            push.push(model("a"), base)
    assert not (base.parent / configs.MODELS).exists()
    assert result(push.push(model("a"), base)) == (base / "1", False)
    assert stable(base) == 1
    assert (base.parent / configs.MODELS).exists()


def test_what_a_killed_push_left_is_removed_by_the_next(base, model):
    (base / ".tmp-dead" / "variables").mkdir(parents=True)
    (base / "..labels.json.dead").write_text("half")
    (base.parent / ".models.config.dead").write_text("half")
    push.push(model("a"), base)
    assert sorted(path.name for path in base.iterdir()) == [".labels.json", ".lock", "1"]
    assert sorted(path.name for path in base.parent.iterdir()) == [
        ".lock",
        "batching.config",
        "m",
        "models.config",
        "monitoring.config",
    ]


def test_what_is_no_saved_model_is_not_pushed(base, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match=r"no SavedModel; expected a file saved_model.pb"):
        push.push(tmp_path / "empty", base)
    assert not base.exists()


def test_files_of_any_permission_are_pushed_and_removed(base, model):
    source = model("a")
    (source / "empty").mkdir()
    (source / "saved_model.pb").chmod(0o400)
    source.chmod(0o500)
    push.push(source, base)
    assert (base / "1" / "empty").is_dir()
    assert (base / "1" / "saved_model.pb").stat().st_mode & 0o200
    source.chmod(0o700)


def test_keep_last_spares_the_highest_the_labelled_and_those_that_servers_still_use(base, model):
    for content in "abcdef":
        push.push(model(content), base)
    push.promote(base, 5, "stable")
    pushed = push.push(model("g"), base, label="canary", keep_last=2)
    # 6 was stable before 5.
    assert pushed.removed == (1, 2, 3, 4)
    assert versions.versions(base) == [5, 6, 7]
    assert not list(base.glob(".tmp-*"))


def test_a_damaged_version_is_not_rolled_back_to(base, model):
    for content in "abc":
        push.push(model(content), base)
    (base / "2/variables/part-0").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"/2: is damaged"):
        push.rollback(base)
    assert versions.versions(base) == [1, 2, 3]
    assert push.rollback(base, to=1)[0].number == 4


def test_no_version_gets_a_number_that_servers_do_not_know(base, model):
    push.push(model("a"), base)
    push.push(model("b"), base)
    (base / str(2**63 - 1)).mkdir()
    for act in (lambda: push.push(model("c"), base), lambda: push.rollback(base, to=1)):
        with pytest.raises(DataError, match="the greatest number that TF Serving knows"):
            act()
    assert versions.versions(base) == [1, 2, 2**63 - 1]


def test_keep_last_leaves_what_is_no_model(base, model):
    push.push(model("a"), base)
    for name in ("2", "003"):
        (base / name).mkdir()
        (base / name / "notes.txt").write_text("mine")
    for content in "bcd":
        push.push(model(content), base, keep_last=1)
    assert (base / "2/notes.txt").read_text() == (base / "003/notes.txt").read_text() == "mine"
    assert push.push(model("e"), base, keep_last=1).removed == (5,)


def test_a_rollback_gives_the_old_content_the_highest_number(base, model):
    for content in "abc":
        push.push(model(content), base, record={"metrics": {"accuracy": content}})
    pushed, target = push.rollback(base)
    assert (pushed.number, target, stable(base)) == (4, 2, 4)
    assert versions.digest(base / "4") == versions.digest(model("b"))
    record = versions.record(base / "4")
    assert (record["version"], record["republished_from"]) == (4, 2)
    assert record["metrics"] == {"accuracy": "b"}
    # The next one goes on from there, instead of back to what was withdrawn.
    pushed, target = push.rollback(base)
    assert (pushed.number, target, stable(base)) == (5, 1, 5)
    with pytest.raises(UsageError, match="none was served before version 5"):
        push.rollback(base)
    pushed, target = push.rollback(base, to=3)
    assert (pushed.number, target) == (6, 3)
    with pytest.raises(UsageError, match="version 6 of m: is what is served already"):
        push.rollback(base, to=6)
    with pytest.raises(UsageError, match="version 9 of m: not there; expected one of 1, 2"):
        push.rollback(base, to=9)


def test_a_rollback_goes_back_to_what_was_stable_not_to_a_canary(base, model):
    push.push(model("a"), base)
    push.push(model("b"), base, label="canary")
    push.push(model("c"), base)
    pushed, target = push.rollback(base)
    assert (pushed.number, target) == (4, 1)
    assert labels.load(base, [1, 2, 3, 4]).labels == {"stable": 4, "canary": 4}


def refuses(act, *arguments, **options):
    with pytest.raises(
        PipelineError, match=r"is version \d of m again, which a rollback or a promo"
    ):
        act(*arguments, **options)
    return True


def test_what_a_rollback_withdrew_is_not_pushed_again_until_somebody_asks(base, model):
    for content in "abc":
        push.push(model(content), base)
    push.push(model("d"), base, label="canary")
    push.rollback(base, to=1)
    before = contents(base.parent)
    # All that was served since, the canary that went along, and whatever it is to be now.
    for content in "bcd":
        assert refuses(push.push, model(content), base)
        assert refuses(push.push, model(content), base, label="canary")
    assert contents(base.parent) == before
    assert [info.number for info in push.describe(base) if info.is_withdrawn] == [2, 3, 4]

    # What is served, and what is new, is nobody's to refuse.
    assert result(push.push(model("a"), base)) == (base / "5", False)
    assert result(push.push(model("e"), base)) == (base / "6", True)
    assert result(push.push(model("b"), base, again=True)) == (base / "7", True)
    assert result(push.push(model("b"), base)) == (base / "7", False)
    assert push.rollback(base, to=3)[0].number == 8
    assert result(push.push(model("c"), base)) == (base / "8", False)
    assert refuses(push.push, model("b"), base)
    assert refuses(push.push, model("d"), base)


def test_a_canary_is_asked_for_as_a_canary_alone(base, model):
    push.push(model("a"), base)
    push.push(model("b"), base)
    push.rollback(base)
    push.push(model("b"), base, label="canary", again=True)
    assert result(push.push(model("b"), base, label="canary")) == (base / "4", False)
    assert refuses(push.push, model("b"), base)
    push.promote(base, 4, "stable")
    assert result(push.push(model("b"), base)) == (base / "4", False)


def test_a_label_that_a_person_moved_back_stays_there(base, model):
    push.push(model("a"), base)
    push.push(model("b"), base, label="canary")
    push.push(model("c"), base)
    push.promote(base, 2, "stable")
    assert refuses(push.push, model("c"), base)
    assert stable(base) == 2
    # The next rollback goes on from there, too.
    assert push.rollback(base)[1] == 1


def test_a_push_to_labels_of_before_there_was_withdrawal(base, model):
    push.push(model("a"), base)
    ledger = json.loads((base / labels.FILE).read_text())
    del ledger["withdrawn"]
    (base / labels.FILE).write_text(json.dumps(ledger))
    assert result(push.push(model("a"), base)) == (base / "1", False)


def test_versions_from_before_there_were_labels_can_be_rolled_back(base, model):
    for number, content in enumerate("ab", 1):
        shutil.copytree(model(content), base / str(number))
    assert push.rollback(base)[1] == 1
    assert versions.digest(base / "3") == versions.digest(model("a"))


def test_a_version_without_a_saved_model_gets_no_label(base, model):
    push.push(model("a"), base)
    (base / "7").mkdir()
    with pytest.raises(UsageError, match="version 7 of m: not there; expected one of 1"):
        push.promote(base, 7, "stable")
    assert [info.is_whole for info in push.describe(base)] == [True, False]


@pytest.mark.parametrize("act", [push.rollback, push.describe])
def test_a_model_that_is_not_there_is_wrong_use(base, act):
    with pytest.raises(UsageError, match="no versions there"):
        act(base)
    assert not base.exists()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), PipelineError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("at", [1, 3])
def test_a_copy_that_fails_midway_leaves_nothing(base, model, monkeypatch, error, raised, at):
    push.push(model("a"), base)
    before = contents(base.parent)
    calls = []

    def copy(source, target):
        calls.append(source)
        if len(calls) == at:
            target.write_bytes(b"half")
            raise error
        shutil.copyfile.__wrapped__(source, target)

    copy.__wrapped__ = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(raised) as caught:
        push.push(model("b"), base)
    assert contents(base.parent) == before
    assert not list(base.glob(".tmp-*"))
    if raised is PipelineError:
        assert "No space left on device" in str(caught.value)
        assert "nothing was pushed" in str(caught.value)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_nothing_of_what_was_there(small_disk, tmp_path):
    base = small_disk / "m"
    push.push(saved_model(tmp_path / "a", b"x" * 20), base)
    before = contents(small_disk)
    with pytest.raises(PipelineError, match="No space left on device"):
        push.push(saved_model(tmp_path / "b", b"y" * 100), base)
    assert contents(small_disk) == before
    assert push.push(saved_model(tmp_path / "c", b"z" * 20), base).number == 2


def test_a_read_only_destination_is_named(small_disk, tmp_path):
    base = small_disk / "m"
    for content in (b"a", b"b"):
        push.push(saved_model(tmp_path / content.decode(), content), base)
    before = contents(small_disk)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    for act in (
        lambda: push.push(saved_model(tmp_path / "c", b"c"), base),
        lambda: push.rollback(base),
        lambda: push.promote(base, 1, "stable"),
    ):
        with pytest.raises(PipelineError, match=r"/m: cannot be written \(Read-only file system"):
            act()
    # What is only looked at needs no permission to write.
    assert [info.labels for info in push.describe(base)] == [(), ("stable",)]
    assert contents(small_disk) == before


def test_a_destination_that_is_a_file_is_named(base, model, tmp_path):
    base.parent.mkdir()
    base.write_text("a file")
    with pytest.raises(PipelineError, match=r"/m: cannot be written .*nothing was pushed"):
        push.push(model("a"), base)


def test_a_configuration_of_somebody_else_is_found_before_anything_is_pushed(base, model):
    base.parent.mkdir()
    (base.parent / configs.MODELS).write_text("model_config_list { config { nonsense: 1 } }")
    with pytest.raises(PipelineError, match=r"models.config: was not written by this program"):
        push.push(model("a"), base)
    assert not base.exists()


def _push_each(models, base, barrier):
    barrier.wait()
    for model in models:
        push.push(model, base)


def watch(base, complete, workers, until):
    """Reads the highest version all the time, as TF Serving does, until the time is over."""
    seen = set()
    while time.monotonic() < until and any(worker.is_alive() for worker in workers):
        if present := versions.versions(base):
            seen.add(present[-1])
            assert versions.digest(base / str(present[-1])) in complete
    return seen


@pytest.mark.soak
def test_eight_push_at_once_one_is_killed_and_a_poller_never_sees_a_part(tmp_path, round_):
    """No incomplete version is ever seen, none is lost, and numbers are distinct."""
    spawn = multiprocessing.get_context("spawn")
    base, barrier = tmp_path / "saved_models" / "m", spawn.Barrier(9)
    models = [
        [saved_model(tmp_path / f"{n}-{k}", b"model %d-%d" % (n, k), parts=8) for k in range(3)]
        for n in range(8)
    ]
    digests = [[versions.digest(model) for model in own] for own in models]
    complete = {digest for own in digests for digest in own}
    workers = [spawn.Process(target=_push_each, args=(own, base, barrier)) for own in models]
    for worker in workers:
        worker.start()
    chance = random.Random(round_)
    victim = chance.randrange(8)
    barrier.wait()
    watch(base, complete, workers, time.monotonic() + chance.uniform(0.0, 0.4))
    os.kill(workers[victim].pid, signal.SIGKILL)
    watch(base, complete, workers, time.monotonic() + 60)
    for worker in workers:
        worker.join()
    assert [w.exitcode for n, w in enumerate(workers) if n != victim] == [0] * 7

    numbers = versions.versions(base)
    pushed = [versions.digest(base / str(number)) for number in numbers]
    assert len(set(pushed)) == len(pushed)
    survivors = {d for n, own in enumerate(digests) if n != victim for d in own}
    assert survivors <= set(pushed) <= complete
    # The lock died with its holder, and the next push works and clears up.
    after = push.push(saved_model(tmp_path / "next", b"next"), base)
    assert after.number in (numbers[-1] + 1, numbers[-1] + 2)
    assert stable(base) == after.number
    assert not list(base.glob(".tmp-*"))
    (listed,) = configs.parse_models((base.parent / configs.MODELS).read_text(), "models.config")
    assert dict(listed.version_labels) == {"stable": after.number}


def _push_again_and_again(models, base):
    number = 0
    while True:
        push.push(models[number % len(models)], base, keep_last=2)
        number += 1


@pytest.mark.soak
def test_a_push_that_is_killed_at_any_time_leaves_a_destination_that_serves(tmp_path, round_):
    base = tmp_path / "saved_models" / "m"
    models = [saved_model(tmp_path / str(n), b"model %d" % n, parts=20) for n in range(3)]
    complete = {versions.digest(model) for model in models}
    worker = multiprocessing.get_context("spawn").Process(
        target=_push_again_and_again, args=(models, base)
    )
    worker.start()
    while not (base.parent / configs.MODELS).exists():
        time.sleep(0.005)
    time.sleep(random.Random(round_).uniform(0.0, 0.3))
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()

    numbers = versions.versions(base)
    assert {versions.digest(base / str(number)) for number in numbers} <= complete
    (listed,) = configs.parse_models((base.parent / configs.MODELS).read_text(), "models.config")
    # What servers were told to use is there.
    assert set(listed.version_labels.values()) <= set(numbers)
    highest = labels.load(base, numbers).highest
    assert push.push(saved_model(tmp_path / "next", b"next"), base).number == highest + 1
