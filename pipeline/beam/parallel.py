"""Spreads a function over processes of this machine, and survives the death of one of them.

Beam's own local workers hang when one dies; these are missed at once. On a cluster the runner
spreads the work, and each of its workers uses one process.
"""

import functools
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.beam import workers
from pipeline.beam.reporter import Reporter
from pipeline.errors import PipelineError

# Elements in work or waiting per process: enough that none has to wait for this one.
_AHEAD = 2
_DEATHS = 3


class Work(Protocol):
    """What can be spread: a function of one element that can be sent to another process."""

    def __call__(self, element: Any, journal: Path | None, deadly: frozenset[str]) -> Any:
        """Returns the result for `element`.

        Args:
            element: Any input.
            journal: Where the name of what is about to be read is written, or None.
            deadly: Names of what must not be read, since it killed the process that read it.
        """


def spread(work: Work, processes: int, reporter: Reporter) -> beam.PTransform:
    """Returns a transform that applies `work` to every element, in so many processes.

    With one it happens in the process that runs the pipeline; on a cluster, each of its workers has
    so many.

    A worker that dies is replaced, and what it had in hand is done again, name by name: a name that
    kills again is given to `work` as deadly; otherwise the cause lay outside.

    Args:
        work: Is applied.
        processes: How many do it at once.
        reporter: Is told of deaths.

    Raises:
        PipelineError: Workers died several times for a cause outside their input.
    """
    if processes == 1:
        return beam.Map(functools.partial(work, journal=None, deadly=frozenset()))
    return beam.ParDo(_Spread(work, processes, reporter))


class _Spread(beam.DoFn):
    def __init__(self, work: Work, processes: int, reporter: Reporter):
        self._work = work
        self._processes = processes
        self._reporter = reporter
        self._deaths = 0

    def start_bundle(self) -> None:
        self._pending: deque[tuple[Any, Any]] = deque()

    def process(self, element: Any) -> Iterator[Any]:
        self._pending.append((element, self._submit(element)))
        while len(self._pending) > _AHEAD * self._processes:
            yield self._next()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        while self._pending:
            yield WindowedValue(self._next(), window.max_timestamp(), [window])

    def _submit(self, element: Any) -> Any:
        from loky.process_executor import BrokenProcessPool

        try:
            return workers.shared(self._processes).submit(self._work, element, None, frozenset())
        except BrokenProcessPool as death:
            return _Ended(error=death)

    def _next(self) -> Any:
        from loky.process_executor import BrokenProcessPool

        element, future = self._pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool as death:
            self._pending.appendleft((element, future))
            self._do_again(death)
            return self._pending.popleft()[1].result()

    def _do_again(self, death: Exception) -> None:
        """Does again what was in hand when a worker died, one element after the other."""
        workers.stop()
        self._reporter.say(
            f"a worker process died ({_cause(death)}); what it had in hand is done again"
        )
        with _Lone() as lone:
            done = [self._alone(element, lone) for element, _ in self._pending]
        results, deadly = zip(*done, strict=True)
        self._deaths += not any(deadly)
        if self._deaths >= _DEATHS:
            raise PipelineError(
                f"worker processes died {self._deaths} times ({_cause(death)}) although nothing "
                f"that they read kills them; most often the memory is too small for "
                f"--workers {self._processes}: take fewer"
            )
        self._pending = deque((None, _Ended(result)) for result in results)

    def _alone(self, element: Any, lone: "_Lone") -> tuple[Any, frozenset[str]]:
        """Returns the result for one element, from a process of its own, and what kills that."""
        from loky.process_executor import BrokenProcessPool

        deadly: frozenset[str] = frozenset()
        suspect, deaths = "", 0
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder, "journal")
            while True:
                try:
                    return lone.pool.submit(self._work, element, journal, deadly).result(), deadly
                except BrokenProcessPool as death:
                    name = os.fsdecode(journal.read_bytes()) if journal.exists() else ""
                    if name and name == suspect:
                        deadly, suspect, deaths = deadly | {name}, "", deaths - 1
                        self._reporter.say(
                            f"{name} kills the process that reads it ({_cause(death)})"
                        )
                    else:
                        # Once may be chance: someone else may have killed it.
                        suspect, deaths = name, deaths + 1
                    if deaths >= _DEATHS:
                        raise PipelineError(
                            f"worker processes die ({_cause(death)}), the last one at "
                            f"{name or 'its start'}; most often the memory is too small"
                        ) from None
                    lone.replace()


class _Lone:
    """A pool of one process, which is replaced when that has died."""

    def __enter__(self) -> Self:
        self.pool = workers.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(kill_workers=True)

    def replace(self) -> None:
        self.__exit__()
        self.__enter__()


class _Ended:
    """Stands where a future would, for what is over already."""

    def __init__(self, result: Any = None, error: Exception | None = None):
        self._result, self._error = result, error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


def _cause(death: Exception) -> str:
    """Returns what ended a worker, from the words of the library: `SIGKILL(-9)`."""
    found = [word for word in str(death).replace("{", " ").replace("}", " ").split() if "(" in word]
    return found[-1].rstrip(".,") if found else type(death).__name__


def note(journal: Path | None, name: str) -> None:
    """Writes the name of what is about to be read, for whoever asks after this process died."""
    if journal is not None:
        journal.write_bytes(os.fsencode(name))
