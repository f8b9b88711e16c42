"""Pusher: puts a blessed model where TF Serving looks for versions, whole or not at all."""

import shutil
from pathlib import Path

from pipeline import files
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import parameters
from pipeline.serving.versions import SAVED_MODEL, versions

OUTPUTS = {"pushed_model": "PushedModel"}

# The destination lies outside the store and may have been emptied, so that every run looks.
CACHEABLE = False

_LOCK = ".lock"


@parameters
class Parameters:
    """Where models are pushed to.

    Args:
        destination: The directory that holds one directory per model, which in turn holds one
            directory per version.
    """

    destination: Path = Path("saved_models")


def check(parameters: Parameters) -> None:
    """Raises UsageError when the destination cannot be written to."""
    files.require_writable(parameters.destination, "destination")


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Pushes the SavedModel of `inputs["model"]` when both blessings are positive.

    A model whose files equal those of the newest version is not pushed again.
    """
    for key in ("blessing", "infra_blessing"):
        if inputs[key].properties.get("blessed") != 1:
            raise PipelineError(
                f"nothing was pushed: {inputs[key].uri} holds no positive {inputs[key].type}"
            )
    model = inputs["model"].uri / "Format-Serving"
    version, is_new = push(model, parameters.destination / context.name)
    record = outputs["pushed_model"]
    record.properties.update(
        pushed=int(is_new),
        pushed_destination=str(version),
        pushed_version=int(version.name),
    )
    files.write_json(record.uri / "pushed.json", record.properties)
    if is_new:
        return Outcome(f"pushed {version}")
    return Outcome(f"{version} holds this model already")


def push(model: Path, base: Path) -> tuple[Path, bool]:
    """Copies the SavedModel `model` to `base` under the next version number.

    TF Serving loads the highest number that it sees, complete or not: the copy is made under a
    name that is no number, flushed to the disk, and gets its number by one rename. Pushes to one
    `base` wait for each other, and an equal model is pushed once.

    Args:
        model: A directory with a `saved_model.pb`.
        base: The directory of the model's versions; made when it is missing.

    Returns:
        The directory of the version, and whether it is new.

    Raises:
        PipelineError: `model` is no SavedModel, or the copy differs from it.
    """
    if not (model / SAVED_MODEL).is_file():
        raise PipelineError(f"{model}: no SavedModel; expected a file {SAVED_MODEL} in it")
    digest = files.tree_digest(model)
    with files.locked(base / _LOCK):
        # Whoever holds the lock is alone, so what is left here belongs to pushes that died.
        for leftover in base.glob(".tmp-*"):
            shutil.rmtree(leftover)
        present = versions(base)
        if present and files.tree_digest(base / str(present[-1])) == digest:
            return base / str(present[-1]), False
        version = base / str(present[-1] + 1 if present else 1)
        with files.staged_directory(version) as staging:
            shutil.copytree(model, staging, dirs_exist_ok=True)
            if files.tree_digest(staging) != digest:
                raise PipelineError(f"{model}: changed while it was copied to {base}; push again")
        return version, True
