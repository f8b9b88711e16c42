"""What an evaluation says of the classes."""

import numpy as np
import pytest

from pipeline.training.reports import Evaluation


def test_classes_count_the_same_however_many_examples_they_have():
    # Recalls 9/10 and 1/2; F1 18/(10 + 10) and 2/(2 + 2); of the third class there is nothing.
    confusion = np.array([[9, 1, 0], [1, 1, 0], [0, 0, 0]])
    found = Evaluation(0.5, 10 / 12, confusion).by_class
    assert found == pytest.approx({"balanced_accuracy": 0.7, "macro_f1": (0.9 + 0.5) / 2})


def test_a_class_that_is_only_ever_said_counts_as_a_wrong_one():
    confusion = np.array([[1, 0, 1], [0, 2, 0], [0, 0, 0]])
    found = Evaluation(0.5, 0.75, confusion).by_class
    assert found == pytest.approx({"balanced_accuracy": 0.75, "macro_f1": (2 / 3 + 1 + 0) / 3})


def test_of_too_many_classes_nothing_is_said():
    assert Evaluation(0.5, 0.75).by_class == {}
