import multiprocessing
import os
import random
import signal
import time

import pytest

from pipeline import files


def test_a_written_file_holds_exactly_what_was_given(tmp_path):
    files.write_text(tmp_path / "new" / "a.txt", "first")
    files.write_text(tmp_path / "new" / "a.txt", "second ä")

    assert (tmp_path / "new" / "a.txt").read_bytes() == "second ä".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", _no_space)

    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "a.txt", "new")

    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def _no_space(descriptor):
    raise OSError(28, "No space left on device")


def test_a_directory_appears_only_when_its_body_has_ended_well(tmp_path):
    with files.staged_directory(tmp_path / "7") as staging:
        (staging / "part").write_text("x")
        assert not (tmp_path / "7").exists()
    assert (tmp_path / "7" / "part").read_text() == "x"

    with pytest.raises(KeyError), files.staged_directory(tmp_path / "8") as staging:
        (staging / "part").write_text("x")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_a_directory_is_never_published_over_another(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "kept").write_text("x")

    with pytest.raises(OSError), files.staged_directory(tmp_path / "7") as staging:
        (staging / "part").write_text("y")

    assert files.tree_listing(tmp_path) == {"7/kept": 1}


def test_the_digest_of_a_tree_sees_contents_and_names_and_not_times(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_text("content")
    os.utime(tmp_path / "a" / "sub" / "file", (1, 1))
    same = files.tree_digest(tmp_path / "a")
    assert same == files.tree_digest(tmp_path / "b")

    (tmp_path / "b" / "sub" / "file").write_text("CONTENT")
    assert files.tree_digest(tmp_path / "b") != same
    (tmp_path / "a" / "sub" / "file").rename(tmp_path / "a" / "sub" / "other")
    assert files.tree_digest(tmp_path / "a") != same


def _count_under_lock(folder, times):
    for _ in range(times):
        with files.locked(folder / ".lock"):
            path = folder / "count"
            value = int(path.read_text()) if path.exists() else 0
            time.sleep(0.001)
            path.write_text(str(value + 1))


def test_a_lock_lets_one_process_in_at_a_time(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_count_under_lock, args=(tmp_path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert (tmp_path / "count").read_text() == "100"


def _write_forever(path):
    number = 0
    while True:
        number += 1
        files.write_text(path, f"{number:09}" * 20_000)


@pytest.mark.soak
def test_a_writer_that_is_killed_never_leaves_a_part_of_a_file(tmp_path, round_):
    path = tmp_path / "state"
    writer = multiprocessing.get_context("spawn").Process(target=_write_forever, args=(path,))
    writer.start()
    while not path.exists():
        time.sleep(0.01)
    time.sleep(random.Random(round_).uniform(0, 0.2))
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()

    text = path.read_text()
    assert len(text) == 9 * 20_000
    assert text == text[:9] * 20_000
