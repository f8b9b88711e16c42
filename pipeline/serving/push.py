"""Puts models where TF Serving looks for versions, whole or not at all, and takes them back."""

import contextlib
import datetime
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import configs, labels, versions
from pipeline.serving.labels import STABLE, Label, Ledger
from pipeline.serving.versions import RECORD, SAVED_MODEL, WARMUP

_LOCK = ".lock"
_STAGED = ".tmp-"


@dataclass(frozen=True)
class Pushed:
    """What a push left.

    Args:
        path: The directory of the version, or its URI.
        number: Its number.
        is_new: Whether it was made; an equal model is pushed once.
        digest: SHA-256 over the names and contents of the model's files.
        removed: The versions that went because of `keep_last`.
    """

    path: Path | str
    number: int
    is_new: bool
    digest: str
    removed: tuple[int, ...] = ()


@dataclass(frozen=True)
class VersionInfo:
    """What is known of a version.

    Args:
        number: Its number.
        labels: Its labels.
        record: What was written down when it was pushed; empty for one put there by hand.
        bytes: The size of all its files.
        is_whole: Whether it can be loaded; what lies under a number without a SavedModel cannot.
        is_withdrawn: Whether a person took it out of service.
    """

    number: int
    labels: tuple[str, ...]
    record: Mapping[str, Any]
    bytes: int
    is_whole: bool
    is_withdrawn: bool


def push(
    model: Path,
    base: Path,
    *,
    label: Label = STABLE,
    warmup: Path | None = None,
    record: Mapping[str, Any] | None = None,
    keep_last: int | None = None,
    serving_root: str | None = None,
    again: bool = False,
) -> Pushed:
    """Copies the SavedModel `model` to `base` under the next version number.

    TF Serving loads the highest number that it sees, complete or not: the copy is made under a
    name that is no number, flushed to the disk, and gets its number by one rename. Pushes to one
    `base` wait for each other, an equal model is pushed once, and no number is given twice.

    Args:
        model: A directory with a `saved_model.pb`.
        base: The directory of the model's versions; made when it is missing.
        label: What the version is: `stable`, or `canary`, which leaves `stable` where it is.
        warmup: A file of warmup requests that goes with it; by default the model's own.
        record: JSON values that are written down with it, such as metrics.
        keep_last: The number of versions that stay; None keeps all. Labelled ones always stay.
        serving_root: The directory below which servers see models; see `configs.models_text`.
        again: Whether a model that a person took out of service may be pushed again.

    Raises:
        UsageError: `label` is `canary`, and the equal version is older than `stable`.
        PipelineError: `model` is no SavedModel, the copy differs from it, it cannot be written, or
            a rollback or a promotion took it out of service.
    """
    require_saved_model(model)
    digest = versions.digest(model)
    configs.check(base.parent)
    with _explained(base, "nothing was pushed"), files.locked(base / _LOCK):
        present, ledger = _look(base)
        number = _holding(base, present, ledger, digest, label)
        if not again:
            labels.require_in_favour(ledger, digest, label, number, base.name)
        is_new = number is None
        if number is None:
            number = ledger.next_number(base.name)
            described = record_of(base.name, number, digest, model, record)
            _publish(model, base, number, warmup or model / WARMUP, described, ledger)
        else:
            labels.require_promotable(ledger, present, label, number, base.name)
        ledger = ledger.moved(label, number).admitting(_digests(base))
        removed = _settle(base, ledger, [*present, number], keep_last, serving_root)
    return Pushed(base / str(number), number, is_new, digest, removed)


def rollback(
    base: Path, to: int | None = None, *, serving_root: str | None = None
) -> tuple[Pushed, int]:
    """Publishes the content of an earlier version under a new highest number, as `stable`.

    Servers follow the highest number, so that taking the newest away would not do for those that
    have loaded it, and a label alone not for requests that name none.

    Args:
        base: The directory of the model's versions.
        to: The version to go back to; by default the one that was `stable` before.
        serving_root: See `push`.

    Returns:
        The new version, and the one whose content it has.

    Raises:
        UsageError: There is no such version, or none before.
        DataError: Its files are no longer those that were pushed.
        PipelineError: It cannot be written.
    """
    _require_model(base)
    with _explained(base, "nothing was rolled back"), files.locked(base / _LOCK):
        present, ledger = _look(base)
        target = labels.rollback_target(
            ledger,
            _whole(base, present),
            to,
            _digests(base),
            base.name,
        )
        source = base / str(target)
        number = ledger.next_number(base.name)
        digest, record = versions.digest(source), versions.record(source)
        if record.get("digest", digest) != digest:
            raise DataError(
                f"{source}: is damaged, its files are not those of its record; --to names another "
                "version"
            )
        described = record_of(base.name, number, digest, source, record)
        described["republished_from"] = target
        _publish(source, base, number, source / WARMUP, described, ledger)
        after = ledger.rolled_back(target, number).withdrawing(ledger, _digests(base))
        _settle(base, after, [*present, number], None, serving_root)
    return Pushed(base / str(number), number, True, digest), target


