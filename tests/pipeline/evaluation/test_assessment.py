"""Intervals cover what they should, groups count once, and thresholds are held against figures."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation import assessment, intervals, thresholds, verdict
from pipeline.evaluation.assessment import Sampling
from pipeline.evaluation.comparison import Rule
from pipeline.evaluation.thresholds import Thresholds
from tests.pipeline.evaluation import fakes

QUICK = Sampling(resamples=300)


def assess(found, by=None, rule=None, sampling=QUICK):
    return assessment.assess(found, by or {}, rule, sampling)


def test_the_interval_of_a_share_is_that_of_the_binomial():
    probabilities, labels = fakes.drawn(3, 400, 0)
    figure = assess(fakes.table(probabilities, labels), sampling=Sampling(4000)).figures["accuracy"]
    expected = stats.binom.ppf([0.025, 0.975], 400, figure.value) / 400
    np.testing.assert_allclose(figure.interval, expected, atol=0.006)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Of log loss and calibration, whose truth is found on very many examples."""
    probabilities, labels = fakes.drawn(4, 60_000, 1)
    whole = assess(fakes.table(probabilities, labels), sampling=Sampling(0)).figures
    covered = dict.fromkeys(("accuracy", "log_loss", "balanced_accuracy", "calibration_error"), 0)
    for trial in range(100):
        part = slice(300 * trial, 300 * (trial + 1))
        found = assess(fakes.table(probabilities[part], labels[part])).figures
        for metric in covered:
            low, high = found[metric].interval
            covered[metric] += low <= whole[metric].value <= high
    assert min(covered.values()) >= 83  # of 100 at 95 %; percentiles of the last cover 1


def test_equal_seeds_give_equal_results_and_no_result_depends_on_blocks(monkeypatch):
    found = fakes.table(*fakes.drawn(3, 50, 2), x=list(np.arange(50) % 4))
    first = assess(found, {"x": 4})
    monkeypatch.setattr(intervals, "_BLOCK", 700)
    second = assess(found, {"x": 4})
    assert first.figures == second.figures and first.slices == second.slices
    other = assess(found, {"x": 4}, sampling=dataclasses.replace(QUICK, seed=1))
    assert other.figures["log_loss"].interval != first.figures["log_loss"].interval


def test_a_slice_more_changes_no_other_figure():
    found = fakes.table(*fakes.drawn(3, 60, 3), x=[1, 2] * 30, y=["a", "b", "c"] * 20)
    one, two = assess(found, {"x": 2}), assess(found, {"y": 3, "x": 2})
    assert one.figures == two.figures
    assert [part for part in two.slices if part.feature == "x"] == one.slices


def test_groups_make_intervals_as_wide_as_their_number_says():
    probabilities, labels = fakes.drawn(3, 50, 4)
    often = np.repeat(np.arange(50), 9)
    alone = fakes.table(probabilities[often], labels[often])
    groups = [f"patient {index}" for index in often]
    together = fakes.table(probabilities[often], labels[often], **{"image/group": groups})

    def width(found):
        low, high = assess(found, sampling=Sampling(2000)).figures["log_loss"].interval
        return high - low

    assert width(together) == pytest.approx(3 * width(alone), rel=0.15)
    assert assess(together).units == 50


def test_images_without_a_group_are_units_of_their_own():
    assert intervals.units(["a", None, "a", None], 4).tolist() == [0, 1, 0, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 80), st.integers(1, 80), st.floats(0.5, 0.99))
def test_the_score_interval_is_that_of_scipy(successes, more, confidence):
    number = successes + more
    found = stats.binomtest(successes, number).proportion_ci(confidence, "wilson")
    assert intervals.wilson(successes, number, confidence) == pytest.approx(list(found), abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all_has_the_exact_interval(share):
    found = stats.binomtest(int(30 * share), 30).proportion_ci(0.95, "exact")
    assert intervals.extreme(share, 30, 0.95) == pytest.approx(list(found))


def test_one_example_one_class_and_classes_without_examples_are_no_trouble():
    found = assess(fakes.table([[0.2, 0.5, 0.3]], [2]))
    assert found.figures["accuracy"].value == 0
    assert found.per_class["0"]["recall"] is None and found.per_class["0"]["precision"] is None
    assert found.per_class["1"]["precision"] == 0
    only = assess(fakes.table([[1.0], [1.0]], [0, 0]))
    assert only.figures["accuracy"].value == only.figures["macro_f1"].value == 1


def test_thousands_of_classes_are_no_trouble():
    classes = 1500
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 300)
    probabilities = generator.dirichlet(np.full(classes, 0.01), 300)
    found = assess(fakes.table(probabilities, labels), sampling=Sampling(50))
    assert len(found.per_class) == classes
    assert sum(count for _, _, count in found.confusion) == 300


