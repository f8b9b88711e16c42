"""The command line: what it prints and writes, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import cli, page, results, table
from tests.benchmarks import fakes
from tests.benchmarks.fakes import TARGET, benchmark, told, two

ROOT = Path(__file__).parents[2]
TWO = (two(),)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line with fake benchmarks; returns exit code, output and error."""

    def runs(*arguments, cases=TWO):
        monkeypatch.setattr(table, "NAMES", ("fake",))
        monkeypatch.setattr(table, "load", lambda name: benchmark(*cases, name=name))
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code, *capsys.readouterr())

    return runs


def test_a_run_is_printed_and_written(run, tmp_path):
    paths = {kind: tmp_path / f"found.{kind}" for kind in ("json", "svg", "md")}
    options = ["--json", paths["json"], "--chart", paths["svg"], "--report", paths["md"]]
    code, printed, _ = run("fake", *options)
    assert code == 0
    assert "aim met: 3.00 times peer, wanted at least 2.50" in printed
    assert "3.00 (2.00 to 4.00)" in printed
    assert "1 of 1 aims met" in printed

    found = json.loads(paths["json"].read_text())
    assert found["schema"] == results.SCHEMA
    assert found["complete"]
    assert not found["quick"]
    assert found["machine"]["processor"]
    assert found["machine"]["cores"] >= 1
    assert {"python", "keras", "tensorflow", "numpy"} <= set(found["versions"])
    assert set(found["load"]) == {"begin", "end"}
    assert paths["md"].read_text() == page.markdown(found)
    assert "| peer | 2.00 |" in paths["md"].read_text()
    assert found["machine"]["processor"] in paths["md"].read_text()
    assert "<svg" in paths["svg"].read_text()

    again = tmp_path / "again"
    code, printed, _ = run("--from", paths["json"], "--report", again)
    assert code == 0
    assert "aim met" in printed
    assert again.read_text() == paths["md"].read_text()


def test_the_chart_is_the_same_for_the_same_figures(run, tmp_path):
    run("--quick", "--json", tmp_path / "found")
    for name in ("one.svg", "two.svg", "one.png"):
        assert run("--from", tmp_path / "found", "--chart", tmp_path / name)[0] == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_side_is_named_and_makes_the_exit_code(run, tmp_path):
    dies = fakes.Side("peer", f"{TARGET}Dies", {"how": "exit"})
    case = fakes.Case("a case", "images", (told("ours", 1, [1] * 9), dies))
    path = tmp_path / "found.json"
    code, printed, error = run("--json", path, cases=(case, two()))
    assert code == 1
    assert "fake, a case, peer: ended with exit code 3" in error
    assert "the disk is full" in error
    assert "peer: failed: " in printed
    assert "aim met" in printed
    assert json.loads(path.read_text())["complete"]


def test_a_side_that_cannot_run_here_is_named_and_no_failure(run):
    case = fakes.Case("a case", "images", (told("ours", 1, [1] * 9), told("peer", 1, [], gpu=True)))
    code, printed, _ = run(cases=(case,))
    assert code == 0
    assert "peer: unavailable: needs an NVIDIA GPU" in printed


def test_a_missed_aim_is_told_and_no_failure(run):
    sides = (told("ours", 1, [1] * 9), told("peer", 1, [1] * 9, aim=fakes.Aim(ratio=2)))
    code, printed, _ = run(cases=(fakes.Case("a case", "images", sides),))
    assert code == 0
    missed = "aim missed: 1.00 times peer, wanted at least 2.00"
    assert f"0 of 1 aims met\n  fake, a case: {missed}\n" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--chart", "chart.jpg"], "--chart must end in .svg or .png"),
        (["--json", "no/such/folder.json"], "there is no folder no/such"),
        (["--rounds", "0"], "--rounds"),
        (["--from", "missing.json"], "cannot be read"),
        (["fake", "--from", "missing.json"], "--from measures nothing"),
        (["--fast"], "--fast"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_measured(run, arguments, said):
    code, printed, error = run(*arguments)
    assert code == 2
    assert said in error
    assert not printed


def test_the_json_of_another_schema_is_refused(run, tmp_path):
    (tmp_path / "old.json").write_text('{"schema": 0}')
    code, _, error = run("--from", tmp_path / "old.json")
    assert code == 2
    assert f"must have the schema {results.SCHEMA}, but has 0" in error


def test_a_name_is_checked_and_a_close_one_proposed():
    done = outside("-m", "benchmarks", "trainingstep")
    assert done.returncode == 2
    assert "there is no benchmark 'trainingstep', perhaps 'training_step'" in done.stderr


def test_every_benchmark_is_listed_without_what_is_heavy():
    code = "import sys; sys.argv = ['', '--list']; from benchmarks import cli\ntry: cli.main()\n"
    heavy = "('keras', 'tensorflow', 'jax', 'torch', 'apache_beam', 'matplotlib', 'numpy')"
    done = outside("-c", f"{code}finally: print([n for n in {heavy} if n in sys.modules])")
    assert done.returncode == 0
    *lines, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert [line.split()[0] for line in lines] == [*table.NAMES, *table.ON_REQUEST]
    assert all(line.endswith("?") for line in lines)


@pytest.mark.parametrize("name", [*table.NAMES, *table.ON_REQUEST])
@pytest.mark.parametrize("quick", [True, False])
def test_the_cases_of_each_benchmark_are_well_made(name, quick):
    found = table.load(name)
    assert found.name == name
    cases = list(found.cases(quick))
    assert len({case.name for case in cases}) == len(cases) > 0
    for case in cases:
        for side in case.sides:
            module, _, target = side.target.partition(":")
            assert f"class {target}" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
            assert json.loads(json.dumps(dict(side.arguments))) == dict(side.arguments)
        ours = case.sides[0].aim
        assert ours is None or ours.seconds is not None, "ours has nobody to be compared with"


def test_a_whole_run_is_short_enough_to_be_run():
    """By what the cases say; a GPU's are left out."""
    cases = [case for name in table.NAMES for case in table.load(name).cases(False)]
    on_cpu = [case for case in cases if not any(side.gpu for side in case.sides)]
    assert sum(case.seconds for case in on_cpu) <= 24 * 60


INTERRUPTED = """
import sys
from benchmarks import cli, table
from tests.benchmarks.fakes import TARGET, Case, Side, benchmark, told, two
waits = Side("waits", TARGET + "Waits", {"where": sys.argv.pop()})
slow = Case("slow", "images", (told("ours", 1, [1] * 9), waits), warm_up=False)
table.NAMES, table.load = ("fake",), lambda name: benchmark(two(), slow)
cli.main()
"""


def test_ctrl_c_prints_and_writes_what_there_is(tmp_path):
    where, path = tmp_path / "process", tmp_path / "found.json"
    command = [sys.executable, "-c", INTERRUPTED, "--json", str(path), str(where)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not where.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)  # until the turn of the slow one
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "aim met: 3.00 times peer" in printed
    assert "fake, slow" in printed
    assert "interrupted; above is what was measured" in error
    assert "Traceback" not in error
    found = json.loads(path.read_text())
    assert not found["complete"]
    first, second = found["benchmarks"][0]["cases"]
    assert len(first["sides"][0]["turns"]) == 3
    assert len(second["sides"][1]["turns"]) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(where.read_text()), 0)


def outside(*arguments):
    """Runs Python in the root of the repository."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
