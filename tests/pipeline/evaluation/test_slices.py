import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.evaluation import slices


def names(values, bins):
    parts, without = slices.divide({"x": values}, {"x": bins}, ("x",))
    return {part.name: part.members.tolist() for part in parts}, without


def test_numbers_lie_between_edges_the_lower_one_included():
    assert names([1.0, 2.0, 3.5, 4.0, None], (2, 4)) == (
        {"below 2": [0], "2 to 4": [1, 2], "from 4": [3]},
        [],
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 6))
def test_every_example_is_in_exactly_one_part_whatever_the_numbers(values, bins):
    found, without = names(values, bins)
    if without:
        assert found == {}
        return
    members = [index for part in found.values() for index in part]
    assert sorted(members) == list(range(len(values)))
    assert all(found.values()) and 2 <= len(found) <= bins
    if len(set(values)) == len(values) and len(values) >= bins:
        sizes = [len(part) for part in found.values()]
        assert max(sizes) - min(sizes) <= 2


def test_other_values_are_slices_the_commonest_first_and_the_rest_together():
    found, _ = names(list("abacbade"), 2)
    assert list(found) == ["a", "b", "all others"]
    assert found["all others"] == [3, 6, 7]


def test_what_all_share_and_what_nobody_has_gives_no_slices():
    assert names([8, 8, 8], 4) == ({}, ["x"])
    parts, without = slices.divide({}, {"image/group": 3, "image/brightness": 4}, ())
    assert (parts, without) == ([], ["image/group", "image/brightness"])


def test_a_feature_that_does_not_exist_and_edges_of_names_are_errors():
    with pytest.raises(DataError, match=r"no record has the feature 'y'; there are .*x"):
        slices.divide({"x": [1]}, {"y": 3}, ("x",))
    with pytest.raises(DataError, match="'x' is not a number, 'a' for one"):
        names(["a", "b"], (1.0, 2.0))


def test_edges_that_read_the_same_are_written_out():
    found, _ = names([1.00001, 1.00002, 1.00003], (1.00002, 1.00003))
    assert len(found) == 3


def test_members_ascend():
    parts, _ = slices.divide({"x": [3, 1, 2, 3, 1]}, {"x": 2}, ())
    assert all((np.diff(part.members) > 0).all() for part in parts)


def test_what_is_not_a_number_lies_in_no_slice():
    values = [float("nan"), None, *map(float, range(8))]
    parts, without = slices.divide({"weight": values}, {"weight": 2}, ())
    assert [(part.name, part.members.tolist()) for part in parts] == [
        ("below 4", [2, 3, 4, 5]),
        ("from 4", [6, 7, 8, 9]),
    ]
    assert without == []
