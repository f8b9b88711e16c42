"""Sides are asked in turns, each in its own process, and one that fails is told by name."""

import dataclasses
import os
import re

import pytest

from benchmarks import harness
from benchmarks.plan import Case, Environment, Side
from tests.benchmarks import fakes
from tests.benchmarks.fakes import TARGET, benchmark, prepared, told, two


class Silent:
    """A view that remembers."""

    def __init__(self):
        self.said, self.shares, self.ended = [], [], []

    def say(self, text):
        self.said.append(text)

    def begin(self, benchmark, case):
        self.said.append(f"{benchmark}, {case.name}")

    def progress(self, text, share):
        self.shares.append(share)

    def end(self, case):
        self.ended.append(case["name"])


def measure(*cases, view=None, **options):
    """Returns the cases of a benchmark as JSON."""
    found = []
    harness.Harness(view or Silent(), **options).measure([benchmark(*cases)], found)
    assert [one["name"] for one in found] == ["fake"]
    return found[0]["cases"]


def by_name(case):
    return {side["name"]: side for side in case["sides"]}


@pytest.mark.parametrize("together", [False, True])
def test_sides_are_compared_round_by_round(together):
    view = Silent()
    (case,) = measure(two(together=together), view=view)
    assert case["comparisons"][0]["ratio"] == {"median": 3.0, "low": 2.0, "high": 4.0}
    sides = by_name(case)
    assert [turn["wall"] for turn in sides["ours"]["turns"]] == [1, 1, 2]
    assert sides["ours"]["summary"]["rate"]["median"] == 8.0
    assert sides["peer"]["verdict"] == {"wanted": 2.5, "found": 3.0, "met": True}
    processes = {turn["figures"]["process"] for side in case["sides"] for turn in side["turns"]}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert view.ended == ["a case"]
    assert view.shares == sorted(view.shares)
    assert sides["ours"]["versions"]["python"]
    assert sides["ours"]["making"] > 0
    assert sides["ours"]["turns"][0]["memory"] > 2**20


@pytest.mark.parametrize(
    ("options", "case", "expected"),
    [
        ({}, {}, "ab ab ba ab"),
        ({}, {"warm_up": False}, "ab ba ab"),
        ({"rounds": 2}, {}, "ab ab ba"),
        ({"quick": True}, {}, "ab"),
    ],
)
def test_who_comes_first_alternates(options, case, expected, tmp_path):
    log = str(tmp_path / "log")
    sides = [told(m, 1, [1] * 9, arguments={"log": log, "mark": m}) for m in "ab"]
    (found,) = measure(Case("a case", "images", tuple(sides), rounds=3, **case), **options)
    turns = (tmp_path / "log").read_text().split()
    assert turns == list(expected.replace(" ", ""))
    # The first pair warms up, unless there is no such turn.
    warm = 0 if options.get("quick") or case else 2
    assert sum(len(side["turns"]) for side in found["sides"]) == len(turns) - warm


def test_time_of_a_started_process_counts():
    side = Side("busy", f"{TARGET}Busy", {"seconds": 0.2})
    (case,) = measure(Case("a case", "turns", (side,), rounds=1, warm_up=False))
    (turn,) = case["sides"][0]["turns"]
    assert 0.38 <= turn["cpu"] < 1.0
    assert turn["wall"] >= 0.19


@pytest.mark.parametrize(
    ("side", "patience", "turns", "reason"),
    [
        (Side("x", f"{TARGET}DiesWhenMade"), 60, 0, "exit code 1: .*no such network"),
        (Side("x", f"{TARGET}Missing"), 60, 0, "exit code 1: .*no attribute 'Missing'"),
        (Side("x", "no_such_module:One"), 60, 0, "exit code 1: .*No module named"),
        (Side("x", f"{TARGET}Dies", {"how": "exit", "good": 2}), 60, 2, "exit code 3: .*disk is"),
        (Side("x", f"{TARGET}Dies", {"how": "kill", "good": 1}), 60, 1, "ended by SIGKILL"),
        (Side("x", f"{TARGET}Dies", {"how": "nothing"}), 60, 0, "must do something"),
        (Side("x", f"{TARGET}Dies", {"how": "sleep"}), 2, 0, "no answer within 2 s"),
    ],
)
def test_a_side_that_fails_says_why_and_the_others_go_on(side, patience, turns, reason):
    case = Case("a case", "images", (told("ours", 1, [1] * 4), side), rounds=3, warm_up=False)
    (found,) = measure(dataclasses.replace(case, patience=patience))
    ours, other = found["sides"]
    assert (ours["status"], len(ours["turns"])) == ("measured", 3)
    assert (other["status"], len(other["turns"])) == ("failed", turns)
    assert re.search(reason, other["reason"]), other["reason"]
    assert len(found["comparisons"]) == bool(turns)


def test_a_side_that_cannot_run_here_says_why(tmp_path):
    sides = (
        told("ours", 1, [1]),
        told("on a GPU", 1, [1], gpu=True),
        told("needs much", 1, [1], needs=("json", "no_such_module")),
    )
    (found,) = measure(Case("a case", "images", sides), quick=True, cache=tmp_path)
    ours, gpu, needs = found["sides"]
    assert ours["status"] == "measured"
    assert gpu["status"] == needs["status"] == "unavailable"
    assert "NVIDIA GPU" in gpu["reason"]
    assert needs["reason"] == "needs no_such_module, which cannot be imported"


def test_what_is_importable_needs_no_environment(tmp_path):
    there = told("ours", 1, [1], needs=("json",), environment=Environment("none", ("none",)))
    (found,) = measure(Case("a case", "images", (there,)), quick=True, cache=tmp_path)
    assert found["sides"][0]["status"] == "measured"
    assert not list(tmp_path.iterdir())


def test_a_benchmark_without_any_side_that_runs_is_no_failure():
    (found,) = measure(Case("a case", "images", (told("ours", 1, [1], gpu=True),)))
    assert found["sides"][0]["status"] == "unavailable"
    assert found["comparisons"] == []


def test_cases_prepared_alike_share_their_data(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cases = measure(prepared("one", 5), prepared("same", 5), prepared("other", 6), quick=True)
    assert [case["sides"][0]["turns"][0]["items"] for case in cases] == [5, 5, 6]
    assert (tmp_path / "prepared").read_text().split() == ["once"] * 2
    # The folder goes at the end.
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_data_that_cannot_be_made_fail_the_sides_that_need_them():
    data = fakes.Prepare(f"{TARGET}fill_not")
    bad = Case("bad", "bytes", (Side("reads", f"{TARGET}Reads"),), prepare=data)
    first, second = measure(bad, two(), quick=True)
    (side,) = first["sides"]
    assert side["status"] == "failed"
    assert "no space left" in side["reason"]
    assert by_name(second)["ours"]["status"] == "measured"


@pytest.mark.parametrize("together", [False, True])
def test_what_is_interrupted_is_kept_and_its_processes_end(tmp_path, together):
    """As Ctrl-C does, in the middle of a turn."""

    class Interrupting(Silent):
        def progress(self, text, share):
            if text == "waits":
                raise KeyboardInterrupt

    waits = Side("waits", f"{TARGET}Waits", {"where": str(tmp_path / "process")})
    case = Case("a case", "images", (told("ours", 1, [1] * 4), waits), warm_up=False)
    found = []
    with pytest.raises(KeyboardInterrupt):
        one = dataclasses.replace(case, together=together)
        harness.Harness(Interrupting()).measure([benchmark(one)], found)
    ours, _ = found[0]["cases"][0]["sides"]
    assert len(ours["turns"]) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)
