"""The metadata with which TensorFlow Datasets reads an Examples artifact, its shards as they are.

    <artifact>/dataset_info.json, features.json, …        for tfds.builder_from_directory(artifact)
    <artifact>/tfds/<name>/1.0.0/ the same three          for tfds.load("<name>:1.0.0", data_dir=…)

Both describe `Split-<split>/data_tfrecord-*` by paths relative to themselves, so that the artifact
can be moved, and no record is written twice.
"""

import re
from pathlib import Path

from pipeline.records import examples
from pipeline.records.manifest import Manifest

DATA_DIR = "tfds"
VERSION = "1.0.0"

_SHARDS = "Split-{SPLIT}/data_tfrecord-{SHARD_X_OF_Y}"
_FILE_FORMAT = "tfrecord"


def dataset_name(name: str) -> str:
    """Returns `name` as TFDS allows it: ASCII letters, digits and `_`, a letter first."""
    allowed = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return allowed if allowed[:1].isalpha() else f"data_{allowed}"


def write(root: Path, name: str, contents: Manifest) -> None:
    """Writes what TFDS needs to read the shards below `root`; equal input gives equal bytes.

    Names of classes are those of the manifest, in label order. Splits without examples are left
    out, because TFDS refuses to read them, and a whole data set that has one.

    Args:
        root: The Examples artifact, whose shards are written.
        name: What the data set is called; see `dataset_name` for what becomes of it.
        contents: The artifact's manifest.
    """
    name = dataset_name(name)
    directory = root / DATA_DIR / name / VERSION
    directory.mkdir(parents=True)
    up = Path(*[".."] * len(directory.relative_to(root).parts)).as_posix()
    for place, template in ((root, _SHARDS), (directory, f"{up}/{_SHARDS}")):
        _info(place, name, template, contents).write_to_directory(place)


def _info(place: Path, name: str, template: str, contents: Manifest):
    """Returns the `tfds.core.DatasetInfo` that is stored in the directory `place`."""
    import tensorflow_datasets as tfds

    shards = tfds.core.ShardedFileTemplate(
        data_dir=place, template=template, dataset_name=name, filetype_suffix=_FILE_FORMAT
    )
    splits = [
        tfds.core.SplitInfo(
            name=split_name,
            shard_lengths=[shard.records for shard in split.shards],
            num_bytes=sum(shard.bytes for shard in split.shards),
            filename_template=shards.replace(split=split_name),
        )
        for split_name, split in contents.splits.items()
        if split.examples
    ]
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=name,
            version=tfds.core.Version(VERSION),
            data_dir=str(place),
            module_name="",  # no code of TFDS made it
        ),
        features=_features(contents.classes),
        # Flat names: TFDS selects none of these from a nested dictionary.
        supervised_keys=(examples.IMAGE, examples.LABEL),
    )
    info.set_file_format(_FILE_FORMAT)
    info.set_splits(tfds.core.SplitDict(splits))
    return info


def _features(classes: tuple[str, ...]):
    import numpy as np
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    number = tfds.features.Scalar(np.int64)
    return tfds.features.FeaturesDict(
        {
            # Stored grey images come as three equal channels, as in training.
            examples.IMAGE: tfds.features.Image(shape=(None, None, 3)),
            examples.LABEL: tfds.features.ClassLabel(names=map(_line, classes)),
            examples.TEXT: text,
            examples.FILENAME: text,
            examples.FORMAT: text,
            examples.KEY: text,
            examples.HEIGHT: number,
            examples.WIDTH: number,
            # Not every source has groups; where an example has none, it reads as empty.
            examples.GROUP: tfds.features.Scalar(np.str_, optional=True),
        }
    )


def _line(text: str) -> str:
    """Returns the name of a class as TFDS keeps it, on one line that it strips; unique names stay so.

    What cannot be kept like that is quoted, and so is what looks quoted.
    """
    plain = text.isprintable() and text == text.strip() and text[:1] not in ("", "'", '"')
    return text if plain else repr(text)
