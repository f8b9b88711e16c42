import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline.records.examples import ImageExample
from pipeline.serving import metrics


@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 10**6))
def test_metrics_agree_with_scikit_learn(classes, examples, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), examples)
    labels = generator.integers(0, classes, examples)
    names = [str(n) for n in range(classes)]
    found = metrics.measure(list(probabilities), labels, names)

    predicted = probabilities.argmax(axis=1)
    every = range(classes)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=every), rel=1e-5
    )
    assert (
        found["confusion"] == reference.confusion_matrix(labels, predicted, labels=every).tolist()
    )
    hits = [label in np.argsort(-p)[:5] for p, label in zip(probabilities, labels, strict=True)]
    assert found["top_5_accuracy"] == pytest.approx(np.mean(hits))
    recalls = reference.recall_score(
        labels, predicted, labels=every, average=None, zero_division=np.nan
    )
    for name, recall in zip(names, recalls, strict=True):
        assert found["per_class"][name]["recall"] == (
            None if np.isnan(recall) else pytest.approx(recall)
        )


def test_the_worst_mistake_comes_first():
    def example(label, name):
        return ImageExample(name.encode(), "png", 1, 1, label, "ab"[label], name)

    found = metrics.worst(
        [np.array(p) for p in ([0.6, 0.4], [0.1, 0.9], [0.9, 0.1])],
        [example(1, "unsure"), example(1, "right"), example(1, "sure")],
        ["a", "b"],
    )
    assert [(row["predicted"], example.filename) for row, example in found] == [
        ("a", "sure"),
        ("a", "unsure"),
    ]
