"""One trial: through the same training loop as Trainer, in the process that calls it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.components import trainer
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.records import manifest
from pipeline.tuning import constraints, space
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.trial import Trial

# A trial is killed, or goes on as another one; it never goes back further than to the last.
_KEEP_LAST = 1


class TimeOverError(Exception):
    """The time of the search is over, and with it the trial."""


class RejectedError(Exception):
    """A constraint does not allow the network; the message says which."""


class Reports(Protocol):
    """Receives what is known of a trial while it goes on."""

    def measured(self, parameters: int, macs: int | None) -> None:
        """Notes how large the network is."""

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Notes what was measured after an epoch, counted from 1."""


def whole(parameters: Parameters) -> TrainerParameters:
    """Returns Trainer's parameters as a trial has them where the space says nothing.

    Args:
        parameters: Those of Tuner, with Trainer's.
    """
    changes: dict[str, Any] = {"keep_last": _KEEP_LAST, "profile_steps": None}
    if parameters.epochs is not None:
        changes["epochs"] = parameters.epochs
    if parameters.trainer.strategy == "multi_worker":
        # A trial has one process; the batch is the same.
        changes["strategy"] = "mirrored"
    return replace(parameters.trainer, **changes)


def train(
    trial: Trial,
    inputs: dict[str, Artifact],
    parameters: Parameters,
    state: Path,
    reports: Reports,
    remaining: Callable[[], float] = lambda: math.inf,
) -> dict[str, float]:
    """Trains the network of a trial, and returns what the weights that would be exported reach.

    Args:
        trial: The trial.
        inputs: `examples` and `statistics`, as Trainer has them.
        parameters: Those of Tuner, with Trainer's.
        state: Where the training keeps its checkpoints.
        reports: Receives what is known while it goes on.
        remaining: Returns the seconds until the time of the search is over.

    Raises:
        RejectedError: A constraint does not allow the network.
        TimeOverError: The time of the search is over.
        PipelineError: It failed, for lack of memory or because values do not go together.
        Stopped: The process was told to end; the same call goes on from there.
    """
    from pipeline.training import session

    # The configuration is trained as it is, with what cannot be written down, too.
    own = {} if trial.kind == "default" else trial.values
    settled = replace(space.apply(whole(parameters), own), seed=trial.seed)
    root = inputs["examples"].uri
    contents = manifest.load(root)
    cost = constraints.measure(settled, len(contents.classes))
    reports.measured(cost.parameters, cost.macs)
    if found := constraints.reason(cost, parameters):
        raise RejectedError(found)
    expected = trainer.preprocessing(settled, inputs)

    def progress(done: float, total: float, **figures: float) -> None:
        if remaining() <= 0:
            raise TimeOverError
        # What is said before the first step is of an earlier evaluation.
        if figures.pop("input_wait", None) is not None and done * trial.epochs % total == 0:
            reports.epoch(int(done * trial.epochs // total), figures)

    context = Context("tuner", progress=progress, say=print, state=state)
    try:
        return session.measure(root, contents, settled, expected, context, trial.epochs)
    except FloatingPointError as error:
        raise PipelineError(str(error)) from None


def settled_epochs(parameters: Parameters) -> int:
    """Returns the epochs of a whole trial."""
    from pipeline.training import recipe

    return recipe.settle(whole(parameters))[0].epochs
