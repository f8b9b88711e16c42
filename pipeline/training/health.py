"""Whether a training is still in order, and what was done where it was not."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pipeline import files
from pipeline.errors import DataError
from pipeline.training.reports import Progress

_SHOWN = 8  # images that a message names


@dataclass(frozen=True)
class Trouble:
    """What is wrong, and where it was seen.

    Args:
        what: For a person, such as `"the loss is nan"`.
        first: The first step that shows it, from 1.
        last: The last one.
    """

    what: str
    first: int
    last: int

    @property
    def where(self) -> str:
        """The steps, for a person."""
        if self.first == self.last:
            return f"step {self.first:,}"
        return f"steps {self.first:,} to {self.last:,}"


class Watch:
    """Judges every step.

    Out of order is a loss or a gradient that is no finite number, a loss scale of float16 below 1,
    and a loss that explodes: in so many steps on end it is more than so many times what it was in
    the first step, or what guessing gives where that is more. A healthy training may jump above
    that for a few steps while it warms up, but does not stay there; and late in a training, when
    the loss is small, a multiple of the loss itself would take every odd batch for an explosion.

    Args:
        classes: How many there are; guessing gives a cross-entropy of their logarithm.
        factor: Times that the loss is exceeded; None to let it explode.
        patience: Steps on end.
        sigmoids: Whether the loss is the mean of one sigmoid's per class; guessing gives log 2.
    """

    def __init__(
        self, classes: int, factor: float | None, patience: int, *, sigmoids: bool = False
    ):
        self._guessing = math.log(2 if sigmoids else classes)
        self._factor = factor
        self._patience = patience
        self._level: float | None = None
        self._streak = 0

    @property
    def state(self) -> dict[str, Any]:
        """What is to be remembered of earlier steps, as JSON values."""
        return {"level": self._level, "streak": self._streak}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._level, self._streak = state["level"], state["streak"]

    @property
    def calm(self) -> bool:
        """Whether the loss of the last step is not too great."""
        return not self._streak

    def judge(self, progress: Progress) -> Trouble | None:
        """Returns what is out of order in a round of steps, the first of it, or None."""
        before = progress.step - len(progress.losses)
        noted = zip(progress.losses.tolist(), progress.gradient_norms.tolist(), strict=True)
        skipping = progress.loss_scale is not None
        for step, (loss, norm) in enumerate(noted, before + 1):
            if skipping and not math.isfinite(norm):
                continue  # it changed nothing
            if not math.isfinite(loss):
                return Trouble(f"the loss is {loss}", step, step)
            if not math.isfinite(norm):
                return Trouble(f"the norm of the gradient is {norm}", step, step)
            if self._exploded(loss):
                limit = self._factor * self._level
                return Trouble(
                    f"the loss stays above {limit:.3g}, {self._factor:g} times what guessing gives",
                    step - self._patience + 1,
                    step,
                )
        if skipping and progress.loss_scale < 1.0:
            what = f"the loss scale of float16 fell to {progress.loss_scale:g}, below 1"
            return Trouble(what, before + 1, progress.step)
        return None

    def _exploded(self, loss: float) -> bool:
        if self._factor is None:
            return False
        if self._level is None:
            self._level = max(loss, self._guessing)
        self._streak = self._streak + 1 if loss > self._factor * self._level else 0
        return self._streak >= self._patience


def not_finite(tensors: dict[str, np.ndarray]) -> str | None:
    """Returns the name of the first tensor that holds something that is no finite number."""
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            return name
    return None


@dataclass(frozen=True)
class Rollback:
    """A return to an earlier checkpoint.

    Args:
        what: Why.
        first: The first step that showed it, from 1.
        last: The last one.
        to: Steps that are done at the checkpoint.
        images: The files of the first of these steps, in the order of the batch.
    """

    what: str
    first: int
    last: int
    to: int
    images: list[str]


class History:
    """The rollbacks of a training, in a file beside its checkpoints.

    A process that is killed after a rollback and before the next checkpoint leaves it to the one
    that goes on.

    Args:
        path: The file; it need not exist.
        writes: Whether this process is the one that writes it.
    """

    def __init__(self, path: Path, writes: bool):
        self.path = path
        self._writes = writes
        self._entries: list[Rollback] = []
        if path.is_file():
            try:
                self._entries = TypeAdapter(list[Rollback]).validate_json(path.read_bytes())
            except ValidationError as error:
                raise DataError(
                    f"{path}: is no list of rollbacks ({error.errors()[0]['msg']}); remove "
                    f"{path.parent} to begin anew"
                ) from None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All of them as JSON values."""
        return [asdict(entry) for entry in self._entries]

    @property
    def last(self) -> Rollback | None:
        """The latest one."""
        return self._entries[-1] if self._entries else None

    def add(self, rollback: Rollback) -> None:
        """Notes a rollback."""
        self._entries.append(rollback)
        self._write()

    def clear(self) -> None:
        """Forgets what belongs to a training that begins anew."""
        if self._entries:
            self._entries = []
            self._write()

    def _write(self) -> None:
        if self._writes:
            files.write_json(self.path, self.entries)


def given_up(
    trouble: Trouble, rollbacks: int, learning_rate: float, images: list[str], precision: str
) -> str:
    """Returns what is said when nothing more is tried.

    Args:
        trouble: The last one.
        rollbacks: How many there were before.
        learning_rate: With which it came.
        images: The files of its first step.
        precision: The policy that it was computed in.
    """
    shown = ", ".join(images[:_SHOWN])
    more = f" and {len(images) - _SHOWN:,} more" if len(images) > _SHOWN else ""
    tried = "no rollback is allowed" if not rollbacks else "the only rollback did not help"
    if rollbacks > 1:
        tried = f"{rollbacks} rollbacks did not help"
    remedies = ["look at them", "lower trainer.learning_rate", "set trainer.clip_norm"]
    if precision != "float32":
        remedies.append("train in float32")
    return (
        f"{trouble.what} in {trouble.where}, at a learning rate of {learning_rate:.3g}; {tried}; "
        f"the images of step {trouble.first:,} were {shown}{more}; "
        f"{', '.join(remedies[:-1])} or {remedies[-1]}"
    )
