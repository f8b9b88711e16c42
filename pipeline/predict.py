"""Predictions for files that a person has, as lines to print."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import UsageError
from pipeline.serving import versions

if TYPE_CHECKING:
    from pipeline.serving import Client

_BATCH = 32
_UNREADABLE = "unreadable"


class Answer(NamedTuple):
    """What the model says of one file.

    Args:
        classes: The most probable, best first.
        scores: Their probabilities.
        error: Why the file is bad, empty where it is good.
    """

    classes: Sequence[str]
    scores: Sequence[float]
    error: str


def files(images: Sequence[Path]) -> list[Path]:
    """Returns the files that are named, and the images below the folders that are.

    Raises:
        UsageError: One is not there, or a folder has no images.
    """
    found: list[Path] = []
    for image in images:
        if image.is_dir():
            found += _below(image)
        elif image.is_file():
            found.append(image)
        else:
            raise UsageError(f"image {str(image)!r}: no such file")
    return found


def locally(images: Sequence[Path], model: Path, top: int) -> Iterator[Answer]:
    """Yields what a model on this machine says of each file.

    Args:
        images: Existing files.
        model: A model directory, or one version of it.
        top: How many classes it has to name.

    Raises:
        UsageError: There is no such model, or it names fewer than `top` classes.
    """
    versions.resolve(model)  # before TensorFlow takes its seconds
    from pipeline.serving import predictor
    from pipeline.sources import uris

    loaded = predictor.Predictor(model)
    _require(loaded.top, top)
    for start in range(0, len(images), _BATCH):
        contents: list[bytes] = []
        refused: list[str] = []
        for path in images[start : start + _BATCH]:
            try:
                contents.append(uris.read(str(path)))
                refused.append("")
            except uris.BadFileError as error:
                contents.append(b"")
                refused.append(str(error))
        prediction = loaded(contents)
        rows = zip(prediction.classes, prediction.scores.tolist(), prediction.errors, strict=True)
        for reason, (classes, scores, error) in zip(refused, rows, strict=True):
            yield Answer(classes, scores, reason or error)


def remotely(images: Sequence[Path], client: "Client", top: int) -> Iterator[Answer]:
    """Yields what a model on a server says of each file.

    Args:
        images: Existing files.
        client: Asks the server.
        top: How many classes it has to name.

    Raises:
        UsageError: The server has no such model, or it names fewer than `top` classes.
        ServingError: The server gives no answer.
    """
    for row in client.predict(images):
        if not row.error:
            _require(len(row.classes), top)
        yield Answer(row.classes, row.scores, row.error)


def lines(
    images: Sequence[Path], answers: Iterator[Answer], top: int
) -> Iterator[tuple[str, bool]]:
    """Yields a line for each file, and whether it could be classified.

    Args:
        images: The files.
        answers: One for each of them.
        top: The number of classes shown of each.
    """
    width = max(len(str(image)) for image in images)
    for path, (classes, scores, error) in zip(images, answers, strict=True):
        if error == _UNREADABLE:
            yield f"{path}: cannot be read", False
        elif error:
            yield f"{path}: not an image that can be decoded ({error})", False
        else:
            best = islice(zip(classes, scores, strict=True), top)
            named = "  ".join(f"{name} {score:.2%}" for name, score in best)
            yield f"{path!s:<{width}}  {named}", True


def _require(has: int, top: int) -> None:
    if top > has:
        raise UsageError(f"--top {top}: the model names the {has} most probable classes")


def _below(folder: Path) -> list[Path]:
    from pipeline.sources import uris
    from pipeline.sources.folder import EXTENSIONS

    found = [
        folder.joinpath(*parts)
        for parts in uris.files_below(str(folder))
        if parts[-1].lower().endswith(EXTENSIONS)
    ]
    if not found:
        some = ", ".join(EXTENSIONS[:6])
        raise UsageError(f"folder {str(folder)!r}: no images; expected names in {some} and so on")
    return found
