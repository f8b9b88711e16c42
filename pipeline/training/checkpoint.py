"""Checkpoints: directories that appear whole, are verified when they are written and when they are
read, and of which a damaged one gives way to the one before.

Layout:

    step-00001200/tensors.safetensors   every variable
    step-00001200/checkpoint.json       the step, the digest of the tensors, and what belongs to it
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from pipeline import files
from pipeline.errors import DataError, PipelineError

_TENSORS = "tensors.safetensors"
_FACTS = "checkpoint.json"
_FORMAT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MIB = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Args:
        step: Steps done.
        tensors: Every variable by name.
        facts: What else belongs to it, as JSON values.
    """

    step: int
    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]


class UnwrittenError(PipelineError):
    """A checkpoint could not be written; the others are as they were."""


class _DamagedError(Exception):
    """A checkpoint is not what was written; the message says in what."""


class Checkpoints:
    """The checkpoints of one training.

    Args:
        directory: Where they are; it need not exist.
        fingerprint: What the training depends on, as a digest.
        keep_last: How many are kept, apart from protected ones.
        say: Prints a line for the person who watches.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        keep_last: int,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.directory = directory
        self._fingerprint = fingerprint
        self._keep_last = keep_last
        self._say = say

    def steps(self) -> list[int]:
        """Returns the steps of which there are checkpoints, whether whole or damaged, in order."""
        if not self.directory.is_dir():
            return []
        names = (path.name for path in self.directory.iterdir())
        numbers = (name.removeprefix("step-") for name in names if name.startswith("step-"))
        return sorted(int(number) for number in numbers if number.isdecimal())

    def latest(self, until: int | None = None) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole, or None; says which ones are not.

        Args:
            until: The last step that is wanted; None for any.

        Raises:
            DataError: It belongs to another training.
        """
        steps = [step for step in self.steps() if until is None or step <= until]
        for position, step in reversed(list(enumerate(steps))):
            try:
                return self._load(step)
            except _DamagedError as damage:
                before = f"that of step {steps[position - 1]:,}" if position else "the beginning"
                self._say(f"{self._path(step)}: {damage}; going back to {before}")
        return None

    def load(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step.

        Raises:
            DataError: It is missing, damaged, or belongs to another training.
        """
        try:
            return self._load(step)
        except _DamagedError as damage:
            raise DataError(f"{self._path(step)}: {damage}; start the training anew") from None

    def save(
        self,
        step: int,
        tensors: dict[str, np.ndarray],
        facts: dict[str, Any],
        protected: Iterable[int] = (),
    ) -> None:
        """Writes a checkpoint beside the others, checks it, lets it appear, and removes old ones.

        Args:
            step: Steps done.
            tensors: Every variable by name.
            facts: What else belongs to it, as JSON values.
            protected: Steps whose checkpoints stay, however old they are.

        Raises:
            UnwrittenError: It could not be written, and the others are as they were.
        """
        if step in self.steps():
            try:
                self._load(step)
                return  # the same: it was gone on from, and no step has been done since
            except _DamagedError:
                self._remove([step])
        content = safetensors.numpy.save(tensors)
        record = {
            "format": _FORMAT,
            "step": step,
            "fingerprint": self._fingerprint,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "facts": facts,
        }
        try:
            self._sweep()
            with files.staged_directory(self._path(step)) as staging:
                files.write_bytes(staging / _TENSORS, content)
                files.write_json(staging / _FACTS, record)
                _verified(staging)
        except (OSError, _DamagedError) as error:
            raise UnwrittenError(self._failure(error, len(content))) from error
        kept = {*self.steps()[-self._keep_last :], *protected}
        self._remove([old for old in self.steps() if old not in kept])

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of all later steps."""
        self._remove([later for later in self.steps() if later > step])

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:08}"

    def _load(self, step: int) -> Checkpoint:
        record, content = _verified(self._path(step))
        if record["fingerprint"] != self._fingerprint:
            raise DataError(
                f"{self._path(step)}: belongs to a training on other data or with other "
                f"parameters; remove {self.directory} to begin anew"
            )
        return Checkpoint(record["step"], safetensors.numpy.load(content), record["facts"])

    def _remove(self, steps: list[int]) -> None:
        for step in steps:
            path = self._path(step)
            if path.exists():
                # Out of sight first, so that a kill never leaves half of one.
                hidden = path.with_name(f".tmp-removed-{path.name}")
                shutil.rmtree(hidden, ignore_errors=True)
                path.rename(hidden)
                shutil.rmtree(hidden)

    def _sweep(self) -> None:
        """Removes what killed processes left half written."""
        for path in self.directory.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _failure(self, error: Exception, size: int) -> str:
        steps = self.steps()
        intact = f"the checkpoint of step {steps[-1]:,} is intact" if steps else "there is no other"
        if isinstance(error, OSError) and error.errno in _FULL:
            nearest = next(p for p in (self.directory, *self.directory.parents) if p.exists())
            free = shutil.disk_usage(nearest).free
            what = (
                f"no space for a checkpoint of {size / _MIB:.1f} MiB ({free / _MIB:.1f} MiB free)"
            )
        else:
            what = f"a checkpoint could not be written ({error})"
        return (
            f"{self.directory}: {what}; {intact}; free some space and start again, and the "
            "training goes on from there"
        )


def _verified(path: Path) -> tuple[dict[str, Any], bytes]:
    """Returns record and tensors of a checkpoint whose bytes are those that were written."""
    try:
        record = json.loads((path / _FACTS).read_bytes())
        content = (path / _TENSORS).read_bytes()
        known = record["format"], record["bytes"], record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"cannot be read ({type(error).__name__}: {error})") from None
    if known[0] != _FORMAT:
        raise _DamagedError(f"has format {known[0]}, expected {_FORMAT}")
    if known[1:] != (len(content), hashlib.sha256(content).hexdigest()):
        raise _DamagedError(
            f"{_TENSORS} has {len(content)} bytes that are not the {known[1]} that were written"
        )
    return record, content
