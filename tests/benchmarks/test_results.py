"""Medians, spreads, ratios and verdicts, by hand."""

import pytest

from benchmarks import results
from benchmarks.plan import Aim, Case, Side
from benchmarks.results import Measured


def turn(items, wall, cpu=1.0, **other):
    return {"items": items, "wall": wall, "cpu": cpu, "memory": 1, "gpu_memory": None} | {
        "figures": {},
        **other,
    }


OURS = Measured("ours", None, turns=[turn(8, 1), turn(8, 1), turn(8, 2)])
PEER = Measured("peer", None, turns=[turn(4, 1, 2), turn(4, 2, 3), turn(4, 3, 4)])


def test_a_ratio_is_that_of_each_round():
    found = results.comparison(OURS, PEER)
    assert found["ratio"] == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert found["cpu_ratio"] == {"median": 6.0, "low": 4.0, "high": 8.0}
    # What a unit takes us more: 1/8 - 1/4, 1/8 - 2/4, 2/8 - 3/4.
    assert found["extra"] == {"median": -0.375, "low": -0.5, "high": -0.125}


def test_the_rounds_that_both_have_are_compared():
    short = Measured("died", None, turns=PEER.turns[:1])
    assert results.comparison(OURS, short)["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert results.comparison(OURS, Measured("died", None)) is None


def test_a_side_is_told_by_medians_and_peaks():
    turns = [
        turn(10, 1, memory=5, gpu_memory=None, figures={"p99 ms": 3}),
        turn(10, 4, memory=7, gpu_memory=11, figures={"p99 ms": 5}),
        turn(10, 2, memory=6, gpu_memory=12),
    ]
    found = results.summary(Measured("one", None, turns=turns))
    assert found["rate"] == {"median": 5.0, "low": 2.5, "high": 10.0}
    assert found["wall"]["median"] == 0.2
    assert (found["memory"], found["gpu_memory"]) == (7, 12)
    assert found["figures"] == {"p99 ms": {"median": 4, "low": 3, "high": 5}}
    assert results.summary(Measured("none", None)) is None


@pytest.mark.parametrize(
    ("aim", "wanted", "found", "met"),
    [
        (Aim(ratio=3.0), 3.0, 3.0, True),
        (Aim(ratio=3.1), 3.1, 3.0, False),
        (Aim(ratio=7.0, by="cpu"), 7.0, 6.0, False),
        (Aim(extra_seconds=-0.2), -0.2, -0.375, True),
        (Aim(extra_seconds=-0.4), -0.4, -0.375, False),
        (Aim(seconds=0.5), 0.5, 0.5, True),
        (Aim(seconds=0.4), 0.4, 0.5, False),
        (Aim(seconds=0.7, by="cpu"), 0.7, 0.75, False),
    ],
)
def test_an_aim_is_met_or_missed(aim, wanted, found, met):
    sides = (Side("ours", "module:Ours"), Side("peer", "module:Peer", aim=aim))
    peer = Measured("peer", results.aim_as_json(aim), turns=PEER.turns)
    case = results.case_as_json(Case("a case", "images", sides), [OURS, peer])
    verdict = case["sides"][1]["verdict"]
    assert verdict == {"wanted": wanted, "found": found, "met": met}
    assert case["sides"][0]["verdict"] is None


def test_there_is_no_verdict_without_figures():
    sides = (Side("ours", "module:Ours"), Side("peer", "module:Peer", aim=Aim(ratio=1)))
    missing = Measured("peer", results.aim_as_json(Aim(ratio=1)), results.UNAVAILABLE, "no GPU")
    case = results.case_as_json(Case("a case", "images", sides), [OURS, missing])
    assert case["sides"][1]["verdict"] is None
    assert case["comparisons"] == []


def test_an_aim_says_one_thing():
    for wrong in ({}, {"ratio": 1.0, "seconds": 1.0}):
        with pytest.raises(ValueError, match="one of `ratio`"):
            Aim(**wrong)


def test_sides_have_names_of_their_own():
    twice = Side("one", "module:One")
    with pytest.raises(ValueError, match="names of their own"):
        Case("a case", "images", (twice, twice))
    with pytest.raises(ValueError, match="names of their own"):
        Case("a case", "images", ())
