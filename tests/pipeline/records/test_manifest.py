import shutil

import pytest

from pipeline.errors import DataError
from pipeline.records import manifest, tfrecord
from pipeline.training import records
from tests.pipeline import builders


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    source = builders.image_folder(folder / "images")
    written, _ = builders.examples(folder / "examples", source, shards=2)
    return written.uri


@pytest.fixture
def root(good, tmp_path):
    return shutil.copytree(good, tmp_path / "examples")


def _refused(root, match):
    contents = manifest.load(root)
    with pytest.raises(DataError, match=match):
        manifest.verify(root, contents)
    # Who reads records for training is refused as well, and not only who asks.
    with pytest.raises(DataError, match=match):
        records.open_split(root, manifest.load(root), "train")


def _shard(root):
    shards = sorted((root / "Split-train").iterdir(), key=lambda path: -path.stat().st_size)
    return shards[0]


def test_what_example_gen_wrote_is_accepted(root):
    contents = manifest.load(root)
    manifest.verify(root, contents)
    assert contents.classes == ("cat", "dog")
    assert contents.examples == 40
    assert sum(contents.splits["train"].class_counts.values()) == contents.splits["train"].examples


def test_a_shard_that_lost_its_last_record_is_refused(root):
    shard = _shard(root)
    records = list(tfrecord.read(shard))
    shard.unlink()
    tfrecord.write(shard, records[:-1])
    _refused(root, rf"{shard.name}: found \d+ bytes, manifest.json says \d+")


def test_a_shard_whose_records_changed_places_is_refused(root):
    shard = _shard(root)
    records = list(tfrecord.read(shard))
    shard.unlink()
    tfrecord.write(shard, records[::-1])
    _refused(root, "CRC32C")


def test_a_shard_with_a_flipped_bit_is_refused(root):
    shard = _shard(root)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    _refused(root, "is damaged")


def test_a_missing_shard_is_refused(root):
    shard = _shard(root)
    shard.unlink()
    _refused(root, f"{shard.name}: missing")


def test_a_shard_that_nobody_knows_is_refused(root):
    shutil.copy(_shard(root), root / "Split-train" / "data_tfrecord-00007-of-00008")
    _refused(root, "00007-of-00008: not in manifest.json")


def test_a_manifest_that_counts_otherwise_is_refused(root):
    contents = manifest.load(root)
    train = contents.splits["train"]
    wrong = train.shards[0].model_copy(update={"records": train.shards[0].records + 1})
    edited = train.model_copy(update={"shards": (wrong, *train.shards[1:])})
    contents.model_copy(update={"splits": {**contents.splits, "train": edited}}).save(root)
    _refused(root, r"found \d+ records")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"classes": ["a"], "splits": 3}'])
def test_what_is_no_manifest_is_refused(root, text):
    (root / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json: not a manifest"):
        manifest.load(root)


def test_a_directory_without_a_manifest_is_no_examples_artifact(tmp_path):
    with pytest.raises(DataError, match="no manifest"):
        manifest.load(tmp_path)


def test_a_split_that_is_not_there_is_named(root):
    with pytest.raises(DataError, match="no split named 'validation'; there are train, eval, test"):
        manifest.load(root).split("validation")
