"""One search: which trial is next, what came of those before, and what is kept of it on disk.

Everything that it knows is in one file, which is replaced by one rename whenever something
changes. So a search that is killed at any moment goes on from the last change: what had ended is
never done again, and what was running is, from its last checkpoint.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from pipeline import files
from pipeline.errors import DataError, PipelineError
from pipeline.tuning import finals
from pipeline.tuning.budget import Budget
from pipeline.tuning.finals import Rules, Verdict
from pipeline.tuning.trial import Record, State, Trial

_FORMAT = 1
# So often a trial may lose its process before it is taken for the cause.
_DEATHS = 2
# A worker that has not ended its trial so many seconds after the time of the search never will.
_OVERTIME = 60.0
_TIME = "the time of the search was over"
_EPOCHS = "the epochs of the search would not suffice"


@dataclass(frozen=True)
class Proposal:
    """A trial that an oracle wants.

    Args:
        id: Its number.
        values: As Keras Tuner has them.
        epochs: Epochs after which it ends.
        continues: The trial that it goes on from, or None.
        first_epoch: Epochs of that one.
    """

    id: str
    values: dict[str, Any]
    epochs: int
    continues: str | None = None
    first_epoch: int = 0


class Proposes(Protocol):
    """What a search asks of an oracle; `oracle.Oracle` says what it means."""

    state: dict[str, Any]
    space: list[dict[str, Any]]

    def propose(self) -> Proposal | Literal["wait", "stop"]: ...

    def conclude(self, number: str, score: float | None, *, rejected: bool = False) -> None: ...

    def goes_on(self, number: str) -> bool: ...


@dataclass
class _Kept:
    """What the file holds."""

    format: int
    searched: bool
    record: Record
    oracle: dict[str, Any]


class Search:
    """A search under way; threads may use it at once.

    Args:
        path: The file that it is kept in.
        algorithm: How the oracle proposes values, for the record.
        oracle: Proposes values.
        default: The values of the configuration, as Trainer's fields have them.
        decode: Returns what an oracle proposed as the fields have it.
        rules: How values win.
        budget: When it ends.
        clock: Seconds, of a clock that is never set back.
    """

    def __init__(
        self,
        path: Path,
        algorithm: str,
        oracle: Proposes,
        default: Mapping[str, Any],
        decode: Callable[[Mapping[str, Any]], dict[str, Any]],
        rules: Rules,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._path = path
        self._algorithm = algorithm
        self._space = oracle.space
        self._oracle = oracle
        self._default = dict(default)
        self._decode = decode
        self._rules = rules
        self._budget = budget
        self._clock = clock
        self._lock = threading.RLock()
        self._trials: dict[str, Trial] = {}
        self._searched = False
        self._before = 0.0
        self._since: dict[str, tuple[float, float]] = {}
        self._deaths: dict[str, int] = {}
        self._waiting: list[str] = []
        self._started = clock()
        if path.is_file():
            self._read()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they began."""
        with self._lock:
            return tuple(self._trials.values())

    @property
    def seconds(self) -> float:
        """How long the search has gone on, over all processes."""
        return self._before + self._clock() - self._started

    @property
    def left(self) -> float:
        """Seconds until its time is over."""
        limit = self._budget.seconds
        return math.inf if limit is None else limit - self.seconds

    def over(self) -> bool:
        """Returns whether there is nothing more to do, and nobody works.

        Raises:
            PipelineError: All trials failed.
        """
        with self._lock:
            if self.left < -_OVERTIME:
                for trial in self.trials:
                    self.end(trial.id, "STOPPED", reason=_TIME)
            return not self._running() and self._next() == "stop"

    @property
    def rules(self) -> Rules:
        """How values win."""
        return self._rules

    @property
    def expected(self) -> int:
        """How many trials there may be."""
        return self._budget.trials + self._rules.most

    @property
    def best(self) -> float | None:
        """The best score so far of whole trainings."""
        found = [
            trial.score
            for trial in self.trials
            if trial.score is not None and trial.epochs == self._rules.epochs
        ]
        return max(found, key=lambda score: self._rules.gap(score, 0.0), default=None)

    @property
    def verdict(self) -> Verdict:
        """Which trial has won, once all is done."""
        return finals.verdict(self.trials, self._rules)

    def record(self, best: str | None, reason: str) -> Record:
        """Returns the search as it is written down.

        Args:
            best: The trial whose values won; None before the end.
            reason: Why that one.
        """
        return Record(
            algorithm=self._algorithm,
            objective=self._rules.objective,
            direction=self._rules.direction,
            space=self._space,
            epochs=self._rules.epochs,
            seconds=self.seconds,
            best=best,
            reason=reason,
            trials=self.trials,
        )

    def next(self, worker: str) -> Trial | Literal["wait", "stop"]:
        """Returns the trial that a worker is to do; or that it has to wait, or may go.

        Raises:
            PipelineError: All trials failed.
        """
        with self._lock:
            found = self._next()
            if isinstance(found, str):
                return found
            if found.id in self._waiting:
                self._waiting.remove(found.id)
            begin = found.begin or time.time()
            self._since[found.id] = (self._clock(), found.seconds)
            return self._keep(
                replace(found, begin=begin, attempts=found.attempts + 1, worker=worker)
            )

    def measured(self, number: str, parameters: int, macs: int | None) -> None:
        """Notes how large the network of a trial is."""
        with self._lock:
            self._keep(replace(self._trials[number], parameters=parameters, macs=macs))

    def epoch(self, number: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Notes what was measured after an epoch of a trial.

        Args:
            number: The trial.
            epoch: The number of the epoch, from 1.
            figures: By name, the objective among them.
        """
        with self._lock:
            trial = self._trials[number]
            if trial.ended:
                return
            place = epoch - 1 - trial.first_epoch
            before = (*trial.objective, *[None] * place)[:place]
            found = (*before, _finite(figures.get(self._rules.objective)))
            self._keep(
                replace(
                    trial,
                    objective=found,
                    figures={name: v for name, v in figures.items() if math.isfinite(v)},
                    seconds=self._worked(number),
                )
            )

    def end(
        self,
        number: str,
        state: State,
        figures: Mapping[str, float] | None = None,
        reason: str = "",
    ) -> Trial:
        """Notes how a trial ended, and returns it.

        Args:
            number: The trial.
            state: One in which nobody works on it any more.
            figures: Of the weights that would be exported; of a trial that has completed.
            reason: Why it has no score.
        """
        with self._lock:
            trial = self._trials[number]
            if trial.ended:
                return trial
            score = _finite((figures or {}).get(self._rules.objective))
            if state == "COMPLETED" and score is None:
                known = ", ".join(sorted(figures or {})) or "nothing"
                state, reason = (
                    "FAILED",
                    f"{self._rules.objective} is no finite number; measured was {known}",
                )
            ended = replace(
                trial,
                state=state,
                score=score if state == "COMPLETED" else None,
                figures={**trial.figures, **_all_finite(figures or {})},
                seconds=self._worked(number),
                reason=reason,
            )
            if trial.kind != "final":
                self._oracle.conclude(number, ended.score, rejected=state == "REJECTED")
            self._since.pop(number, None)
            return self._keep(ended)

    def lose(self, number: str, how: str) -> Trial:
        """Notes that the process of a trial died: another one goes on with it, once.

        Args:
            number: The trial.
            how: How it died, such as `"SIGKILL"`.
        """
        with self._lock:
            trial = self._trials[number]
            if trial.ended:
                return trial
            self._deaths[number] = self._deaths.get(number, 0) + 1
            if self._deaths[number] >= _DEATHS:
                return self.end(
                    number,
                    "FAILED",
                    reason=f"its process died {_DEATHS} times ({how}), as it does where the memory "
                    "does not suffice",
                )
            kept = self._keep(replace(trial, seconds=self._worked(number)))
            self._since.pop(number, None)
            self._waiting.append(number)
            return kept

    def removable(self) -> set[str]:
        """Returns the trials whose checkpoints nobody goes on from any more.

        A trial that continues another one keeps its checkpoints under the name of the first.
        """
        with self._lock:
            needed = {
                self.first_of(trial).id
                for trial in self._trials.values()
                if not trial.ended or (trial.kind == "search" and self._oracle.goes_on(trial.id))
            }
            return self._trials.keys() - needed

    def first_of(self, trial: Trial) -> Trial:
        """Returns the trial that the training of `trial` began with."""
        while trial.continues is not None:
            trial = self._trials[trial.continues]
        return trial

    def _running(self) -> bool:
        return any(
            not trial.ended and trial.id not in self._waiting for trial in self._trials.values()
        )

    def _next(self) -> Trial | Literal["wait", "stop"]:
        """Returns what is to be done next, without beginning it."""
        if self.left <= 0:
            for number in list(self._waiting):
                self._waiting.remove(number)
                self.end(number, "STOPPED", reason=_TIME)
            return "stop"
        if self._waiting:
            return self._trials[self._waiting[0]]
        if not self._searched and (found := self._proposed()) is not None:
            return found
        if any(not trial.ended and trial.kind != "final" for trial in self._trials.values()):
            return "wait"
        if missing := finals.wanted(self.trials, self._rules):
            self._waiting += [self._keep(trial).id for trial in missing]
            return self._trials[self._waiting[0]]
        # The configuration may have to be trained again, once the finalists are.
        return "wait" if self._running() else "stop"

    def _proposed(self) -> Trial | Literal["wait"] | None:
        """Returns a new trial of the oracle, None where the search has ended."""
        if found := self._budget.hopeless(self.trials):
            raise PipelineError(f"{found}; remove {self._path.parent} to begin anew")
        allowed = self._budget.allows(self.trials, self._rules, self.left)
        asked = self._oracle.propose() if allowed else "stop"
        if asked == "wait":
            return "wait"
        if asked == "stop":
            self._searched = True
            self._write()
            return None
        first = not self._trials
        trial = Trial(
            id=asked.id,
            kind="default" if first else "search",
            # As they come out of the file again.
            values=json.loads(json.dumps(self._default if first else self._decode(asked.values))),
            seed=self._rules.seed,
            epochs=asked.epochs,
            continues=asked.continues,
            first_epoch=asked.first_epoch,
        )
        self._trials[trial.id] = trial
        if not first and not self._budget.affords(self.trials, self._rules):
            self._searched = True
            self.end(trial.id, "STOPPED", reason=_EPOCHS)
            return None
        self._waiting.append(trial.id)
        self._write()
        return trial

    def _worked(self, number: str) -> float:
        since, before = self._since.get(number, (self._clock(), self._trials[number].seconds))
        return before + self._clock() - since

    def _keep(self, trial: Trial) -> Trial:
        self._trials[trial.id] = trial
        self._write()
        return trial

    def _write(self) -> None:
        kept = {
            "format": _FORMAT,
            "searched": self._searched,
            "record": asdict(self.record(None, "")),
            "oracle": self._oracle.state,
        }
        files.write_json(self._path, kept)

    def _read(self) -> None:
        try:
            kept = TypeAdapter(_Kept).validate_python(json.loads(self._path.read_bytes()))
            if kept.format != _FORMAT:
                raise DataError(f"{self._path}: has format {kept.format}, expected {_FORMAT}")
            self._oracle.state = kept.oracle
        except (ValueError, KeyError, TypeError) as error:
            said = " ".join(str(error).split("\n")[:3])
            raise DataError(
                f"{self._path}: is no record of a search ({type(error).__name__}: {said}); "
                f"remove {self._path.parent} to begin anew"
            ) from None
        self._trials = {trial.id: trial for trial in kept.record.trials}
        self._before, self._searched = kept.record.seconds, kept.searched
        self._waiting = [trial.id for trial in kept.record.trials if not trial.ended]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _all_finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}
