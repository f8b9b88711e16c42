"""What the workers of a search ask of the chief, and what it tells the person who watches."""

import contextlib
import math
import queue
import shutil
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.orchestration.artifact import Context
from pipeline.tuning.search import Search
from pipeline.tuning.trial import Trial

# A connection ends a moment before its process.
_LAST_MOMENT = 5.0


class Desk:
    """Answers the workers, and tells the person who watches.

    Args:
        search: What they work on.
        folders: Where trials keep their checkpoints.
    """

    def __init__(self, search: Search, folders: Path):
        self._search = search
        self._folders = folders
        self._doing: dict[str, str] = {}
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.asked: set[str] = set()
        self.processes: dict[str, subprocess.Popen] = {}
        self.closing = False
        self.failure: BaseException | None = None

    def answer(self, worker: str, call: str, arguments: dict[str, Any]) -> Any:
        """Does what a worker calls, and returns the answer."""
        try:
            return self._answered(worker, call, arguments)
        except Exception as error:  # noqa: BLE001  the main thread raises it
            self.failure = self.failure or error
            return "stop"

    def _answered(self, worker: str, call: str, arguments: dict[str, Any]) -> Any:
        if call == "next":
            self.asked.add(worker)
            if self.closing or self.failure is not None:
                return "stop"
            found = self._search.next(worker)
            if isinstance(found, str):
                return found
            self._doing[worker] = found.id
            left = self._search.left
            return {
                "trial": asdict(found),
                "folder": self._search.first_of(found).id,
                "left": None if math.isinf(left) else left,
            }
        if call == "end":
            self._doing.pop(worker, None)
            self._say(self._search.end(**arguments))
            self._sweep()
        elif call == "measured":
            self._search.measured(**arguments)
        else:
            self._search.epoch(**arguments)
        return None

    def left(self, worker: str, how: str) -> None:
        """Notes that a worker is gone: somebody else has to do its trial."""
        number = self._doing.pop(worker, None)
        if number is None or self.closing:
            return
        if process := self.processes.get(worker):
            # Its connection ends a moment before it does.
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = ended(process.wait(_LAST_MOMENT))
        try:
            trial = self._search.lose(number, how)
        except Exception as error:  # noqa: BLE001  the main thread raises it
            self.failure = self.failure or error
            return
        if trial.ended:
            self._say(trial)
        else:
            self._lines.put(
                f"trial {number}: its process died ({how}); another one goes on with it"
            )

    def tell(self, context: Context) -> None:
        """Shows what has happened; of the main thread."""
        trials = self._search.trials
        shown = {} if (best := self._search.best) is None else {"best": best}
        ended = sum(trial.ended for trial in trials)
        context.progress(ended, max(self._search.expected, len(trials)), **shown)
        with contextlib.suppress(queue.Empty):
            while True:
                context.say(self._lines.get_nowait())

    def _say(self, trial: Trial) -> None:
        values = ", ".join(f"{key} {_short(value)}" for key, value in trial.values.items())
        what = {"default": " (the configuration)", "final": " (with another seed)"}
        told = f"trial {trial.id}{what.get(trial.kind, '')}: {values}: "
        if trial.score is None:
            told += f"{trial.state.lower()}, {trial.reason.splitlines()[0]}"
        else:
            told += f"{self._search.rules.objective} {trial.score:.4g}"
            if trial.epochs != self._search.rules.epochs:
                told += f" after {trial.epochs} epochs"
        self._lines.put(f"{told} ({trial.seconds:.0f} s)")

    def _sweep(self) -> None:
        """Removes the checkpoints that nobody goes on from."""
        for number in self._search.removable():
            shutil.rmtree(self._folders / number, ignore_errors=True)


def ended(code: int) -> str:
    """Returns in words how a process ended, of its exit code."""
    return signal.Signals(-code).name if code < 0 else f"code {code}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
