"""Pusher: puts a blessed model where TF Serving looks for versions, whole or not at all."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pipeline import files
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Positive, parameters
from pipeline.serving import push, remote
from pipeline.serving.labels import STABLE, Label
from pipeline.serving.push import Pushed
from pipeline.serving.versions import WARMUP
from pipeline.sources import uris

OUTPUTS = {"pushed_model": "PushedModel"}

# The destination lies outside the store and may have been emptied, so that every run looks.
CACHEABLE = False


def as_destination(value: Any) -> Any:
    """Returns a local destination as a path, and a URI as the text that it is."""
    text = uris.local(str(value))
    return text.rstrip("/") if uris.is_uri(text) else Path(text)


Destination = Annotated[Path | str, BeforeValidator(as_destination)]


@parameters
class Parameters:
    """Where models are pushed to, and as what.

    Args:
        destination: The directory, or a URI that Beam can write to, that holds one directory per
            model, which in turn holds one directory per version.
        label: The label of the new version: `stable`, or `canary`, which leaves `stable` where it
            is.
        keep_last: The number of versions that stay; None keeps all. A version with a label, and the
            one that had it before, always stay.
        serving_root: The directory below which TF Serving sees the models; None keeps what
            `models.config` says, which is at first `/models`, as in TF Serving's container, or the
            URI of the destination.
    """

    destination: Destination = Path("saved_models")
    label: Label = STABLE
    keep_last: Positive | None = None
    serving_root: str | None = Field(default=None, min_length=1)


def check(parameters: Parameters) -> None:
    """Raises UsageError when the destination cannot be written to."""
    if isinstance(parameters.destination, Path):
        files.require_writable(parameters.destination, "destination")
        return
    scheme = parameters.destination.partition("://")[0]
    if not uris.has_system(scheme):
        raise UsageError(
            f"destination {parameters.destination!r}: Apache Beam has no file system for "
            f"{scheme}://; expected a directory"
        )


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Pushes the SavedModel of `inputs["model"]` when both blessings are positive.

    A model whose files equal those of the newest version is not pushed again, and one that a person
    took out of service is refused: running again would otherwise undo a rollback. The warmup requests
    of `inputs["infra_blessing"]` go with it; what `inputs["evaluation"]` measured, if given, is
    written down beside it.
    """
    for key in ("blessing", "infra_blessing"):
        if inputs[key].properties.get("blessed") != 1:
            raise PipelineError(
                f"nothing was pushed: {inputs[key].uri} holds no positive {inputs[key].type}"
            )
    record = {
        "blessed": True,
        "run": context.name,
        "sources": {key: artifact.digest for key, artifact in sorted(inputs.items())},
        "metrics": dict(inputs["evaluation"].properties) if "evaluation" in inputs else {},
    }
    pushed = push_to(
        inputs["model"].uri / "Format-Serving",
        parameters,
        context.name,
        record,
        inputs["infra_blessing"].uri / WARMUP,
    )
    written = outputs["pushed_model"]
    written.properties.update(
        pushed=int(pushed.is_new),
        pushed_destination=str(pushed.path),
        pushed_version=pushed.number,
        label=parameters.label,
        digest=pushed.digest,
    )
    files.write_json(written.uri / "pushed.json", written.properties)
    return Outcome(result_of(pushed, parameters.label))


def result_of(pushed: Pushed, label: str) -> str:
    """Returns what a push did, in one line."""
    if not pushed.is_new:
        return f"{pushed.path} holds this model already; it is {label}"
    removed = f", removed {', '.join(map(str, pushed.removed))}" if pushed.removed else ""
    return f"pushed {pushed.path} as {label}{removed}"


def push_to(
    model: Path,
    parameters: Parameters,
    name: str,
    record: dict[str, Any],
    warmup: Path | None = None,
    again: bool = False,
) -> Pushed:
    """Pushes the SavedModel `model` as the next version of `name`.

    Args:
        model: A directory with a `saved_model.pb`.
        parameters: Where to, and as what.
        name: The name of the model.
        record: What is written down with it.
        warmup: A file of warmup requests; by default the model's own.
        again: Whether a model that a person took out of service may be pushed again.
    """
    options = {
        "label": parameters.label,
        "warmup": warmup if warmup is not None and warmup.is_file() else None,
        "record": record,
        "keep_last": parameters.keep_last,
        "serving_root": parameters.serving_root,
        "again": again,
    }
    if isinstance(parameters.destination, Path):
        return push.push(model, parameters.destination / name, **options)
    return remote.push(model, f"{parameters.destination}/{name}", **options)
