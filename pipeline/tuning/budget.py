"""When a search ends: its trials, epochs and time, and what of them is kept for the finals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.tuning.finals import Rules
from pipeline.tuning.trial import Trial

# So many trials may fail before the first that does not: something else is wrong.
_HOPELESS = 8
# So many may be rejected, which costs no training, for each one that may be trained.
_REJECTED = 20


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Args:
        trials: How many it may begin; those that are rejected and the final ones not counted.
        epochs: Of all trials together; None for no limit.
        seconds: Wall time, over all processes that do it one after the other; None for no limit.
        workers: How many trials are done at once.
    """

    trials: int
    epochs: int | None = None
    seconds: float | None = None
    workers: int = 1

    def allows(self, trials: Sequence[Trial], rules: Rules, left: float) -> bool:
        """Returns whether the search may begin one more trial of its own.

        Args:
            trials: All so far.
            rules: How many finals there may be.
            left: Seconds until the time is over.
        """
        own = [trial for trial in trials if trial.kind != "final"]
        rejected = sum(trial.state == "REJECTED" for trial in own)
        if len(own) - rejected >= self.trials or rejected >= _REJECTED * self.trials:
            return False
        if self.seconds is None:
            return True
        per_epoch = [t.seconds / len(t.objective) for t in own if t.ended and t.objective]
        whole = max(per_epoch, default=0.0) * rules.epochs
        # For one more and for the finals, which take no more than half of it.
        needed = whole * (1 + rules.most / self.workers)
        return left > min(needed, self.seconds / 2)

    def affords(self, trials: Sequence[Trial], rules: Rules) -> bool:
        """Returns whether the epochs suffice for all trials, the last of them new, and the finals."""
        if self.epochs is None:
            return True
        return sum(map(_epochs, trials)) + rules.most * rules.epochs <= self.epochs

    def hopeless(self, trials: Sequence[Trial]) -> str | None:
        """Returns what is wrong where many trials have ended, and none of them well."""
        states = [trial.state for trial in trials]
        if "COMPLETED" in states:
            return None
        for state, most in (("FAILED", _HOPELESS), ("REJECTED", max(_REJECTED, self.trials))):
            if states.count(state) >= most:
                last = [trial for trial in trials if trial.state == state][-1]
                return (
                    f"none of {len(states)} trials has a score, {most} are {state}; the last, "
                    f"{last.id} with {_said(last.values)}: {last.reason}"
                )
        return None


def _epochs(trial: Trial) -> int:
    """Returns the epochs that a trial took, or will take."""
    if trial.state in ("RUNNING", "COMPLETED"):
        return trial.epochs - trial.first_epoch
    return len(trial.objective)


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
