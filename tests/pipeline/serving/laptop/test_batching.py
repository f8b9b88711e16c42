"""Requests that wait together are one batch, and each has its own answer."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.serving.laptop.batching import Batcher, Queue
from pipeline.serving.laptop.codec import Request, Signature, Tensor
from pipeline.serving.laptop.limits import Limits, RefusedError

_ANY = Tensor(np.dtype(np.float32), (None, None))
_SIGNATURE = Signature("double", {"x": _ANY}, {"y": _ANY})
_PATIENCE = 60.0


class Doubler:
    """Doubles its input once `go` is set, and notes the shapes of what it was given."""

    def __init__(self):
        self.go = threading.Event()
        self.given = []
        self.failing = None
        self._lock = threading.Lock()

    def __call__(self, signature, inputs):
        assert signature == "double"
        with self._lock:
            self.given.append(inputs["x"].shape)
        assert self.go.wait(_PATIENCE)
        if self.failing is not None and (inputs["x"] == self.failing).any():
            raise ValueError("spoiled")
        return {"y": inputs["x"] * 2}


def _request(*values, width=1, rows=None):
    array = np.repeat(np.array(values, np.float32)[:, None], width, axis=1)
    return Request(_SIGNATURE, {"x": array}, len(values) if rows is None else rows, False)


def _run(scenario, **limits):
    """Runs a scenario on a batcher, a queue and what computes."""

    async def main():
        batcher, compute = Batcher(Limits(**limits)), Doubler()
        try:
            return await scenario(batcher, Queue(compute), compute)
        finally:
            compute.go.set()
            batcher.close()

    return asyncio.run(main())


async def _busy(batcher, queue, compute):
    """Occupies both threads, so that what comes now waits."""
    tasks = [asyncio.create_task(batcher.run(queue, _request(0), [0])) for _ in range(2)]
    while len(compute.given) < 2:
        await asyncio.sleep(0.001)
    return tasks


async def _all(batcher, queue, compute, requests, costs=None):
    """Sends requests that come while others are computed, and returns their answers."""
    first = await _busy(batcher, queue, compute)
    tasks = [
        asyncio.create_task(
            batcher.run(queue, request, [0] * request.rows if costs is None else costs[place])
        )
        for place, request in enumerate(requests)
    ]
    await asyncio.sleep(0.01)
    compute.go.set()
    await asyncio.gather(*first)
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_requests_that_wait_together_are_one_batch():
    async def scenario(batcher, queue, compute):
        found = await _all(batcher, queue, compute, [_request(n, n + 0.5) for n in range(5)])
        assert [part["y"][:, 0].tolist() for part in found] == [
            [2 * n, 2 * n + 1] for n in range(5)
        ]
        assert compute.given[2:] == [(10, 1)]

    _run(scenario)


def test_nobody_waits_while_a_thread_is_free():
    async def scenario(batcher, queue, compute):
        compute.go.set()
        for value in range(3):
            found = await batcher.run(queue, _request(value), [0])
            assert found["y"].tolist() == [[2 * value]]
        assert compute.given == [(1, 1)] * 3

    _run(scenario)


def test_rows_of_other_shapes_are_other_batches():
    async def scenario(batcher, queue, compute):
        requests = [_request(n, width=1 + n % 2) for n in range(6)]
        found = await _all(batcher, queue, compute, requests)
        assert [part["y"].shape for part in found] == [(1, 1 + n % 2) for n in range(6)]
        assert sorted(compute.given[2:]) == [(3, 1), (3, 2)]

    _run(scenario)


def test_a_large_request_is_computed_in_parts_and_small_ones_fill_the_last():
    async def scenario(batcher, queue, compute):
        found = await _all(batcher, queue, compute, [_request(*range(10)), _request(100)])
        assert found[0]["y"][:, 0].tolist() == [2 * n for n in range(10)]
        assert found[1]["y"].tolist() == [[200]]
        assert sorted(compute.given[2:]) == [(3, 1), (4, 1), (4, 1)]

    _run(scenario, max_batch=4)


def test_images_that_are_decoded_at_once_have_a_limit_over_all_batches():
    async def scenario(batcher, queue, compute):
        together, most = 0, 0
        lock = threading.Lock()

        def counted(signature, inputs):
            nonlocal together, most
            own = int(inputs["x"].sum())
            with lock:
                together += own
                most = max(most, together)
            outputs = compute(signature, inputs)
            threading.Event().wait(0.005)
            with lock:
                together -= own
            return outputs

        queue = Queue(counted)
        sizes = [[6, 6, 1, 1, 1], [3], [9], [2, 2, 2], [10], [1]]
        found = await _all(batcher, queue, compute, [_request(*own) for own in sizes], sizes)
        assert [part["y"][:, 0].tolist() for part in found] == [
            [2 * size for size in own] for own in sizes
        ]
        assert most <= 10

    _run(scenario, max_pixels=10)


def test_a_request_that_fails_spoils_no_other():
    async def scenario(batcher, queue, compute):
        compute.failing = 13
        found = await _all(batcher, queue, compute, [_request(n) for n in (12, 13, 14)])
        assert found[0]["y"].tolist() == [[24]]
        assert isinstance(found[1], ValueError)
        assert found[2]["y"].tolist() == [[28]]

    _run(scenario)


def test_too_many_rows_are_refused_and_later_ones_are_not():
    async def scenario(batcher, queue, compute):
        first = await _busy(batcher, queue, compute)
        waiting = asyncio.create_task(batcher.run(queue, _request(1, 2, 3), [0] * 3))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="3 rows wait already") as refused:
            await batcher.run(queue, _request(1, 2), [0] * 2)
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        other = Queue(compute)  # of another signature or version
        beside = asyncio.create_task(batcher.run(other, _request(4), [0]))
        await asyncio.sleep(0)
        compute.go.set()
        await asyncio.gather(*first, waiting, beside)
        assert (await batcher.run(queue, _request(1, 2), [0] * 2))["y"].tolist() == [[2], [4]]

    _run(scenario, max_queue=4)


def test_signatures_take_turns():
    async def scenario(batcher, queue, compute):
        first = await _busy(batcher, queue, compute)
        order = []

        pairs = threading.Barrier(2)

        def noting(signature, inputs):
            own = int(inputs["x"][0, 0])
            order.append(own)
            if own != 3:
                pairs.wait(_PATIENCE)  # none overtakes the one that was begun beside it
            return compute(signature, inputs)

        queues = [Queue(noting), Queue(noting)]
        tasks = [
            asyncio.create_task(batcher.run(queues[value // 10], _request(*[value] * 2), [0] * 2))
            for value in (1, 2, 3, 11, 12)
        ]
        await asyncio.sleep(0.01)
        compute.go.set()
        await asyncio.gather(*first, *tasks)
        assert sorted(order[:2]) == [1, 11]
        assert sorted(order[2:4]) == [2, 12]

    _run(scenario, max_batch=2)


def test_what_comes_too_late_is_not_computed():
    async def scenario(batcher, queue, compute):
        first = await _busy(batcher, queue, compute)
        with pytest.raises(RefusedError, match="no answer within") as refused:
            await batcher.run(queue, _request(1), [0])
        assert refused.value.status == 504
        compute.go.set()
        await asyncio.gather(*first, return_exceptions=True)
        batcher._limits = dataclasses.replace(batcher._limits, timeout=_PATIENCE)
        assert (await batcher.run(queue, _request(2), [0]))["y"].tolist() == [[4]]
        assert compute.given == [(1, 1)] * 3

    _run(scenario, timeout=0.05)


def test_what_has_no_rows_is_computed_alone():
    async def scenario(batcher, queue, compute):
        requests = [_request(1, 2, rows=0), _request(3), _request(4, rows=0), _request(5)]
        found = await _all(batcher, queue, compute, requests)
        assert [part["y"][:, 0].tolist() for part in found] == [[2, 4], [6], [8], [10]]
        assert (2, 1) in compute.given[2:]

    _run(scenario)


def test_outputs_without_a_row_for_each_of_the_inputs_are_told_apart():
    async def scenario(batcher, queue, compute):
        def first_alone(signature, inputs):
            return {"y": compute(signature, inputs)["y"][:1]}

        requests = [_request(1, 2), _request(3), _request(*range(5))]
        found = await _all(batcher, Queue(first_alone), compute, requests)
        assert [part["y"].tolist() for part in found[:2]] == [[[2]], [[6]]]
        assert "for 4 rows" in str(found[2])

    _run(scenario, max_batch=4)


def test_parts_whose_outputs_differ_in_shape_are_told_and_spoil_no_other():
    async def scenario(batcher, queue, compute):
        def square(signature, inputs):
            return {"y": np.repeat(compute(signature, inputs)["y"], len(inputs["x"]), axis=1)}

        requests = [_request(*range(10)), _request(100)]
        found = await _all(batcher, Queue(square), compute, requests)
        assert isinstance(found[0], RefusedError)
        assert "differ in shape" in str(found[0])
        assert found[1]["y"].tolist() == [[200] * 3]

    _run(scenario, max_batch=4)


@settings(max_examples=30, deadline=None)
@given(
    some.lists(
        some.tuples(some.integers(1, 9), some.integers(1, 2), some.integers(0, 5)),
        min_size=1,
        max_size=12,
    ),
    some.integers(1, 6),
)
def test_every_request_has_its_own_answer(requests, most):
    async def scenario(batcher, queue, compute):
        sent = [
            _request(*range(place * 10, place * 10 + rows), width=width)
            for place, (rows, width, _) in enumerate(requests)
        ]
        costs = [[cost] * rows for rows, _, cost in requests]
        found = await _all(batcher, queue, compute, sent, costs)
        for one, part in zip(sent, found, strict=True):
            np.testing.assert_array_equal(part["y"], one.inputs["x"] * 2)
        assert all(rows <= most for rows, _ in compute.given)

    _run(scenario, max_batch=most, max_pixels=8)
