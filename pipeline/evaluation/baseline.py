"""The model in production, which a candidate is compared with. Needs no TensorFlow."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.serving import labels, versions
from pipeline.sources import uris


@dataclass(frozen=True)
class Baseline:
    """A SavedModel to compare with.

    Args:
        place: Its directory, or the URI of that.
        digest: SHA-256 over the names and contents of its files.
    """

    place: Path | str
    digest: str


def as_place(value: Any) -> Any:
    """Returns a local place as a path, and a URI as the text that it is."""
    if value is None:
        return None
    text = uris.local(str(value))
    return text.rstrip("/") if uris.is_uri(text) else Path(text)


def find(base: Path | str, candidate: str) -> Baseline | None:
    """Returns what is served, or was before the candidate: never the candidate itself.

    That is the version with the label `stable`, else the highest; if its content is that of the
    candidate, the last that was `stable` before it with another content. So a model that was just
    pushed keeps being compared with the one that it replaced, and nothing changes until something
    else is served. Canaries, and what a rollback took out of service, are not compared with.

    Args:
        base: A directory of versions or the URI of one, or a SavedModel.
        candidate: The digest of the candidate.

    Raises:
        UsageError: Nothing here can read such URIs.
        DataError: The record of labels is damaged.
        PipelineError: The URI cannot be read.
    """
    if isinstance(base, str):
        from pipeline.serving import remote

        served = remote.served(base)
        return _first(served, served.__getitem__, candidate)
    if (base / versions.SAVED_MODEL).is_file():
        digest = versions.digest(base)
        return Baseline(base, digest) if digest != candidate else None
    present = versions.versions(base)
    whole = [n for n in present if (base / str(n) / versions.SAVED_MODEL).is_file()]
    if not whole:
        return None
    return _first(
        [base / str(number) for number in labels.load(base, whole).served(whole)],
        versions.digest,
        candidate,
    )


def _first(places: Iterable[Any], digest: Callable[[Any], str], candidate: str) -> Baseline | None:
    """Returns the first place whose content is not the candidate's."""
    for place in places:
        found = digest(place)
        if found != candidate:
            return Baseline(place, found)
    return None


@contextlib.contextmanager
def local(baseline: Baseline, scratch: Path) -> Iterator[Path]:
    """Yields a directory with the files of a baseline: its own, or a copy for as long as needed.

    Args:
        baseline: The model.
        scratch: Receives the copy; on a cluster all workers see it.

    Raises:
        DataError: What was downloaded is not what was pushed.
    """
    if isinstance(baseline.place, Path):
        yield baseline.place
        return
    from pipeline.serving import remote

    with tempfile.TemporaryDirectory(prefix=".baseline-", dir=scratch) as folder:
        Path(folder).chmod(0o755)  # workers of a cluster may be another user's
        remote.download(baseline.place, baseline.digest, Path(folder))
        yield Path(folder)
