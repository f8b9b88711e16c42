"""Too little memory: what it was needed for, and what needs less."""

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from keras_resnet.recipes import Recipe
from pipeline.components.trainer import Parameters
from pipeline.errors import PipelineError
from pipeline.training.feeding import mismatch


@contextlib.contextmanager
def explained(parameters: Parameters, recipe: Recipe, replicas: int) -> Iterator[None]:
    """Raises PipelineError that says what to lower, in place of what an exhausted memory raises.

    Args:
        parameters: Those of Trainer, nothing left open.
        recipe: As it is trained.
        replicas: Replicas that share a batch.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise PipelineError(_advice(parameters, recipe, replicas, str(error))) from error


def _advice(parameters: Parameters, recipe: Recipe, replicas: int, error: str) -> str:
    share = recipe.batch_size // replicas
    examples = share // recipe.accumulate_steps
    height, width = parameters.image_size
    advice = []
    if parts := _more_parts(recipe, replicas):
        advice.append(
            f"set trainer.accumulate_steps to {parts}, which computes the same step with "
            f"{share // parts} at once"
        )
    if examples > 1:
        advice.append("lower trainer.batch_size")
    advice.append("lower trainer.image_size")
    if parameters.precision == "float32":
        advice.append("set trainer.precision to mixed_bfloat16")
    elif parameters.precision == "auto":
        advice.append("set trainer.precision to mixed_bfloat16 where float32 was chosen")
    if parameters.cache_mb:
        advice.append(f"lower trainer.cache_mb, which is {parameters.cache_mb:,}")
    # The rest of the message is TensorFlow's account of every operation and allocation.
    lines = error.strip().splitlines() or ["the system has no more to give"]
    said = next((line.strip() for line in lines if "OOM" in line), lines[0])
    return (
        f"out of memory with {examples} images of {height} by {width} pixels at once on each of "
        f"{replicas} replica{'s' if replicas > 1 else ''}, trainer.precision "
        f"{parameters.precision} ({said}); {'; '.join(advice)}"
    )


def _more_parts(recipe: Recipe, replicas: int) -> int | None:
    """Returns the parts, at least twice as many, that a batch can be computed in; None for none."""
    for parts in range(2 * recipe.accumulate_steps, recipe.batch_size // replicas + 1):
        if not mismatch(dataclasses.replace(recipe, accumulate_steps=parts), replicas):
            return parts
    return None
