"""The part of a run's page about a search: what is drawn, what it says, and how it looks."""

import dataclasses

import pytest

from pipeline import files
from pipeline.tuning.trial import RECORD, Record
from tests.pipeline.reporting import browser, runs
from tests.pipeline.reporting.test_run_report import HOSTILE, page
from tests.pipeline.tuning import records

_VALUES = records.proposed(1)[0]


def searched(root, record: Record):
    """A run that has searched, and nothing else."""
    made = runs.Recorded(root, graph={"Tuner": ()})

    def write(best_hyperparameters, tuner_results):
        files.write_json(tuner_results / RECORD, dataclasses.asdict(record))

    made.step("Tuner", write, best_hyperparameters={}, tuner_results={})
    made.end()
    return made


def varied() -> Record:
    """A search with everything that can happen in one."""
    values = records.proposed(5, seed=9)
    without = {"score": None, "objective": (), "figures": {}}
    reasons = (
        ("FAILED", "the loss was not finite in steps 3 to 9"),
        ("FAILED", "the loss was not finite in steps 3 to 9"),
        ("REJECTED", f"212,000,000 multiply-accumulate operations {HOSTILE}"),
        ("STOPPED", "the budget of 5 minutes ended first"),
    )
    trials = [
        records.trial(40 + n, values[n], state=state, reason=reason, **without)
        for n, (state, reason) in enumerate(reasons)
    ]
    trials.append(records.trial(45, {**values[4], "momentum": 0.85}))
    return records.searched(30, trials=tuple(trials))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("whole") / "pets", varied())


def test_the_page_tells_what_was_searched_and_what_won(whole):
    shown = page(whole)
    assert shown.open == []
    assert all(link.startswith("#") for link in shown.links)
    assert "script" not in shown.tags
    text = shown.of("search")
    assert "35 of 39 trials have a score, 2 failed, 1 rejected, 1 stopped; 105 epochs in" in text
    assert "by Bayesian optimisation, for the greatest eval accuracy" in text
    assert "Trial 0012 won: 0.90 against 0.75." in text
    assert "learning_rate 0.003 0.103" in text
    assert "model_arguments.depths [1, 1, 1] [2, 2, 2]" in text
    assert "as configured 74.77% 74.77% 74.77% –" in text
    assert "trial 0012 won 91.88% 91.88%, 91.88% 91.88% 0.00%" in text
    assert "failed : the loss was not finite in steps 3 to 9 (trials 0040, 0041)" in text
    assert f"rejected : 212,000,000 multiply-accumulate operations {HOSTILE} (trial 0042)" in text
    assert "With all values right it explains 9" in text
    for part in ("Every trial", "The best so far", "Score against cost", "Importance"):
        assert part in text


def test_a_small_search_tells_what_cannot_be_known_of_it(tmp_path):
    values = records.proposed(1)[0]
    costs = {"macs": 12_239_488, "parameters": 75_770}
    trials = (
        records.trial(0, values, kind="default", **costs),
        records.trial(1, {**values, "learning_rate": 0.1}, **costs),
    )
    record = dataclasses.replace(records.searched(1), trials=trials, best="0001", seconds=20.0)
    text = page(searched(tmp_path, record)).of("search")
    assert "Trial 0001 won" in text
    assert "2 of 2 trials have a score; 6 epochs in 20" in text
    assert "Not there: importance; it takes at least 10 different sets of values" in text
    assert "all have 12.2M multiply-adds per image" in text
    assert "random_shift" in text and "the same" in text
    assert "The best once more" not in text
    assert "Without a score" not in text


def test_of_values_that_explain_nothing_importance_is_only_a_hint(tmp_path):
    scores = [0.5 + 0.001 * (n * 7919 % 13) for n in range(25)]
    trials = tuple(
        records.trial(n, values, score=scores[n])
        for n, values in enumerate(records.proposed(25, seed=3))
    )
    record = dataclasses.replace(records.searched(1), trials=trials, best="0001")
    shown = page(searched(tmp_path, record))
    assert "Only a hint: from 25 sets of values the forest cannot predict" in shown.of("search")
    assert "With all values right" not in shown.of("search")
    assert "weight pale" in shown.html


def test_a_run_without_a_search_has_no_such_part(tmp_path):
    made = runs.pets(tmp_path / "pets", until="ExampleGen")
    made.end()
    assert "search" not in page(made).ids


def test_of_a_search_that_was_stopped_the_page_shows_how_far_it_came(tmp_path):
    """Its state holds the record among what the search itself needs to go on."""
    made = runs.Recorded(tmp_path / "pets", graph={"Tuner": ()})
    made.step("Tuner", error="killed")
    record = records.searched(4, trials=(records.trial(9, _VALUES, state="RUNNING", score=None),))
    state = made.store.state("Tuner", "key of Tuner")
    state.mkdir(parents=True)
    kept = dataclasses.asdict(dataclasses.replace(record, best=None, reason=""))
    files.write_json(state / RECORD, {"format": 1, "record": kept})
    made.end("FAILED")
    text = page(made).of("search")
    assert "8 of 9 trials have a score, 1 under way" in text
    assert "As far as it came before it ended; started again, it goes on." in text
    assert "The best so far" in text


def test_a_damaged_record_is_named_and_the_rest_is_shown(tmp_path):
    made = searched(tmp_path, records.searched(3))
    path = made.made["Tuner"]["tuner_results"].uri / RECORD
    path.write_text(path.read_text()[:500])
    shown = page(made)
    assert "search" not in shown.ids
    assert "The search for hyperparameters cannot be shown" in shown.html
    assert RECORD in shown.html


def test_a_browser_shows_it_without_a_complaint_and_it_can_be_read(whole, chromium, tmp_path):
    path = whole.store.root / "reports" / f"{whole.run}.html"
    page(whole)
    assert browser.console(path, tmp_path) == []
    for dark, widths in ((False, (360, 1280)), (True, (1280,))):
        for found in browser.measure(path, widths, tmp_path, dark):
            assert found["width"] <= found["window"]
            assert found["faint"] == []
            assert found["texts"] > 100
