"""How figures are written for people, and the page that is committed."""

import copy
import json
from pathlib import Path

import pytest

from benchmarks import drawing, facts, page, results
from benchmarks.plan import Aim, Case, Side
from benchmarks.results import Measured
from tests.benchmarks.test_results import OURS, PEER, turn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {
    "processor": "A Processor",
    "flags": ["avx2", "avx512_bf16"],
    "cores": 2,
    "memory": 24 * 2**30,
    "gpus": [{"name": "A GPU", "mebibytes": 143_360}],
    "system": "Linux",
}


def found(**fields):
    """Returns the JSON of a run with one case."""
    aim = results.aim_as_json(Aim(ratio=3.5))
    sides = [
        copy.deepcopy(OURS),
        Measured("peer", aim, turns=PEER.turns),
        Measured("elsewhere", None, results.UNAVAILABLE, "needs an NVIDIA GPU"),
    ]
    planned = tuple(Side(side.name, "module:One") for side in sides)
    case = results.case_as_json(Case("a case", "images", planned, note="A note."), sides)
    return {
        "schema": results.SCHEMA,
        "created": "2026-01-02T03:04:05+00:00",
        "complete": True,
        "quick": False,
        "seconds": 200.0,
        "machine": MACHINE,
        "versions": {"python": "3.11.4", "keras": "3.15.1"},
        "commit": {"hash": "0123456789abcdef", "changed": False},
        "load": {"begin": [0.1, 0, 0], "end": [2.1, 0, 0]},
        "benchmarks": [{"name": "fake", "question": "Which?", "cases": [case]}],
        **fields,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.34, "12.3 s"),
        (1.0, "1.00 s"),
        (0.0123, "12.3 ms"),
        (4.2e-5, "42.0 µs"),
        (-0.5, "-500 ms"),
    ],
)
def test_short_times_have_three_figures(value, text):
    assert page.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3540, "59 min"), (7500, "2 h 5 min")],
)
def test_long_times_are_rounded(value, text):
    assert page.duration(value) == text


def test_the_page_says_what_was_measured_where():
    text = page.markdown(found())
    assert text == (
        """# Measured

On A Processor (avx2, avx512_bf16), 2 cores, 24 GiB, A GPU with 140 GiB; Linux.
python 3.11.4, keras 3.15.1. Commit 0123456789ab.
2026-01-02T03:04:05+00:00, 3 min; load 0.1 at first, 2.1 at last.

## Aims

| where | aim |
| --- | --- |
| fake, a case | aim missed: 3.00 times peer, wanted at least 3.50 |

## fake

Which?

### a case

| side | images/s | spread | CPU | memory | ours, times as fast | by CPU time |
| --- | --- | --- | --- | --- | --- | --- |
| ours | 8.00 | 4.00 to 8.00 | 125 ms | 0 MiB |  |  |
| peer | 2.00 | 1.33 to 4.00 | 750 ms | 0 MiB | 3.00 (2.00 to 4.00) | 6.00 (4.00 to 8.00) |

- aim missed: 3.00 times peer, wanted at least 3.50
- elsewhere: unavailable: needs an NVIDIA GPU
- A note.
"""
    )


def test_what_makes_figures_doubtful_is_said():
    commit = {"hash": "0123456789abcdef", "changed": True}
    text = page.markdown(found(quick=True, complete=False, commit=commit))
    assert "with uncommitted changes" in text
    assert "the figures say little" in text
    assert "Interrupted" in text
    assert "Commit" not in page.markdown(found(commit=None))


def test_gpu_memory_has_a_column_where_there_is_a_gpu():
    side = Measured("ours", None, turns=[turn(8, 1, gpu_memory=3 * 2**30)])
    case = Case("a case", "images", (Side("ours", "module:Ours"),))
    header, row = page.case_lines(results.case_as_json(case, [side]))
    assert header.split("  ")[-1] == "GPU memory"
    assert row.endswith("3.00 GiB")


def test_the_chart_names_what_is_compared():
    drawn = drawing.ratios(found(), "svg").decode()
    for text in ("a case  /  peer", "3.00", "A Processor", "2026-01-02"):
        assert text in drawn
    assert "elsewhere" not in drawn


def test_this_machine_is_described():
    machine = facts.of_machine([])
    assert machine["cores"] >= 1
    assert facts.words(machine).endswith("GiB") or machine["memory"] is None


@pytest.mark.skipif(
    not (BENCHMARKS / "results.json").exists(), reason="no figures are committed yet"
)
def test_the_committed_page_is_that_of_the_committed_figures():
    committed = json.loads((BENCHMARKS / "results.json").read_text())
    assert committed["schema"] == results.SCHEMA
    assert committed["complete"]
    assert not committed["quick"]
    assert not results.failures(committed)
    assert (BENCHMARKS / "RESULTS.md").read_text() == page.markdown(committed)
