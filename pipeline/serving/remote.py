"""Pushes to where no directory appears by one rename: object stores, through Beam's file systems.

There the order of writing says what is complete: a version counts from the moment its
`saved_model.pb` is there, and that is written when everything else has been read back and compared.
A number is taken by a claim, a small file of a name of its own that is written first and looked for
afterwards: of two that want one number the later one sees the earlier. This needs listings that
show what was written, which GCS, S3, Azure and HDFS give. Claims stay, so that no number is given
twice, and say where a push that died can go on.
"""

import contextlib
import hashlib
import json
import random
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import configs, labels, objects, versions
from pipeline.serving.labels import STABLE, Label, Ledger
from pipeline.serving.push import Pushed, VersionInfo, record_of, require_saved_model
from pipeline.serving.versions import RECORD, SAVED_MODEL, WARMUP

_CLAIM = re.compile(r"\.claims/(\d+)\.([0-9a-f]{64})\.[0-9a-f]{32}")
# What stands for the digest of a version that somebody put there by hand.
_NO_RECORD = "version"
# Seconds within which one that lost a number tries for the next.
_PATIENCE = 0.2


def push(
    model: Path,
    base: str,
    *,
    label: Label = STABLE,
    warmup: Path | None = None,
    record: Mapping[str, Any] | None = None,
    keep_last: int | None = None,
    serving_root: str | None = None,
    again: bool = False,
) -> Pushed:
    """Uploads the SavedModel `model` as the next version below the URI `base`.

    Files first, `saved_model.pb` last. A push that was interrupted goes on when it is started again
    with the same model; an equal model is pushed once. Several may push at once; of labels, which
    are one small file, the last writer's stand.

    Args:
        model: A directory with a `saved_model.pb`.
        base: The URI of the model's versions.
        label: See `push.push`, and so are the following.
        warmup: A file of warmup requests that goes with it; by default the model's own.
        record: JSON values that are written down with it.
        keep_last: The number of versions that stay.
        serving_root: As in `configs.models_text`; by default the URI that `base` lies in.
        again: Whether a model that a person took out of service may be pushed again.

    Raises:
        UsageError: Nothing here can write such URIs.
        PipelineError: `model` is no SavedModel, a person took it out of service, or the file system
            failed.
    """
    require_saved_model(model)
    content = versions.content(model)
    digest = versions.digest_of(content)
    objects.require_system(base)
    with _explained(base):
        whole, present, ledger = _look(base)
        equal = (
            number
            for number in sorted({*whole[-1:], ledger.labels.get(label)} - {None}, reverse=True)
            if _record(base, number).get("digest") == digest
        )
        number = next(equal, None)
        if not again:
            labels.require_in_favour(ledger, digest, label, number, _name(base))
        is_new = number is None
        if number is None:
            number = _number(base, digest)
        else:
            labels.require_promotable(ledger, whole, label, number, _name(base))
        if is_new or not _is_intact(f"{base}/{number}", model, content):
            described = record_of(_name(base), number, digest, model, record)
            _upload(model, f"{base}/{number}", content, warmup or model / WARMUP, described)
            whole, present, ledger = _look(base)
        ledger = ledger.moved(label, number).admitting(_digests(base))
        removed = _settle(base, ledger, present, keep_last, serving_root)
    return Pushed(f"{base}/{number}", number, is_new, digest, removed)


def rollback(
    base: str, to: int | None = None, *, serving_root: str | None = None
) -> tuple[Pushed, int]:
    """Publishes the content of an earlier version under a new highest number; see `push.rollback`.

    The version is downloaded and uploaded again, since not every file system copies by itself.
    """
    objects.require_system(base)
    with _explained(base), tempfile.TemporaryDirectory() as folder:
        whole, _, ledger = _look(base)
        _require_model(base, whole)
        target = labels.rollback_target(
            ledger,
            whole,
            to,
            _digests(base),
            _name(base),
        )
        copy, record = Path(folder), _record(base, target)
        download(f"{base}/{target}", _digests(base)(target), copy)
        content = versions.content(copy)
        digest = versions.digest_of(content)
        number = _number(base, digest)
        described = record_of(_name(base), number, digest, copy, record)
        described["republished_from"] = target
        _upload(copy, f"{base}/{number}", content, copy / WARMUP, described)
        _, present, ledger = _look(base)
        after = ledger.rolled_back(target, number).withdrawing(ledger, _digests(base))
        _settle(base, after, present, None, serving_root)
    return Pushed(f"{base}/{number}", number, True, digest), target


