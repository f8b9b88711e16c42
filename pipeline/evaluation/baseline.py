"""The model in production, which a candidate is compared with. Needs no TensorFlow."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, UsageError
from pipeline.serving import labels, versions
from pipeline.sources import uris

_CHUNK = 1 << 20


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
        return _find_remote(base, candidate)
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


def _find_remote(base: str, candidate: str) -> Baseline | None:
    from pipeline.serving import remote

    scheme = base.partition("://")[0]
    if not uris.has_system(scheme):
        raise UsageError(f"{base!r}: Apache Beam has no file system for {scheme}://")
    try:
        known = {info.number: info for info in remote.describe(base) if info.is_whole}
    except UsageError:
        return None  # nothing was pushed there yet
    # What somebody put there by hand has no record; its number has to do.
    digests = {
        f"{base}/{number}": known[number].record.get("digest", f"version {number}")
        for number in remote.served(base)
        if number in known
    }
    return _first(digests, digests.__getitem__, candidate)


def _first(places: Iterable[Any], digest: Callable[[Any], str], candidate: str) -> Baseline | None:
    """Returns the first place whose content is not the candidate's."""
    for place in places:
        found = digest(place)
        if found != candidate:
            return Baseline(place, found)
    return None


@contextlib.contextmanager
def local(baseline: Baseline) -> Iterator[Path]:
    """Yields a directory with the files of a baseline: its own, or a copy for as long as needed.

    Raises:
        DataError: What was downloaded is not what was pushed.
    """
    if isinstance(baseline.place, Path):
        yield baseline.place
        return
    with tempfile.TemporaryDirectory(prefix="baseline-") as folder:
        _download(baseline.place, Path(folder))
        found = versions.digest(Path(folder))
        if found != baseline.digest and not baseline.digest.startswith("version "):
            raise DataError(
                f"{baseline.place}: its files have the digest {found[:12]}, and those that were "
                f"pushed {baseline.digest[:12]}; push again, or compare with another version"
            )
        yield Path(folder)


def _download(uri: str, folder: Path) -> None:
    import glob

    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    (found,) = FileSystems.match([f"{glob.escape(uri)}/**"])
    for metadata in found.metadata_list:
        path = folder / metadata.path[len(uri) + 1 :]
        path.parent.mkdir(parents=True, exist_ok=True)
        source = FileSystems.open(metadata.path, compression_type=CompressionTypes.UNCOMPRESSED)
        with source, path.open("wb") as copy:
            while chunk := source.read(_CHUNK):
                copy.write(chunk)
