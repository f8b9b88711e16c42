"""A worker looks whether it sees what it needs before it reads an image."""

import socket
from pathlib import Path

import pytest

from pipeline.beam.arrival import Arrival, require, require_written
from pipeline.errors import PipelineError


def test_what_is_there_is_enough(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    doing = Arrival((tmp_path, tmp_path / "folder"))
    doing.setup()
    assert list(doing.process("an element")) == ["an element"]


def test_relative_paths_mean_the_same_as_where_the_job_was_submitted(tmp_path, monkeypatch):
    (tmp_path / "there" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "there")
    doing = Arrival((tmp_path.joinpath("there", "images").relative_to(tmp_path / "there"),))
    monkeypatch.chdir(tmp_path)
    doing.setup()


def test_what_is_missing_is_named_with_the_machine_and_what_to_do(tmp_path):
    with pytest.raises(PipelineError, match="all workers need it at this place") as error:
        require(tmp_path / "away")
    assert str(error.value).startswith(f"{tmp_path / 'away'}: not there on {socket.gethostname()}")


def test_a_worker_without_the_folder_of_the_run_is_named(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    doing = Arrival((Path("images"),))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").rmdir()
    with pytest.raises(PipelineError, match=r"there: not there on"):
        doing.setup()


def test_what_a_worker_wrote_on_a_disk_of_its_own_is_missed(tmp_path):
    (tmp_path / "one").touch()
    require_written([tmp_path / "one"])
    with pytest.raises(PipelineError, match=r"two: was written by a worker, and is not there on"):
        require_written([tmp_path / "one", tmp_path / "two"])