def promote(base: str, number: int, label: Label, *, serving_root: str | None = None) -> Ledger:
    """Gives `label` to version `number`, and returns the labels after that; see `push.promote`."""
    objects.require_system(base)
    with _explained(base):
        whole, present, ledger = _look(base)
        _require_model(base, whole)
        labels.require_promotable(ledger, whole, label, number, _name(base))
        ledger = ledger.promoted(label, number, _digests(base))
        _settle(base, ledger, present, None, serving_root)
    return ledger


def describe(base: str) -> list[VersionInfo]:
    """Returns the versions below `base`, lowest first; see `push.describe`."""
    objects.require_system(base)
    with _explained(base):
        whole, present, ledger = _look(base)
        _require_model(base, whole)
        sizes: dict[int, int] = dict.fromkeys(present, 0)
        for name, size in objects.listing(base).items():
            if (number := versions.number_of(name.partition("/")[0])) in sizes:
                sizes[number] += size
        return [
            VersionInfo(
                n,
                ledger.of(n),
                _record(base, n),
                sizes[n],
                n in whole,
                n in ledger.withdrawn.values(),
            )
            for n in present
        ]


def served(base: str) -> dict[str, str]:
    """Returns the URI of the version that is served, and then of those that were, with its digest.

    Raises:
        UsageError: Nothing here can read such URIs.
        PipelineError: The file system failed.
    """
    objects.require_system(base)
    with _explained(base):
        whole, _, ledger = _look(base)
        digest = _digests(base)
        return {f"{base}/{number}": digest(number) for number in ledger.served(whole)}


def download(version: str, digest: str, folder: Path) -> None:
    """Copies the files of a version into a local directory.

    Args:
        version: Its URI.
        digest: As `served` returns it.
        folder: An empty directory.

    Raises:
        DataError: They are not those that were pushed.
        PipelineError: The file system failed.
    """
    with _explained(version):
        objects.download(version, folder)
    found = versions.digest(folder)
    if found != digest and not digest.startswith(_NO_RECORD):
        raise DataError(
            f"{version}: is damaged: its files have the digest {found[:12]}, and those that were "
            f"pushed {digest[:12]}; push again, or take another version"
        )


def _look(base: str) -> tuple[list[int], list[int], Ledger]:
    """Returns the complete versions, all numbers that have files, and the labels."""
    listing = objects.listing(base)
    present, whole = set(), set()
    for name in listing:
        number = versions.number_of(name.partition("/")[0]) if "/" in name else None
        if number is not None:
            present.add(number)
            if name == f"{number}/{SAVED_MODEL}":
                whole.add(number)
    ledger = Ledger(history=tuple(sorted(whole)))
    if labels.FILE in listing:
        path = f"{base}/{labels.FILE}"
        ledger = labels.parse(objects.read(path).decode(errors="replace"), path)
    highest = max((number for number, _ in _claims(listing)), default=0)
    # A label never leads to a version that cannot be loaded.
    kept = replace(ledger.among(whole), highest=max(ledger.highest, highest, *present, 0))
    return sorted(whole), sorted(present), kept


def _claims(listing: Mapping[str, int]) -> list[tuple[int, str]]:
    """Returns the number and the digest of each claim."""
    found = (_CLAIM.fullmatch(name) for name in listing)
    return [(int(match[1]), match[2]) for match in found if match]


def _number(base: str, digest: str) -> int:
    """Returns a version number that nobody else has, or the one that this model began with."""
    whole, _, ledger = _look(base)
    claims = _claims(objects.listing(base))
    own = max((number for number, claimed in claims if claimed == digest), default=0)
    # Lower than a complete version it would not be served; and where two claimed, one lost.
    if own > max(whole, default=0) and sum(number == own for number, _ in claims) == 1:
        return own
    for attempt in range(100):
        number = ledger.next_number(_name(base))
        claim = f".claims/{number}.{digest}.{uuid.uuid4().hex}"
        objects.write(f"{base}/{claim}", b"claimed\n")
        rivals = {name: size for name, size in objects.listing(base).items() if name != claim}
        _, present, _ = _look(base)
        if not any(n >= number for n in (*present, *(n for n, _ in _claims(rivals)))):
            return number
        time.sleep(random.uniform(0, _PATIENCE * min(attempt + 1, 10)))
        _, _, ledger = _look(base)
    raise PipelineError(f"{base}: a hundred numbers went to other pushes; push again")


