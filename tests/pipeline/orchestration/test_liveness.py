"""Locks that threads of one process take and free at the same moment."""

from pathlib import Path

import pytest

from pipeline.orchestration.liveness import Locks


def test_a_failure_frees_the_locks_of_its_block_and_no_others(tmp_path):
    locks = Locks(tmp_path)
    with pytest.raises(OSError, match="full"), locks.kept_if_well() as take:
        assert take("1")
        assert locks.take("2")  # another thread's
        raise OSError("full")
    assert locks.held == ["2"]
    assert Locks(tmp_path).take("1")
    assert not Locks(tmp_path).take("2")


def test_a_lock_that_is_taken_while_it_is_being_freed_belongs_to_who_took_it(tmp_path, monkeypatch):
    locks, taken = Locks(tmp_path), []
    assert locks.take("1")
    unlink = Path.unlink

    def interrupted(path, missing_ok=False):
        unlink(path, missing_ok)
        if not taken:
            taken.append(locks.take("1"))

    monkeypatch.setattr(Path, "unlink", interrupted)
    locks.free("1")
    assert taken == [True]
    assert locks.held == ["1"]
    assert not Locks(tmp_path).take("1")
    locks.free("1")
    assert not list(tmp_path.iterdir())
    assert Locks(tmp_path).take("1")
