import io
import sys

import pytest
from rich.console import Console

from pipeline.errors import Stopped
from pipeline.orchestration import view
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.runner import Result


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    assert view.format_seconds(seconds) == text


def test_the_time_left_does_not_count_the_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    remaining = view.Remaining()
    assert remaining(10, 100) == ""
    now[0] += 4.0
    assert remaining(30, 100) == "14 s left"
    assert remaining(100, 100) == ""


def _show(shown):
    result = Result("Trainer", Outcome("eval accuracy 98 %"), {}, 12.0, cached=False)
    shown.started("Trainer")
    report = shown.progress("Trainer")
    report(0, 10)
    report(5, 10, loss=0.25, eval_accuracy=0.981)
    shown.say("MirroredStrategy with [2] replicas")
    shown.finished(result)


def test_without_a_terminal_lines_are_printed(monkeypatch):
    monkeypatch.setattr(view, "_PLAIN_INTERVAL", 0.0)
    console = Console(file=io.StringIO(), width=80)
    _show(view.Plain(console, ["ExampleGen", "Trainer"]))
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "[2/2] Trainer"
    assert lines[1] == "      0%"
    assert lines[2].startswith("      50%, ")
    assert lines[2].endswith("left, loss 0.2500, eval accuracy 98.10%")
    assert lines[3] == "MirroredStrategy with [2] replicas"
    assert lines[4] == "      done in 12 s: eval accuracy 98 %"


def test_in_a_terminal_the_table_shows_every_component_and_stays_after_an_error():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with (
        pytest.raises(KeyboardInterrupt),
        view.Rich(console, ["ExampleGen", "Trainer", "Pusher"]) as live,
    ):
        _show(live)
        live.started("Pusher")
        live.failed("Pusher")
        raise KeyboardInterrupt
    shown = console.file.getvalue()
    last = shown[shown.rindex("ExampleGen") :]
    assert "Trainer" in last
    assert "12 s" in last
    assert "eval accuracy 98 %" in last
    assert "✗" in last
    assert "MirroredStrategy with [2] replicas" in shown


def test_lines_of_components_that_run_at_once_name_them(monkeypatch):
    monkeypatch.setattr(view, "_PLAIN_INTERVAL", 0.0)
    console = Console(file=io.StringIO(), width=80)
    shown = view.Plain(console, ["Evaluator", "Checker"])
    shown.started("Evaluator")
    shown.started("Checker")
    shown.progress("Evaluator")(1, 2)
    shown.progress("Checker")(1, 4)
    shown.say("asks a server", "Evaluator")
    shown.say("loads the model", "Checker")
    shown.finished(Result("Evaluator", Outcome("good"), {}, 1.0, cached=False))
    shown.failed("Checker")
    assert console.file.getvalue().splitlines() == [
        "[1/2] Evaluator",
        "[2/2] Checker",
        "      Evaluator 50%",
        "      25%",
        "Evaluator: asks a server",
        "loads the model",
        "      Evaluator done in 1.0 s: good",
        "      Checker stopped",
    ]


def test_where_nobody_reads_the_lines_the_run_is_stopped(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    # The rest of what rich does would close the standard output of the tests.
    monkeypatch.setattr(Console, "on_broken_pipe", lambda console: sys.exit(1))
    shown = view.Plain(Console(file=Broken()), ["A"])
    with pytest.raises(Stopped, match="whoever read the output has gone"):
        shown.started("A")
