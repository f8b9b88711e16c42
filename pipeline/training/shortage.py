"""Too little memory: what it was needed for, and what needs less."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from pipeline.components.trainer import Parameters
from pipeline.errors import PipelineError


@contextlib.contextmanager
def explained(parameters: Parameters, replicas: int) -> Iterator[None]:
    """Raises PipelineError that says what to lower, in place of what an exhausted memory raises.

    Args:
        parameters: Those of Trainer, nothing left open.
        replicas: Replicas that share a batch.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise PipelineError(_advice(parameters, replicas, str(error))) from error


def _advice(parameters: Parameters, replicas: int, error: str) -> str:
    parts = parameters.accumulate_steps
    examples = parameters.batch_size // (replicas * parts)
    height, width = parameters.image_size
    advice = []
    if examples > 1:
        advice.append(
            f"set trainer.accumulate_steps to {2 * parts}, which computes the same step with half "
            "as many images at once, or lower trainer.batch_size"
        )
    advice.append("lower trainer.image_size")
    if parameters.precision in ("auto", "float32"):
        advice.append("set trainer.precision to mixed_bfloat16")
    if parameters.cache_mb:
        advice.append(f"lower trainer.cache_mb, which is {parameters.cache_mb:,}")
    # The rest of the message is TensorFlow's account of every operation and allocation.
    first = error.strip().splitlines()[0] if error.strip() else "the system has no more to give"
    return (
        f"out of memory with {examples} images of {height} by {width} pixels at once on each of "
        f"{replicas} replica{'s' if replicas > 1 else ''}, trainer.precision "
        f"{parameters.precision} ({first}); {'; '.join(advice)}"
    )
