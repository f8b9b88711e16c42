"""The benchmarks run, in their quick form."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import table

ROOT = Path(__file__).parents[2]

_OF_ITS_OWN = ("start", "gpu", "flink")
_LONG = [name for name in (*table.NAMES, *table.ON_REQUEST) if name not in _OF_ITS_OWN]


def quick(name, path):
    """Returns the cases of a benchmark in its quick form."""
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(path.read_text())["benchmarks"]
    assert found["name"] == name
    assert found["cases"]
    return found["cases"]


@pytest.mark.parametrize(
    "name",
    [
        "start",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in _LONG),
        pytest.param("flink", marks=[pytest.mark.exhaustive, pytest.mark.flink]),
    ],
)
def test_every_side_of_the_quick_form_is_measured(name, tmp_path):
    for case in quick(name, tmp_path / "found.json"):
        for side in case["sides"]:
            assert side["status"] == "measured", side["reason"]
            assert len(side["turns"]) == 1
            assert side["summary"]["memory"] > 2**20
        assert len(case["comparisons"]) == len(case["sides"]) - 1


@pytest.mark.exhaustive
def test_the_sides_of_the_gpu_run_on_a_cpu(tmp_path):
    """Small, to see that they do; timm's only where it is installed."""
    for case in quick("gpu", tmp_path / "found.json"):
        ours, timm = case["sides"]
        assert ours["status"] == "measured", ours["reason"]
        there = find_spec("torch") and find_spec("timm")
        assert timm["status"] == ("measured" if there else "unavailable")