def decide(found, asked, rule=None, against=""):
    return verdict.decide(found, Thresholds(**asked), rule, against)


def test_a_value_on_its_bound_keeps_to_it():
    found = assess(fakes.table([[0.9, 0.1], [0.9, 0.1]], [0, 1]))
    assert decide(found, {"accuracy": 0.5, "top_5_accuracy": 1.0}).blessed
    (reason,) = decide(found, {"accuracy": 0.50001}).reasons
    assert reason == "accuracy is 0.5000, expected at least 0.50001"


def test_few_examples_decide_nothing_unless_they_are_named():
    found = assess(fakes.table([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]], [0, 1, 1]))
    asked = {"classes": {"*": {"recall": 0.5}}, "least_examples": 2}
    assert decide(found, asked).blessed
    asked["classes"]["0"] = {"recall": 0.5}
    assert decide(found, asked).reasons == ("recall of class '0' is 0.0000, expected at least 0.5",)


def test_what_nothing_is_there_to_measure_for_is_a_reason():
    found = assess(fakes.table([[0.1, 0.9, 0.0]], [1]))
    (reason,) = decide(found, {"classes": {"2": {"recall": 0.5}}}).reasons
    assert "recall of class '2' cannot be told, there are no images for it" in reason
    (reason,) = decide(found, {"slices": {"image/size": {"accuracy": 0.5}}}).reasons
    assert "accuracy of image/size cannot be told" in reason


@pytest.mark.parametrize("metric", ["accuracy", "top_5_accuracy", "log_loss"])
def test_a_better_and_a_worse_model_are_told_apart_by_every_metric(metric):
    better, labels = fakes.drawn(12, 1500, 5, sharpness=8)
    worse, _ = fakes.drawn(12, 1500, 5, sharpness=2)
    rule = Rule(rule="better", metric=metric)
    up = assess(fakes.table(better, labels, worse), rule=rule, sampling=Sampling(0)).compared
    down = assess(fakes.table(worse, labels, better), rule=rule, sampling=Sampling(0)).compared
    assert up.passed and not down.passed
    assert up.gain == pytest.approx(-down.gain) and up.gain > 0
    assert down.interval[1] < 0 < up.interval[0]
    sign = -1 if metric == "log_loss" else 1
    assert up.gain == pytest.approx(sign * (up.candidate - up.baseline))


def test_the_same_model_twice_is_never_better_and_not_worse_on_enough_images():
    same, labels = fakes.drawn(3, 400, 6)
    found = fakes.table(same, labels, same)
    assert not assess(found, rule=Rule(rule="better")).compared.passed
    assert assess(found, rule=Rule(margin=0.02)).compared.passed
    assert not assess(found, rule=Rule(margin=0.005)).compared.passed


def test_a_single_group_shows_nothing_and_what_is_written_is_json():
    same, labels = fakes.drawn(3, 400, 6)
    found = fakes.table(same, labels, same, **{"image/group": ["patient"] * 400})
    rule = Rule(margin=0.3)
    decided = decide(assess(found, rule=rule), {"accuracy": 0.01}, rule, "another")
    assert not decided.blessed
    result = verdict.comparison_as_json(decided)["result"]
    assert result["interval"] == [None, None]
    json.dumps(result, allow_nan=False)


def test_a_bound_is_written_as_in_the_configuration():
    asked = Thresholds(accuracy=0.9, classes={"a": {"recall": 0.5}})
    assert thresholds.as_json(asked) == {"accuracy": 0.9, "classes": {"a": {"recall": 0.5}}}
    assert thresholds.are_set(asked) and not thresholds.are_set(Thresholds(classes={"a": {}}))
