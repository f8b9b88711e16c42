"""One training: what it needs is opened and held, and what ends it early is explained."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from pipeline.components.trainer import Parameters
from pipeline.errors import Stopped, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.records.manifest import Manifest
from pipeline.training import determinism, recipe, records, shortage, strategy
from pipeline.training.course import Trained, Training
from pipeline.training.feeding import mismatch
from pipeline.training.interruption import Interruption
from pipeline.training.preprocessing import Preprocessing

# What TensorFlow raises when another worker has died.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def train(
    root: Path,
    contents: Manifest,
    parameters: Parameters,
    expected: Preprocessing,
    destination: Path,
    context: Context,
) -> Trained:
    """Trains on the split `train`, and evaluates on `eval`, if there is one, after every epoch.

    Goes on from the last checkpoint in `context.state`.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        parameters: Those of Trainer.
        expected: What the network is to expect of its input.
        destination: Directory that receives the settings and the TensorBoard logs.
        context: Shows loss and accuracy while it works.

    Raises:
        DataError: The records do not match their manifest, or the checkpoints are of another
            training.
        UsageError: The recipe is not allowed, or its batch cannot be shared out among the replicas.
        PipelineError: The memory does not suffice, or the last checkpoint could not be written.
        Stopped: The process was told to end, or another worker has gone.
        FloatingPointError: The training is not in order, and going back did not help.
    """
    with opened(root, contents, parameters, expected, context) as (training, interruption):
        training.run(interruption)
        return training.finish(destination)


def measure(
    root: Path,
    contents: Manifest,
    parameters: Parameters,
    expected: Preprocessing,
    context: Context,
    epochs: int,
) -> dict[str, float]:
    """Trains as `train` does, to the end of an epoch, and returns loss and accuracy.

    What is trained stays in `context.state`, from where more epochs may be asked for.

    Args:
        root: As in `train`.
        contents: As in `train`.
        parameters: As in `train`; the schedule is that of all their epochs.
        expected: As in `train`.
        context: As in `train`; there are no logs.
        epochs: Epochs to be done in all.

    Raises:
        What `train` raises.
    """
    with opened(root, contents, parameters, expected, context) as (training, interruption):
        return training.run(interruption, epochs, logged=False)


@contextlib.contextmanager
def opened(
    root: Path,
    contents: Manifest,
    parameters: Parameters,
    expected: Preprocessing,
    context: Context,
) -> Iterator[tuple[Training, Interruption]]:
    """Yields a training that may begin, and what notes that it is asked to stop.

    The arguments, and what is raised inside, are those of `train`.
    """
    settled, chosen_recipe = recipe.settle(parameters)
    notices = recipe.notices(parameters, chosen_recipe)
    parameters = settled
    chosen = strategy.make(parameters.strategy)
    replicas = chosen.num_replicas_in_sync
    if found := mismatch(chosen_recipe, replicas):
        raise UsageError(f"trainer.batch_size {parameters.batch_size}: {found}")
    deterministic = parameters.deterministic
    if deterministic is None:
        deterministic = not strategy.has_gpu()
    with contextlib.ExitStack() as stack:
        stack.enter_context(determinism.held(deterministic))
        interruption = stack.enter_context(Interruption())
        splits = {}
        for split in ("train", "eval"):
            if split == "train" or (split in contents.splits and contents.splits[split].examples):
                found = records.open_split(root, contents, split)
                splits[split] = stack.enter_context(contextlib.closing(found))
        state = context.state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_stopped_by_lost_worker(chosen))
        stack.enter_context(shortage.explained(parameters, chosen_recipe, replicas))
        yield (
            Training(
                chosen,
                splits,
                contents,
                parameters,
                chosen_recipe,
                notices,
                expected,
                deterministic,
                state,
                context,
            ),
            interruption,
        )


@contextlib.contextmanager
def _stopped_by_lost_worker(chosen: tf.distribute.Strategy) -> Iterator[None]:
    """Raises Stopped in place of what TensorFlow raises when another worker has died."""
    try:
        yield
    except _LOST_WORKER as error:
        if strategy.workers(chosen) == 1:
            raise
        raise Stopped(
            "another worker has gone; start all of them again, and the training goes on from its "
            f"last checkpoint ({str(error).strip().splitlines()[-1]})"
        ) from error
