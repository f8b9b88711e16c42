"""Predictions for files that a person has, as lines to print."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipeline import quiet
from pipeline.errors import UsageError
from pipeline.serving import versions

_BATCH = 32


def lines(images: Sequence[Path], model: Path, top: int) -> Iterator[tuple[str, bool]]:
    """Yields a line for each file, and whether it could be classified.

    Args:
        images: Existing files.
        model: A model directory, or one version of it.
        top: The number of classes shown of each.

    Raises:
        UsageError: There is no such model, or it names fewer than `top` classes.
    """
    versions.resolve(model)  # before TensorFlow takes its seconds
    quiet.tensorflow()
    from pipeline.serving import predictor

    loaded = predictor.Predictor(model)
    if top > loaded.top:
        raise UsageError(f"--top {top}: the model names the {loaded.top} most probable classes")
    width = max(len(str(image)) for image in images)
    for start in range(0, len(images), _BATCH):
        chunk = images[start : start + _BATCH]
        prediction = loaded([path.read_bytes() for path in chunk])
        answers = zip(prediction.classes, prediction.scores.tolist(), strict=True)
        for path, error, answer in zip(chunk, prediction.errors, answers, strict=True):
            if error:
                yield f"{path}: not an image that can be decoded ({error})", False
            else:
                best = zip(*answer, strict=True)
                classes = "  ".join(f"{name} {score:.2%}" for name, score in islice(best, top))
                yield f"{path!s:<{width}}  {classes}", True
