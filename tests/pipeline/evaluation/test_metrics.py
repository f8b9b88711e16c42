import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline.evaluation import calibration, metrics
from tests.pipeline.evaluation import fakes

SLOWLY = settings(deadline=None, max_examples=50)
sizes = st.tuples(st.integers(2, 9), st.integers(1, 40), st.integers(0, 10**6))


@SLOWLY
@given(sizes)
def test_metrics_agree_with_scikit_learn(size):
    classes, examples, seed = size
    probabilities, labels = fakes.drawn(classes, examples, seed)
    answers, every = fakes.answers(probabilities, labels), range(classes)
    measure = metrics.Measure(answers, labels, classes)
    found = dict(zip(measure.names, measure(), strict=True))

    predicted = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=every), rel=1e-5
    )
    hits = [label in np.argsort(-p)[:5] for p, label in zip(probabilities, labels, strict=True)]
    assert found["top_5_accuracy"] == pytest.approx(np.mean(hits))
    recalls = reference.recall_score(
        labels, predicted, labels=every, average=None, zero_division=np.nan
    )
    assert found["balanced_accuracy"] == pytest.approx(np.nanmean(recalls))
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )

    names = [str(label) for label in every]
    measured = metrics.per_class(answers, labels, names)
    for score, key in (
        (reference.recall_score, "recall"),
        (reference.precision_score, "precision"),
        (reference.f1_score, "f1"),
    ):
        expected = score(labels, predicted, labels=every, average=None, zero_division=np.nan)
        for name, value in zip(names, expected, strict=True):
            assert measured[name][key] == (None if np.isnan(value) else pytest.approx(value))
    matrix = np.zeros((classes, classes), int)
    for true, said, count in metrics.confusion(answers, labels):
        matrix[true, said] = count
    assert matrix.tolist() == reference.confusion_matrix(labels, predicted, labels=every).tolist()


@SLOWLY
@given(sizes, st.integers(0, 10**6))
def test_a_weight_of_two_is_an_example_that_is_there_twice(size, seed):
    probabilities, labels = fakes.drawn(*size)
    weights = np.random.default_rng(seed).integers(0, 3, len(labels))
    if not weights.any():
        return
    often = np.repeat(np.arange(len(labels)), weights)
    answers = fakes.answers(probabilities, labels)
    weighted = metrics.Measure(answers, labels, size[0])
    repeated = metrics.Measure(answers.take(often), labels[often], size[0])
    equal_mass = weighted.names.index(metrics.EQUAL_MASS)  # its bins are those of all examples
    both = (weighted(weights.astype(float)), repeated())
    np.testing.assert_allclose(*(np.delete(found, equal_mass) for found in both), rtol=1e-9)


@SLOWLY
@given(sizes, st.integers(0, 10**6))
def test_no_metric_depends_on_the_order_of_the_examples(size, seed):
    probabilities, labels = fakes.drawn(*size)
    order = np.random.default_rng(seed).permutation(len(labels))
    answers = fakes.answers(probabilities, labels)
    found = [
        metrics.Measure(one, own, size[0])()
        for one, own in ((answers, labels), (answers.take(order), labels[order]))
    ]
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_the_calibration_error_is_that_of_a_hand_calculation():
    # 0.62 and 0.64 share a bin of a fifteenth, 0.9 has its own: (|0.63 - 0.5| * 2 + 0.1) / 3.
    scores, right = np.array([0.62, 0.64, 0.9]), np.array([1.0, 0.0, 1.0])
    members, _ = calibration.equal_width(scores)
    assert calibration.error(scores - right, members) == pytest.approx(0.36 / 3)


def test_an_answer_on_an_edge_belongs_to_the_bin_below_and_zero_to_the_first():
    members, _ = calibration.equal_width(np.array([0.0, 0.2, 0.2000001, 1.0]), bins=5)
    assert members.tolist() == [0, 0, 1, 4]


@SLOWLY
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_bins_of_equal_mass_hold_every_answer_and_never_part_equal_ones(tenths):
    scores = np.array(tenths) / 20
    members, edges = calibration.equal_mass(scores)
    assert (scores >= edges[members]).all() and (scores <= edges[members + 1]).all()
    assert all(len(set(members[scores == score])) == 1 for score in scores)
    if len(set(tenths)) == len(tenths) >= calibration.BINS:
        counts = np.bincount(members)
        assert counts.max() - counts.min() <= 1


def test_a_model_that_is_as_sure_as_it_is_right_has_hardly_any_calibration_error():
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.5, 1, 200_000)
    right = generator.random(200_000) < scores
    for divide in (calibration.equal_width, calibration.equal_mass):
        members, _ = divide(scores)
        assert calibration.error(scores - right, members) < 0.005
        over = calibration.error(scores - (generator.random(200_000) < 0.5), members)
        assert over == pytest.approx(0.25, abs=0.005)


def test_the_worst_mistake_comes_first_and_equal_ones_in_the_order_of_their_keys():
    probabilities = [[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]]
    found = fakes.table(probabilities, [1, 1, 1, 1])
    assert metrics.worst(found.candidate, found.labels, ["b", "-", "-", "a"]) == [2, 3, 0]
