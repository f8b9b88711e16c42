"""A worker looks whether it sees what it needs before it reads an image."""

import socket

import pytest

from pipeline.beam.arrival import Arrival, require
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
