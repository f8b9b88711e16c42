"""The command that draws a run again, as a person types it."""

import pytest
import typer
from typer.testing import CliRunner

from pipeline.commands import report
from pipeline.errors import UsageError
from tests.pipeline.reporting import runs


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with two runs in it."""
    monkeypatch.chdir(tmp_path)
    made = runs.Recorded(tmp_path / "runs" / "digits")
    made.end()
    made.store.end_run(made.store.begin_run("digits", [("ExampleGen", ())]), "CANCELED")
    return tmp_path


def typed(*arguments):
    """Returns what the command prints."""
    app = typer.Typer()
    report.register(app)
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_the_last_run_is_drawn_or_the_one_that_is_named(here):
    assert typed() == str(here / "runs/digits/reports/2.html")
    assert "Run 2" in (here / "runs/digits/reports/2.html").read_text()
    assert typed(1, "--output", "mine.html") == "mine.html"
    assert "Run 1" in (here / "mine.html").read_text()


def test_a_run_is_named_as_show_and_diff_name_it(here):
    assert typed("digits/1") == str(here / "runs/digits/reports/1.html")
    assert typed("digits") == str(here / "runs/digits/reports/2.html")
    with pytest.raises(UsageError, match="run 3"):
        typed("digits/3")
    with pytest.raises(UsageError, match="'pets': expected one of digits"):
        typed("pets/1")


def test_what_is_not_there_is_named(here):
    with pytest.raises(UsageError, match="run 3"):
        typed(3)
    with pytest.raises(UsageError, match="'pets': expected one of digits"):
        typed("--name", "pets")
    with pytest.raises(UsageError, match="elsewhere"):
        typed("--root", "elsewhere")
    assert not (here / "elsewhere").exists()