def _upload(
    model: Path,
    version: str,
    content: Mapping[str, str],
    warmup: Path,
    record: Mapping[str, Any],
) -> None:
    """Writes what is not there yet, compares everything, and then writes `saved_model.pb`."""
    sizes = objects.listing(version)
    marker = f"{version}/{SAVED_MODEL}"
    if SAVED_MODEL in sizes:
        objects.delete([marker])
    for name, expected in content.items():
        if name != SAVED_MODEL:
            _put((model / name).read_bytes, f"{version}/{name}", expected, sizes.get(name))
    if warmup.is_file():
        digest = files.sha256_file(warmup)
        _put(warmup.read_bytes, f"{version}/{WARMUP}", digest, sizes.get(WARMUP))
    objects.write(f"{version}/{RECORD}", (json.dumps(record, indent=2) + "\n").encode())
    graph = (model / SAVED_MODEL).read_bytes()
    if hashlib.sha256(graph).hexdigest() != content[SAVED_MODEL]:
        raise PipelineError(f"{model}: changed while it was uploaded to {version}; push again")
    try:
        objects.write(marker, graph)
        if objects.sha256(marker) != content[SAVED_MODEL]:
            raise PipelineError(f"{marker}: reads back as other bytes than were written")
    except BaseException:
        # Some file systems keep the part that was written, and a part would count.
        with contextlib.suppress(Exception):
            objects.delete([marker])
        raise


def _is_intact(version: str, model: Path, content: Mapping[str, str]) -> bool:
    """Whether all files are there, of the right sizes, and `saved_model.pb` has its bytes."""
    sizes = objects.listing(version)
    return (
        all(sizes.get(name) == (model / name).stat().st_size for name in content)
        and objects.sha256(f"{version}/{SAVED_MODEL}") == content[SAVED_MODEL]
    )


def _put(read: Any, uri: str, expected: str, size: int | None) -> None:
    """Writes a file unless it is there with these bytes, and reads it back."""
    if size is not None and objects.sha256(uri) == expected:
        return
    objects.write(uri, read())
    if (found := objects.sha256(uri)) != expected:
        raise PipelineError(
            f"{uri}: reads back as other bytes than the model's (SHA-256 {found[:12]}, expected "
            f"{expected[:12]}); push again"
        )


def _settle(
    base: str,
    ledger: Ledger,
    present: list[int],
    keep_last: int | None,
    serving_root: str | None,
) -> tuple[int, ...]:
    """Writes labels and configuration, and then removes the versions that may go."""
    whole = _look(base)[0]
    objects.write(f"{base}/{labels.FILE}", labels.as_text(ledger).encode())
    _configure(base.rpartition("/")[0], serving_root)
    removed = ledger.removable(whole, keep_last)
    listing = list(objects.listing(base)) if removed else []
    for number in removed:
        # The marker goes first: what is left without it is no version.
        objects.delete([f"{base}/{number}/{SAVED_MODEL}"])
        rest = [name for name in listing if name.startswith(f"{number}/")]
        objects.delete([f"{base}/{name}" for name in rest if name != f"{number}/{SAVED_MODEL}"])
    for name in objects.listing(base):
        # Only the highest claim is needed: a number counts as taken by any that is not below it.
        if (claim := _CLAIM.fullmatch(name)) and int(claim[1]) < max(whole, default=0):
            objects.delete([f"{base}/{name}"])
    if removed:
        _configure(base.rpartition("/")[0], serving_root)
    return tuple(removed)


def _configure(destination: str, serving_root: str | None) -> None:
    """Writes TF Serving's configuration files for all models below `destination`."""
    listing = objects.listing(destination)
    models = {}
    for name in sorted({path.partition("/")[0] for path in listing if "/" in path}):
        whole, present, ledger = _look(f"{destination}/{name}")
        if whole:
            models[name] = (present, ledger)
    before = None
    if configs.MODELS in listing:
        before = objects.read(f"{destination}/{configs.MODELS}").decode(errors="replace")
    # Servers that read an object store read it under its own name.
    text = configs.models_text(models, before, serving_root, new=destination)
    if text != before:
        objects.write(f"{destination}/{configs.MODELS}", text.encode())
    for name, text in configs.once().items():
        if name not in listing:
            objects.write(f"{destination}/{name}", text.encode())


def _record(base: str, number: int) -> dict[str, Any]:
    path = f"{base}/{number}/{RECORD}"
    if not objects.is_file(path):
        return {}
    return versions.parse_record(objects.read(path).decode(errors="replace"), path)


def _digests(base: str) -> Callable[[int], str]:
    # What somebody put there by hand has no record; its number has to do.
    return lambda number: _record(base, number).get("digest", f"{_NO_RECORD} {number}")


def _name(base: str) -> str:
    return base.rpartition("/")[2]


def _require_model(base: str, whole: list[int]) -> None:
    if not whole:
        raise UsageError(f"model {base!r}: no versions there; `push` makes the first")


def _explained(base: str) -> contextlib.AbstractContextManager[None]:
    return objects.explained(
        base,
        "what is complete there is untouched, and the same command goes on where this one stopped",
    )
