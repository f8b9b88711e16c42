"""Requests that wait together are computed together, a part of a large one at a time."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pipeline.serving.laptop.codec import Request
from pipeline.serving.laptop.limits import Limits, RefusedError

Arrays = Mapping[str, np.ndarray]
# Computes the outputs of a signature; called in another thread.
Compute = Callable[[str, Arrays], dict[str, np.ndarray]]

# Batches that are computed at the same time: one decodes while the other is in the network.
_SIDE_BY_SIDE = 2


@dataclass(eq=False)
class _Task:
    """A request that waits.

    Args:
        request: What is asked.
        costs: The pixels of each row.
        shapes: What rows have to share so that they can lie in one array.
        future: Receives the outputs.
        taken: The rows that were taken for batches.
        computed: The rows of which the outputs are there.
        parts: The outputs of batches that have been computed, by the first row.
    """

    request: Request
    costs: Sequence[int]
    shapes: tuple
    future: asyncio.Future
    taken: int = 0
    computed: int = 0
    parts: dict[int, Arrays] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return max(self.request.rows, 1) - self.taken


@dataclass(frozen=True)
class _Slice:
    """Rows of a request that are part of a batch."""

    task: _Task
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def pixels(self) -> int:
        return sum(self.task.costs[self.start : self.stop])

    @property
    def is_whole(self) -> bool:
        return self.rows == self.task.request.rows

    def inputs(self) -> Arrays:
        inputs = self.task.request.inputs
        if self.is_whole:
            return inputs
        return {name: array[self.start : self.stop] for name, array in inputs.items()}


class Queue:
    """What waits for one signature of one version.

    Args:
        compute: Computes the outputs of a batch.
    """

    def __init__(self, compute: Compute):
        self.compute = compute
        self.tasks: deque[_Task] = deque()

    def waiting(self) -> int:
        """Returns the rows that wait."""
        return sum(task.waiting for task in self.tasks)

    def batch(self, most_rows: int, most_pixels: int, is_alone: bool) -> list[_Slice]:
        """Takes the next batch: rows of the first request, and of others with rows of its shape.

        Args:
            most_rows: Rows of a batch.
            most_pixels: Pixels of all its images together.
            is_alone: Whether its first image may have more, since nothing else is computed.

        Returns:
            Nothing when nothing waits, or there is no room for the first image.
        """
        while self.tasks and self.tasks[0].future.done():
            self.tasks.popleft()  # given up
        slices: list[_Slice] = []
        rows = pixels = 0
        for task in list(self.tasks):
            if task.future.done():
                continue
            if slices and (task.shapes != slices[0].task.shapes or not task.request.rows):
                continue
            if not task.request.rows:
                self.tasks.remove(task)
                return [_Slice(task, 0, 0)]
            start = task.taken
            while task.waiting and rows < most_rows:
                pixels += task.costs[task.taken]
                if pixels > most_pixels and (rows or not is_alone):
                    break
                task.taken += 1
                rows += 1
            if task.taken > start:
                slices.append(_Slice(task, start, task.taken))
            if task.waiting:
                break  # the batch is full
            self.tasks.remove(task)
        return slices


class Batcher:
    """Computes requests in batches. Lives in the event loop, and computes in threads.

    No request waits for others while a thread is free: what comes meanwhile is the next batch. The
    signatures take turns.

    Args:
        limits: How many rows and pixels a batch may have, and how many rows may wait.
    """

    def __init__(self, limits: Limits):
        self._threads = ThreadPoolExecutor(_SIDE_BY_SIDE, "batch")
        self._limits = limits
        self._turns: deque[Queue] = deque()
        self._running: dict[asyncio.Task, int] = {}
        self.batches = 0

    async def run(self, queue: Queue, request: Request, costs: Sequence[int]) -> Arrays:
        """Returns the outputs for a request.

        Args:
            queue: Of its signature and version.
            request: The request.
            costs: The pixels of each of its rows.

        Raises:
            RefusedError: Too many rows wait already, or the time is over.
            Exception: What the computation raised.
        """
        waiting = queue.waiting()
        if waiting + max(request.rows, 1) > self._limits.max_queue:
            raise RefusedError(
                503, f"{waiting} rows wait already; try again, or send less at once", retry_after=1
            )
        shapes = tuple(array.shape[1:] for array in request.inputs.values())
        future = asyncio.get_running_loop().create_future()
        queue.tasks.append(_Task(request, costs, shapes, future))
        if queue not in self._turns:
            self._turns.append(queue)
        self._start()
        try:
            return await asyncio.wait_for(future, self._limits.timeout)
        except TimeoutError:
            raise RefusedError(504, f"no answer within {self._limits.timeout:g} s") from None

    def close(self) -> None:
        """Ends the threads when they have computed what they do."""
        self._threads.shutdown(cancel_futures=True)

    def _start(self) -> None:
        while self._turns and len(self._running) < _SIDE_BY_SIDE:
            queue = self._turns.popleft()
            room = self._limits.max_pixels - sum(self._running.values())
            slices = queue.batch(self._limits.max_batch, room, is_alone=not self._running)
            if not slices and queue.tasks:
                self._turns.appendleft(queue)  # its turn stays until there is room
                return
            if queue.tasks:
                self._turns.append(queue)
            if slices:
                running = asyncio.create_task(self._compute(queue, slices))
                self._running[running] = sum(one.pixels for one in slices)
                running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task) -> None:
        del self._running[running]
        self._start()

    async def _compute(self, queue: Queue, slices: Sequence[_Slice]) -> None:
        loop = asyncio.get_running_loop()
        self.batches += 1
        signature = slices[0].task.request.signature.name
        try:
            outputs = await loop.run_in_executor(
                self._threads, _together, queue.compute, signature, slices
            )
        except Exception as error:  # noqa: BLE001  whoever asked is told
            outputs = [error] * len(slices)
        if len(slices) > 1 and any(isinstance(own, Exception) for own in outputs):
            # One may have spoiled it for the others.
            for one in slices:
                await self._compute(queue, [one])
            return
        for one, own in zip(slices, outputs, strict=True):
            _deliver(one, own)


def _together(compute: Compute, signature: str, slices: Sequence[_Slice]) -> list[Arrays]:
    if len(slices) == 1:
        (one,) = slices
        outputs = compute(signature, one.inputs())
        return [outputs if one.is_whole else _rows_of(outputs, one.rows)]
    inputs = [one.inputs() for one in slices]
    joined = {name: np.concatenate([own[name] for own in inputs]) for name in inputs[0]}
    ends = np.cumsum([one.rows for one in slices])
    outputs = _rows_of(compute(signature, joined), int(ends[-1]))
    parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
    return [{name: parts[name][place] for name in parts} for place in range(len(slices))]


def _rows_of(outputs: Arrays, rows: int) -> Arrays:
    """Returns the outputs, once it is sure that they have a row for each of the inputs."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise RefusedError(
                400, f"output {name!r} has the shape {array.shape} for {rows} rows; send fewer"
            )
    return outputs


def _deliver(one: _Slice, outputs: Arrays | Exception) -> None:
    task = one.task
    if task.future.done():
        return
    if isinstance(outputs, Exception):
        task.future.set_exception(outputs)
    elif one.is_whole:
        task.future.set_result(outputs)
    else:
        task.parts[one.start] = outputs
        task.computed += one.rows
        if task.computed == task.request.rows:
            _finish(task)


def _finish(task: _Task) -> None:
    """Puts the parts of a large request together."""
    parts = [task.parts[start] for start in sorted(task.parts)]
    try:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        task.future.set_exception(
            RefusedError(400, f"the outputs of its rows differ in shape ({error}); send fewer")
        )
    else:
        task.future.set_result(joined)
