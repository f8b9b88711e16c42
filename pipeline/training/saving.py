"""What a training keeps of itself, and where it goes back to when it is no longer in order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.training.checkpoint import Checkpoint, Checkpoints, UnwrittenError
from pipeline.training.health import History, Rollback

_ROLLBACKS = "rollbacks.json"


class Saving:
    """Checkpoints and rollbacks of one training, of which the first worker alone writes.

    A rollback goes back to the newest checkpoint that was written in good order at a step that the
    training itself determines, and not at one at which it was told to stop. So it goes to the same
    step whether or not the training was stopped in between.

    Args:
        directory: Where the checkpoints are; it need not exist.
        fingerprint: What the training depends on, as a digest.
        keep_last: How many are kept, apart from those that are needed for something.
        say: Prints a line for the person who watches.
        writes: Whether this process is the one that writes.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        keep_last: int,
        say: Callable[[str], None],
        writes: bool,
    ):
        self.directory = directory
        self.history = History(directory / _ROLLBACKS, writes)
        self.good: int | None = None
        self._checkpoints = Checkpoints(directory, fingerprint, keep_last, say)
        self._say = say
        self._writes = writes
        self._unwritten: Checkpoint | None = None

    def latest(self) -> Checkpoint | None:
        """Returns the checkpoint to go on from.

        Raises:
            DataError: It belongs to another training.
        """
        found, last = self._checkpoints.latest(), self.history.last
        if found is None:
            self.history.clear()
            return None
        if last and found.facts["rollbacks"] < len(self.history) and found.step > last.to:
            # Killed after the rollback was noted, before what it undid was removed.
            found = self._checkpoints.latest(last.to)
        self.good = found.facts["good"] if found else None
        return found

    def load(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step that was saved as one to be kept."""
        if self._unwritten and self._unwritten.step == step:
            return self._unwritten
        return self._checkpoints.load(step)

    def save(
        self,
        step: int,
        tensors: dict[str, np.ndarray],
        facts: dict[str, Any],
        good: bool,
        keep: int | None,
    ) -> None:
        """Writes a checkpoint.

        Args:
            step: Steps done.
            tensors: Every variable by name.
            facts: What else belongs to it, as JSON values.
            good: Whether a rollback may go back to it.
            keep: A step whose checkpoint stays, however old it is.

        Raises:
            UnwrittenError: It could not be written, and the others are as they were. If it is the
                one to keep, it is in memory.
        """
        before = self.good
        self.good = step if good else before
        if not self._writes:
            return
        facts = {**facts, "good": self.good, "rollbacks": len(self.history)}
        try:
            protected = [step for step in (keep, self.good) if step is not None]
            self._checkpoints.save(step, tensors, facts, protected)
        except UnwrittenError:
            self.good = before
            if step == keep:
                self._unwritten = Checkpoint(step, tensors, facts)
            raise

    def go_back(self) -> Checkpoint | None:
        """Returns the checkpoint that a rollback goes back to, or None where there is none."""
        return None if self.good is None else self._checkpoints.latest(self.good)

    def note(self, rollback: Rollback) -> None:
        """Notes a rollback, and removes the checkpoints that it undoes."""
        self.history.add(rollback)
        self.good = rollback.to
        if self._unwritten and self._unwritten.step > rollback.to:
            self._unwritten = None
        if self._writes:
            self._checkpoints.remove_after(rollback.to)
