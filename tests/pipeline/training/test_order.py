import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training import crops
from pipeline.training.order import Balanced, Repeated, Shuffled, generator

_LABELS = np.array([0] * 17 + [1] * 3 + [2] * 5)


@given(examples=st.integers(1, 30), seed=st.integers(0, 2**40), number=st.integers(0, 5))
def test_each_pass_has_every_example_once(examples, seed, number):
    rows = Shuffled(examples, seed).rows(number * examples, examples)
    assert sorted(rows) == list(range(examples))


@pytest.mark.parametrize("order", [Shuffled(25, 3), Balanced(_LABELS, 3)])
@given(first=st.integers(0, 200), count=st.integers(0, 60))
def test_any_piece_is_cut_from_the_same_stream(order, first, count):
    whole = np.concatenate([order.rows(place, 1) for place in range(first, first + count + 1)])
    np.testing.assert_array_equal(order.rows(first, count), whole[:count])


def test_passes_and_seeds_differ_and_the_stream_is_repeatable():
    first, second = (Shuffled(50, 1).rows(place, 50).tolist() for place in (0, 50))
    assert first != second
    assert first != Shuffled(50, 2).rows(0, 50).tolist()
    assert first == Shuffled(50, 1).rows(0, 50).tolist()


def test_balanced_sampling_gives_each_class_its_share_and_each_example_its_turn():
    order = Balanced(_LABELS, 0)
    length = 27  # of a pass: 25, rounded up to a multiple of three
    for number in range(4):
        rows = order.rows(number * length, length)
        np.testing.assert_array_equal(np.bincount(_LABELS[rows]), [9, 9, 9])
    stream = order.rows(0, 17 * length)
    for label, members in enumerate((17, 3, 5)):
        drawn = stream[_LABELS[stream] == label]
        for begin in range(0, len(drawn) - members + 1, members):
            assert len(set(drawn[begin : begin + members])) == members


def test_generators_of_other_keys_are_independent():
    keys = [(1, 2), (2, 1), (1, 2, 0), (12,), (1, 20)]
    numbers = {generator(*key).integers(0, 2**62) for key in keys}
    assert len(numbers) == len(keys)


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    low=st.floats(0.01, 1),
    step=st.integers(0, 1000),
)
def test_random_parts_lie_within_the_picture_and_have_the_wanted_area(height, width, low, step):
    sizes = np.full((8, 2), (height, width), np.int32)
    boxes = crops.boxes(sizes, np.arange(8), 0, step, 8, (low, 1.0), (3 / 4, 4 / 3))
    top, left, tall, wide = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (tall >= 1).all() and (wide >= 1).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()
    if min(height, width) >= 50 and max(height, width) <= 1.3 * min(height, width):
        area = tall * wide / (height * width)
        assert (area >= low - 0.05).all()
        assert ((wide / tall >= 0.7) & (wide / tall <= 1.4)).all()


def test_a_random_part_depends_on_place_and_step_alone():
    sizes = np.full((8, 2), (50, 60), np.int32)
    arguments = (0, 3, 8, (0.1, 1.0), (3 / 4, 4 / 3))
    whole = crops.boxes(sizes, np.arange(8), *arguments)
    np.testing.assert_array_equal(crops.boxes(sizes[:3], np.arange(5, 8), *arguments), whole[5:])
    assert len(np.unique(whole, axis=0)) == 8
    assert (crops.boxes(sizes, np.arange(8), 0, 4, *arguments[2:]) != whole).any()


def test_of_a_picture_of_an_extreme_shape_the_middle_is_taken():
    sizes = np.array([(10, 1000)], np.int32)
    (box,) = crops.boxes(sizes, np.arange(1), 0, 0, 1, (0.9, 1.0), (3 / 4, 4 / 3))
    np.testing.assert_array_equal(box, [0, 494, 10, 13])


def test_repeated_examples_are_in_one_batch_and_never_neighbours():
    order = Repeated(Shuffled(30, 7), 3, 12)
    seen = []
    for batch in range(15):
        rows = order.rows(12 * batch, 12)
        assert all(np.bincount(rows, minlength=30)[np.unique(rows)] == 3)
        assert (rows[::2] != rows[1::2]).all()
        np.testing.assert_array_equal(order.rows(12 * batch + 5, 4), rows[5:9])
        seen += sorted(set(rows.tolist()))
    assert sorted(seen) == sorted([*range(30)] * 2)


def test_batches_that_are_no_multiple_repeat_the_last_examples_less_often():
    rows = Repeated(Shuffled(30, 7), 3, 8).rows(8, 8)
    assert sorted(np.bincount(rows)[np.unique(rows)]) == [2, 3, 3]
