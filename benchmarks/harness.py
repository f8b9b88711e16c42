"""Runs the sides of a case in turns and keeps what they say."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks import environments, results
from benchmarks.plan import Benchmark, Case, Prepare, Side
from benchmarks.results import FAILED, UNAVAILABLE, Measured
from benchmarks.worker import FailedError, Worker
from pipeline import machine


class View(Protocol):
    """Who is told how far the work is."""

    def say(self, text: str) -> None:
        """Something begins that takes a while."""

    def begin(self, benchmark: str, case: Case) -> None:
        """A case begins."""

    def progress(self, text: str, share: float) -> None:
        """`share` of the case is done."""

    def end(self, case: dict[str, Any]) -> None:
        """A case is done; it is given as `results.case_as_json` returns it."""


@dataclass(frozen=True)
class Harness:
    """Measures benchmarks.

    Args:
        view: Who is told.
        rounds: Turns of each side in place of what the cases say; None for theirs.
        quick: Whether the cases are the quick ones, of one round and no warm-up.
        gpus: How many NVIDIA GPUs there are.
        cache: Folder of the environments of peers; None for `environments.cache()`.
    """

    view: View
    rounds: int | None = None
    quick: bool = False
    gpus: int = 0
    cache: Path | None = None

    def measure(self, benchmarks: Sequence[Benchmark], found: list[dict[str, Any]]) -> None:
        """Measures benchmarks, and appends to `found` what each says, in JSON.

        What has been measured is there also when this ends by an exception, as by Ctrl-C.
        """
        for benchmark in benchmarks:
            cases: list[dict[str, Any]] = []
            found.append({"name": benchmark.name, "question": benchmark.question, "cases": cases})
            with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
                data = _Data(Path(scratch), self.view)
                for case in benchmark.cases(self.quick):
                    self.view.begin(benchmark.name, case)
                    sides = [Measured(one.name, results.aim_as_json(one.aim)) for one in case.sides]
                    try:
                        self._measure(case, sides, data)
                    finally:
                        cases.append(results.case_as_json(case, sides))
                    self.view.end(cases[-1])

    def _measure(self, case: Case, sides: list[Measured], data: "_Data") -> None:
        """Gives turns to `sides`."""
        places = [self._place(*pair) for pair in zip(case.sides, sides, strict=True)]
        here = [place for place in places if place is not None]
        if not here:
            return
        try:
            folder = data.folder(case)
        except FailedError as error:
            for _, side, _ in here:
                side.status, side.reason = FAILED, f"its data were not made: {error}"
            return
        with contextlib.ExitStack() as running:
            # What is killed first ends the threads that wait for it.
            threads = machine.cores().usable if case.together else 1
            pool = running.enter_context(ThreadPoolExecutor(threads))
            workers = []
            for planned, side, python in here:
                worker = Worker(planned, python, folder, case.patience)
                running.callback(worker.kill)
                workers.append((side, worker))
            self.view.progress("the sides are being made", 0.0)
            list(pool.map(lambda pair: self._begin(*pair, case), workers))
            self._take_turns(case, workers)
            for _, worker in workers:
                worker.close()

    def _begin(self, side: Measured, worker: Worker, case: Case) -> None:
        """Has a side made and warmed up."""
        made = _asked(side, worker, worker.make)
        if made is not None:
            side.making, side.versions = made["seconds"], made["versions"]
            if case.warm_up and not self.quick:
                _asked(side, worker, worker.turn)

    def _take_turns(self, case: Case, workers: list[tuple[Measured, Worker]]) -> None:
        rounds = 1 if self.quick else case.rounds if self.rounds is None else self.rounds
        total, done = rounds * len(workers), 0
        for number in range(rounds):
            # Who comes first alternates, so that no side is always the one behind the same other.
            for side, worker in workers if number % 2 == 0 else reversed(workers):
                if side.status == FAILED:
                    continue
                self.view.progress(side.name, done / total)
                turn = _asked(side, worker, worker.turn)
                if turn is not None:
                    side.turns.append(turn)
                done += 1

    def _place(self, planned: Side, side: Measured) -> tuple[Side, Measured, Path] | None:
        """Returns a side with its interpreter, or None where it cannot run, which it then says."""
        cache = self.cache or environments.cache()
        try:
            python = environments.interpreter(planned, self.gpus, cache, self.view.say)
        except environments.UnavailableError as error:
            side.status, side.reason = UNAVAILABLE, str(error)
            return None
        return planned, side, python


class _Data:
    """The data that the cases of a benchmark share."""

    def __init__(self, scratch: Path, view: View):
        self._scratch, self._view = scratch, view
        self._made: dict[str, Path | FailedError] = {}

    def folder(self, case: Case) -> Path | None:
        """Returns the folder that `case.prepare` has filled; None without.

        Raises:
            FailedError: If it could not.
        """
        if case.prepare is None:
            return None
        key = json.dumps([case.prepare.target, dict(case.prepare.arguments)])
        if key not in self._made:
            self._view.say("the data are being made")
            self._made[key] = self._prepared(case.prepare, case.patience)
        made = self._made[key]
        if isinstance(made, FailedError):
            raise made
        return made

    def _prepared(self, prepare: Prepare, patience: float) -> Path | FailedError:
        folder = self._scratch / str(len(self._made))
        folder.mkdir()
        as_side = Side("data", prepare.target, prepare.arguments)
        worker = Worker(as_side, Path(sys.executable), folder, patience)
        try:
            worker.make()
            worker.close()
        except FailedError as error:
            return error
        finally:
            worker.kill()
        return folder


def _asked(
    side: Measured, worker: Worker, question: Callable[[], dict[str, Any]]
) -> dict[str, Any] | None:
    """Returns the answer of a side's worker, or None where it failed, which the side then says.

    What failed is ended, so that it takes no time from the others.
    """
    try:
        return question()
    except FailedError as error:
        side.status, side.reason = FAILED, str(error)
        worker.kill()
        return None
