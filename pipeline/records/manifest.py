"""The manifest of an Examples artifact: which shards it has and what each must contain."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline import files
from pipeline.errors import DataError
from pipeline.records import examples, tfrecord

FILE_NAME = "manifest.json"
_PAYLOAD = "tf.train.Example"
_FILE_FORMAT = "tfrecords"


class Shard(BaseModel):
    """One shard: its path relative to the manifest, its records, bytes and CRC32C."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    records: int
    bytes: int
    crc32c: str


class Split(BaseModel):
    """One split: its shards in order, and the number of examples of each class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: tuple[Shard, ...]
    class_counts: dict[str, int]

    @property
    def examples(self) -> int:
        """The number of examples in all shards."""
        return sum(shard.records for shard in self.shards)


class Manifest(BaseModel):
    """What an Examples artifact promises: the classes in label order and the shards of each split.

    `file_format` is TFX's name of the format, here without compression: gzip costs many times the
    read time and saves nothing on encoded images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_format: str = _FILE_FORMAT
    payload_format: str = _PAYLOAD
    classes: tuple[str, ...]
    splits: dict[str, Split]

    @property
    def examples(self) -> int:
        """The number of examples in all splits."""
        return sum(split.examples for split in self.splits.values())

    def save(self, root: Path) -> None:
        """Writes the manifest into the directory `root`."""
        files.write_text(root / FILE_NAME, self.model_dump_json(indent=2) + "\n")

    def split(self, name: str) -> Split:
        """Returns the split called `name`.

        Raises:
            DataError: There is no such split, or it is empty.
        """
        if name not in self.splits:
            raise DataError(
                f"examples: no split named {name!r}; there are {', '.join(self.splits)}"
            )
        if not self.splits[name].examples:
            raise DataError(
                f"examples: the split {name!r} is empty; give it a larger share or more images"
            )
        return self.splits[name]


def load(root: Path) -> Manifest:
    """Reads the manifest of the Examples artifact at `root`.

    Raises:
        DataError: It is missing, or not a manifest.
    """
    path = root / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path}: no manifest; the directory is not a complete Examples artifact"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: not a manifest: {place or 'content'}: {first['msg']}") from None


def verify(root: Path, manifest: Manifest, splits: tuple[str, ...] | None = None) -> None:
    """Reads every shard of `splits` (default: all) and compares it with the manifest.

    A TFRecord file that lost its tail at a record boundary reads without any error; only a count
    and a checksum kept elsewhere can tell.

    Raises:
        DataError: A shard is missing, altered, cut or not mentioned; the message names it.
    """
    chosen = manifest.splits.values() if splits is None else map(manifest.split, splits)
    shards = [shard for split in chosen for shard in split.shards]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda shard: _verify_shard(root, shard), shards))
    known = {shard.file for split in manifest.splits.values() for shard in split.shards}
    present = {path.relative_to(root).as_posix() for path in root.glob("Split-*/data_tfrecord-*")}
    if strangers := sorted(present - known):
        raise DataError(
            f"{root / strangers[0]}: not in {FILE_NAME}, which knows {len(known)} shards; "
            "remove the file or run ExampleGen again"
        )


def examples_of(root: Path, manifest: Manifest, split: str) -> list[examples.ImageExample]:
    """Returns the examples of `split` in their stored order, after verifying its shards.

    Raises:
        DataError: A shard of the split does not match the manifest.
    """
    verify(root, manifest, (split,))
    return [
        examples.parse(payload)
        for shard in manifest.split(split).shards
        for payload in tfrecord.read(root / shard.file)
    ]


def _verify_shard(root: Path, shard: Shard) -> None:
    path = root / shard.file
    if not path.is_file():
        raise DataError(f"{path}: missing; {FILE_NAME} says {shard.records} records are in it")
    size = path.stat().st_size
    if size != shard.bytes:
        raise DataError(
            f"{path}: found {size} bytes, {FILE_NAME} says {shard.bytes}; run ExampleGen again"
        )
    found = tfrecord.summarize(path)
    if (found.records, found.crc32c) != (shard.records, shard.crc32c):
        raise DataError(
            f"{path}: found {found.records} records with CRC32C {found.crc32c}, {FILE_NAME} says "
            f"{shard.records} with {shard.crc32c}; run ExampleGen again"
        )
