"""The model in production, which a candidate is compared with. Needs no TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.serving import labels, versions


@dataclass(frozen=True)
class Baseline:
    """A SavedModel to compare with.

    Args:
        path: Its directory.
        digest: SHA-256 over the names and contents of its files.
    """

    path: Path
    digest: str


def find(base: Path, candidate: str) -> Baseline | None:
    """Returns what is served, or was before the candidate: never the candidate itself.

    That is the version with the label `stable`, else the highest; if its content is that of the
    candidate, the newest one below it with another content. So a model that was just pushed keeps
    being compared with the one that it replaced, and nothing changes until something else is
    served.

    Args:
        base: A directory of versions, or a SavedModel.
        candidate: The digest of the candidate.

    Raises:
        DataError: The record of labels is damaged.
    """
    if (base / versions.SAVED_MODEL).is_file():
        digest = versions.digest(base)
        return Baseline(base, digest) if digest != candidate else None
    present = versions.versions(base)
    whole = [n for n in present if (base / str(n) / versions.SAVED_MODEL).is_file()]
    if not whole:
        return None
    served = labels.load(base, whole).labels.get(labels.STABLE, whole[-1])
    for number in reversed(whole):
        if number <= served:
            version = base / str(number)
            digest = versions.digest(version)
            if digest != candidate:
                return Baseline(version, digest)
    return None
