"""Whether a model may be pushed: what the run that made it, or the push before, found of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.store import Store
from pipeline.serving import versions
from pipeline.serving.versions import WARMUP

_SERVING = "Format-Serving"
_VALIDATORS = {"blessing": "Evaluator", "infra_blessing": "InfraValidator"}


@dataclass(frozen=True)
class Found:
    """A model, and what is known of it.

    Args:
        model: The directory with `saved_model.pb`.
        name: The name of the run that made it, or under which it was pushed, or None.
        missing: Why it does not count as blessed, in a few words each; empty when it does.
        record: What a push writes down with it.
        warmup: The warmup requests that InfraValidator made for it, or None.
    """

    model: Path
    name: str | None
    missing: tuple[str, ...]
    record: dict[str, Any] = field(default_factory=dict)
    warmup: Path | None = None


def find(model: Path) -> Found:
    """Returns what is known of the model that `model` means.

    Blessings are those of these very bytes: of a model artifact of a run, or of a version that was
    pushed, as long as its files are what they were.

    Args:
        model: A directory with a `saved_model.pb`, one of version directories, or a Model artifact
            of a run.

    Raises:
        UsageError: There is no model.
        DataError: A record is damaged.
    """
    serving = model / _SERVING if (model / _SERVING).is_dir() else versions.resolve(model)
    artifact = serving.absolute().parent
    root = artifact.parents[2] if len(artifact.parents) > 2 else artifact
    if serving.name == _SERVING and Store(root).exists:
        return _made(serving, artifact, root)
    record = versions.record(serving)
    if not record.get("blessed"):
        return Found(serving, record.get("name"), ("no run of this pipeline blessed it",), record)
    if record.get("digest") != versions.digest(serving):
        return Found(serving, record.get("name"), ("it was changed after it was blessed",))
    return Found(serving, record.get("name"), (), record)


def _made(serving: Path, artifact: Path, root: Path) -> Found:
    """Returns what the run below `root` found of the model that it made."""
    digest = files.tree_digest(artifact)
    verdicts = {
        key: _verdict(Store(root), component, digest) for key, component in _VALIDATORS.items()
    }
    missing = tuple(
        f"{_VALIDATORS[key]} {'did not look at it' if verdict is None else 'did not bless it'}"
        for key, verdict in verdicts.items()
        if verdict is None or verdict["blessing"].properties.get("blessed") != 1
    )
    evaluation = (verdicts["blessing"] or {}).get("evaluation")
    record = {
        "blessed": not missing,
        "run": root.name,
        "sources": {
            "model": digest,
            **{key: found["blessing"].digest for key, found in verdicts.items() if found},
        },
        "metrics": dict(evaluation.properties) if evaluation else {},
    }
    infra = verdicts["infra_blessing"]
    warmup = infra["blessing"].uri / WARMUP if infra else None
    return Found(serving, root.name, missing, record, warmup)


def _verdict(store: Store, component: str, digest: str) -> dict[str, Artifact] | None:
    """Returns what `component` wrote of this model the last time that it looked at it."""
    for execution in store.completed(component):
        if execution.dependencies.get("inputs", {}).get("model") == digest:
            return execution.outputs
    return None
