"""Data sets of TensorFlow Datasets (TFDS): `tfds:NAME`, `tfds:NAME/CONFIG:VERSION`, `tfds:FOLDER`.

What TFDS has prepared lies in TFRecord files, which are read here as they are: TFDS's own reader
gives the same bytes more slowly, since it builds a graph of TensorFlow for each part.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.records import tfrecord
from pipeline.sources import base, preparation, records, uris
from pipeline.sources.base import SPLITS, Source
from pipeline.sources.records import Layout, Part

PREFIX = "tfds:"

_PART = 256
_FORMAT = "tfrecord"
_SHOWN = 10


@dataclass(frozen=True)
class _Shard:
    """A file: the split it belongs to, the number of its first image in that, and of all."""

    path: str
    split: str
    first: int
    length: int


def source(data: str, *, manual_dir: Path | None = None, data_dir: Path | None = None) -> Source:
    """Returns the images of a data set, which is prepared first where it is not yet.

    Args:
        data: `"tfds:"` with what `tfds.builder` takes, or with the folder of a prepared data set.
        manual_dir: Where files lie that TFDS would else download, under their plain names.
        data_dir: Where TFDS keeps prepared data sets; None for its own place.

    Raises:
        UsageError: There is no such data set, or it is none of labelled images.
        DataError: It cannot be prepared.
    """
    place = data.removeprefix(PREFIX)
    notices: tuple[str, ...] = ()
    if not _is_folder(place):
        place, notices = preparation.prepared(place, manual_dir, data_dir)
    builder = _builder(data, place)
    layout = _layout(data, builder)
    chosen, left_out = _splits(data, builder)
    if unlabelled := [name for name in chosen if _is_unlabelled(_shards(builder, [name]), layout)]:
        shown = ", ".join(unlabelled)
        chosen = {name: split for name, split in chosen.items() if name not in unlabelled}
        if not chosen:
            raise UsageError(f"data {data!r}: no image of the splits {shown} has a label")
        notices += (f"{data}: the splits {shown} are left out: none of their images has a label",)
    shards = _shards(builder, chosen)
    official = {name: split if len(chosen) > 1 else None for name, split in chosen.items()}
    parts, damaged = [], []
    for shard in shards:
        try:
            parts += _parts(shard, _whole(shard, builder, official, layout))
        except tfrecord.DamageError as error:
            parts.append(_whole(shard, builder, official, layout))
            damaged.append(str(error))
    if left_out:
        shown = ", ".join(left_out)
        notices += (f"{data}: the splits {shown} are left out; read are {', '.join(chosen)}",)
    base.require_two(data, layout.names, "at least two")
    return Source(
        name=builder.name,
        classes=layout.names,
        total=sum(part.count for part in parts),
        parts=tuple(parts),
        read=records.read,
        digest=_Digest(builder.info.full_name, tuple(shards), layout),
        splits=base.in_order(official.values()),
        notices=notices,
        damaged=tuple(damaged),
        location=uris.plain(str(builder.data_dir)),
    )


def fetch(data: str, name: str, *, data_dir: Path | None = None) -> bytes | None:
    """Returns the bytes of the image that `source` calls `name`, or None where it is not there.

    Nothing is prepared for it.
    """
    place = data.removeprefix(PREFIX)
    if not _is_folder(place):
        place = preparation.where(place, data_dir)
        if place is None:
            return None
    builder = _builder(data, place)
    layout = _layout(data, builder)
    chosen, _ = _splits(data, builder)
    prefix, _, number = name.rpartition("#")
    for shard in _shards(builder, chosen):
        index = int(number) - shard.first if number.isdecimal() else -1
        if prefix == _prefix(builder, shard) and 0 <= index < shard.length:
            return records.fetch(shard.path, index, layout)
    return None


def _is_folder(place: str) -> bool:
    return uris.is_uri(place) or place.startswith(("/", "./", "../", "~"))


def _builder(data: str, folder: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(
            folder if uris.is_uri(folder) else Path(folder).expanduser()
        )
    # TFDS raises what comes up: of the file, of its JSON, of a feature it does not know.
    except Exception as error:
        raise UsageError(
            f"data {data!r}: {folder} holds no data set that TFDS has prepared "
            f"({uris.one_line(error)})"
        ) from error
    if builder.info.file_format.value != _FORMAT:
        raise UsageError(
            f"data {data!r}: prepared as {builder.info.file_format.value}; prepare it as {_FORMAT}"
        )
    return builder


def _layout(data: str, builder: Any) -> Layout:
    """Returns which of the features are the image and its class.

    Raises:
        UsageError: None are, or several may be.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    features = dict(builder.info.features) if hasattr(builder.info.features, "items") else {}
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image)
        # A mask, and numbers that only travel as a picture.
        and not isinstance(feature, tfds.features.LabeledImage)
        and feature.np_dtype in (np.uint8, np.uint16)
    ]
    labels = [n for n, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys
    match supervised:
        case (image, label) if image in images and label in labels:
            pass
        case _ if len(images) == len(labels) == 1:
            (image,), (label,) = images, labels
        case _:
            found = ", ".join(f"{name}: {type(f).__name__}" for name, f in sorted(features.items()))
            raise UsageError(
                f"data {data!r}: expected one Image and one ClassLabel; found the features {found}"
            )
    group = records.Layout().group
    return Layout(
        image=image,
        label=label,
        text=None,
        # Only a data set that was written here has groups under this name.
        group=group if group in features else None,
        names=tuple(features[label].names or ()),
    )


def _splits(data: str, builder: Any) -> tuple[dict[str, str], list[str]]:
    """Returns the splits that are read, with what they are here, and those that are left out."""
    found = [name for name, split in builder.info.splits.items() if split.num_examples]
    chosen = {name: SPLITS[name.lower()] for name in found if name.lower() in SPLITS}
    if not chosen and len(found) == 1:
        chosen = {found[0]: "train"}
    if not chosen:
        shown = ", ".join(found[:_SHOWN]) or "none"
        raise UsageError(f"data {data!r}: expected the splits train and test; found {shown}")
    return chosen, [name for name in found if name not in chosen]


def _is_unlabelled(shards: list[_Shard], layout: Layout) -> bool:
    """Whether each image of a split has the label -1, as in a test split that is kept secret.

    It is read as far as that is so: of other splits, a record or two. What is read to its end is
    left out, and so read once less for the digest.
    """
    for shard in shards:
        count = 0
        try:
            with records.opened(shard.path) as file:
                for record in records.records(file, shard.path):
                    label = records.describe(record, layout).label
                    if label is None or label >= 0:
                        return False
                    count += 1
        except (tfrecord.DamageError, uris.BadFileError, OSError):
            return False  # It stays, so that the damage is named.
        if count != shard.length:
            return False
    return True


def _shards(builder: Any, chosen: Iterable[str]) -> list[_Shard]:
    shards = []
    for name in chosen:
        split = builder.info.splits[name]
        firsts = list(itertools.accumulate(split.shard_lengths, initial=0))
        shards += [
            _Shard(os.fspath(path), name, first, length)
            for path, length, first in zip(
                split.filepaths, split.shard_lengths, firsts[:-1], strict=True
            )
            if length
        ]
    return shards


def _prefix(builder: Any, shard: _Shard) -> str:
    return f"{builder.info.full_name}/{shard.split}"


def _whole(shard: _Shard, builder: Any, official: dict[str, str | None], layout: Layout) -> Part:
    """Returns a file as one part."""
    return Part(
        path=shard.path,
        prefix=_prefix(builder, shard),
        first=shard.first,
        offset=0,
        count=shard.length,
        split=official[shard.split],
        layout=layout,
    )


def _parts(shard: _Shard, whole: Part) -> list[Part]:
    """Returns a file in parts.

    Raises:
        DamageError: It is missing, cut, altered, or of another length than TFDS says.
    """
    if uris.is_uri(shard.path):
        # Finding where each record begins would be a request for each.
        return [whole]
    if not uris.is_file(shard.path):
        raise tfrecord.DamageError(
            f"{shard.path}: missing; TFDS says {shard.length} records are in it"
        )
    with uris.opened(shard.path) as file:
        offsets = list(tfrecord.offsets(file, Path(shard.path).stat().st_size, shard.path))
    if len(offsets) != shard.length:
        raise tfrecord.DamageError(
            f"{shard.path}: found {len(offsets)} records; TFDS says {shard.length}"
        )
    return [
        replace(
            whole,
            first=shard.first + index,
            offset=offsets[index],
            count=min(_PART, shard.length - index),
        )
        for index in range(0, shard.length, _PART)
    ]


@dataclass(frozen=True)
class _Digest:
    full_name: str
    shards: tuple[_Shard, ...]
    layout: Layout

    def __call__(self) -> str:
        digest = hashlib.sha256(f"{self.full_name} {self.layout!r}\n".encode())
        paths = [shard.path for shard in self.shards]
        for shard, content in zip(self.shards, uris.over(uris.sha256, paths), strict=True):
            digest.update(f"{content}  {shard.split} {shard.first} {shard.length}\n".encode())
        return digest.hexdigest()