def promote(base: Path, number: int, label: Label, *, serving_root: str | None = None) -> Ledger:
    """Gives `label` to version `number`, and returns the labels after that.

    Raises:
        UsageError: There is no such version, servers have not loaded it, or `canary` would be
            behind `stable`.
        PipelineError: The labels cannot be written.
    """
    _require_model(base)
    with _explained(base, "the labels are as they were"), files.locked(base / _LOCK):
        present, ledger = _look(base)
        labels.require_promotable(ledger, _whole(base, present), label, number, base.name)
        ledger = ledger.promoted(label, number, _digests(base))
        _settle(base, ledger, present, None, serving_root)
    return ledger


def require_saved_model(model: Path) -> None:
    """Raises PipelineError when `model` is no directory with a `saved_model.pb`."""
    if not (model / SAVED_MODEL).is_file():
        raise PipelineError(f"{model}: no SavedModel; expected a file {SAVED_MODEL} in it")


def describe(base: Path) -> list[VersionInfo]:
    """Returns the versions below `base`, lowest first.

    Raises:
        UsageError: There are none.
        DataError: A record or the labels are damaged.
    """
    _require_model(base)
    present = versions.versions(base)
    ledger = labels.load(base, present)
    return [
        VersionInfo(
            number=number,
            labels=ledger.of(number),
            record=versions.record(base / str(number)),
            bytes=sum(files.tree_listing(base / str(number)).values()),
            is_whole=(base / str(number) / SAVED_MODEL).is_file(),
            is_withdrawn=number in ledger.withdrawn.values(),
        )
        for number in present
    ]


def _require_model(base: Path) -> None:
    if not _whole(base, versions.versions(base)):
        raise UsageError(f"model {str(base)!r}: no versions there; `push` makes the first")


def _digests(base: Path) -> Callable[[int], str]:
    return lambda number: versions.digest(base / str(number))


def _whole(base: Path, present: list[int]) -> list[int]:
    """Returns the versions that have a SavedModel; others were put there by hand."""
    return [number for number in present if (base / str(number) / SAVED_MODEL).is_file()]


def _look(base: Path) -> tuple[list[int], Ledger]:
    """Returns the versions and the labels below `base`, after removing what dead pushes left."""
    # Whoever holds the lock is alone, so what is left here belongs to processes that died.
    for leftover in base.glob(f"{_STAGED}*"):
        shutil.rmtree(leftover)
    for leftover in base.glob(f".{labels.FILE}.*"):
        leftover.unlink()
    present = versions.versions(base)
    return present, labels.load(base, present)


def _holding(
    base: Path, present: list[int], ledger: Ledger, digest: str, label: Label
) -> int | None:
    """Returns the newest version, or the one that has the label, if it holds this model."""
    for number in {*present[-1:], ledger.labels.get(label)} - {None}:
        if versions.digest(base / str(number)) == digest:
            return number
    return None


def _publish(
    model: Path,
    base: Path,
    number: int,
    warmup: Path,
    record: Mapping[str, Any],
    ledger: Ledger,
) -> None:
    """Makes a copy of `model` appear as version `number`; holds the lock of `base`."""
    with files.staged_directory(base / str(number)) as staging:
        for source in sorted(model.rglob("*")):
            target = staging / source.relative_to(model)
            if source.is_dir():
                target.mkdir(exist_ok=True)
            else:
                shutil.copyfile(source, target)
        if versions.digest(staging) != record["digest"]:
            raise PipelineError(f"{model}: changed while it was copied to {base}; push again")
        (staging / RECORD).parent.mkdir(exist_ok=True)
        if warmup.is_file() and warmup != model / WARMUP:
            shutil.copyfile(warmup, staging / WARMUP)
        files.write_json(staging / RECORD, record)
        # Before the rename: a number that anybody may have seen is never given again.
        labels.save(base, replace(ledger, highest=number))


def _settle(
    base: Path,
    ledger: Ledger,
    present: list[int],
    keep_last: int | None,
    serving_root: str | None,
) -> tuple[int, ...]:
    """Writes labels and configuration, and then removes the versions that may go."""
    present = sorted(set(present))
    ledger = ledger.among(present)
    # A directory that only has a number for a name is somebody else's.
    removed = ledger.removable(_whole(base, present), keep_last)
    consequence = f"version {present[-1]} is whole, but labels or configuration are not up to date"
    with _explained(base, consequence):
        labels.save(base, ledger)
        configs.write(base.parent, serving_root)
        for number in removed:
            # The name goes first, so that nobody finds a part of a version under its number.
            trash = base / f"{_STAGED}{uuid.uuid4().hex}"
            (base / str(number)).rename(trash)
            files.fsync_directory(base)
            shutil.rmtree(trash)
        if removed:
            configs.write(base.parent, serving_root)
    return tuple(removed)


def record_of(
    name: str, number: int, digest: str, model: Path, more: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns what is written down with version `number` of the model `name`."""
    kept = {key: value for key, value in (more or {}).items() if key != "republished_from"}
    return {
        **kept,
        "name": name,
        "version": number,
        "digest": digest,
        "bytes": sum(
            size for path, size in files.tree_listing(model).items() if path not in (WARMUP, RECORD)
        ),
        "pushed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }


@contextlib.contextmanager
def _explained(base: Path, consequence: str) -> Iterator[None]:
    """Says what an error of the system means for the destination."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(
            f"{base}: cannot be written ({reason}): {consequence}; what was there before is "
            "untouched; make room or set the permissions, and do it again"
        ) from error
