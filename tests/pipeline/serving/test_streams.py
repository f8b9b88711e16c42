import itertools
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.serving import streams

SIZES = st.lists(st.integers(0, 20), max_size=60)


@given(SIZES, st.integers(1, 8), st.integers(1, 30))
def test_chunks_keep_order_and_both_limits_and_are_as_few_as_they_can(sizes, most, most_bytes):
    items = list(enumerate(sizes))
    found = list(streams.chunks(items, most, most_bytes, lambda item: item[1]))
    assert list(itertools.chain.from_iterable(found)) == items
    for chunk in found:
        total = sum(size for _, size in chunk)
        assert 1 <= len(chunk) <= most
        assert total <= most_bytes or len(chunk) == 1
    # The first of the next one would not have gone into the one before.
    for chunk, after in itertools.pairwise(found):
        total = sum(size for _, size in chunk)
        assert len(chunk) == most or total + after[0][1] > most_bytes


@given(st.integers(0, 40), st.integers(1, 6))
def test_results_come_in_order_and_no_more_is_taken_than_is_under_way(count, in_flight):
    taken = []

    def items():
        for number in range(count):
            taken.append(number)
            yield number

    given_back = 0
    for number, result in enumerate(streams.in_order(lambda x: x * x, items(), in_flight)):
        assert result == number * number
        assert len(taken) - given_back <= in_flight
        given_back += 1
    assert given_back == count


def test_calls_are_under_way_at_once_and_the_slow_ones_keep_their_places():
    started = threading.Barrier(4, timeout=60)

    def slowly(number):
        started.wait()
        time.sleep(0.01 * (4 - number))
        return number

    assert list(streams.in_order(slowly, range(4), 4)) == [0, 1, 2, 3]


def test_an_error_comes_at_its_turn_and_nothing_new_is_begun_after_it():
    begun = []

    def work(number):
        begun.append(number)
        if number == 2:
            raise KeyError(number)
        return number

    found = []
    with pytest.raises(KeyError):
        found.extend(streams.in_order(work, itertools.count(), 2))
    assert found == [0, 1]
    time.sleep(0.05)
    assert max(begun) <= 4


def test_of_an_endless_stream_only_what_is_asked_for_is_read_and_the_threads_end():
    before = set(threading.enumerate())
    found = streams.in_order(str, itertools.count(), 3)
    assert [next(found) for _ in range(5)] == list("01234")
    own = set(threading.enumerate()) - before
    assert len(own) == 3
    found.close()
    for thread in own:
        thread.join(30)
        assert not thread.is_alive()


class Item:
    """Something whose life can be watched."""


def test_what_was_given_out_is_not_held():
    alive = weakref.WeakSet()

    def items():
        for _ in range(200):
            item = Item()
            alive.add(item)
            yield item

    most = 0
    for result in streams.in_order(lambda item: item, items(), 3):
        del result
        most = max(most, len(alive))
    assert most <= 3 + 2  # those under way, the one given out, the one that comes
