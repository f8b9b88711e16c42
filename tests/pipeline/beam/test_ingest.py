import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.beam import ingest
from pipeline.errors import DataError
from pipeline.records import examples, manifest, tfrecord
from tests.pipeline import builders

_SPLITS = {"train": 0.8, "eval": 0.1, "test": 0.1}


def test_the_same_images_give_the_same_bytes_whatever_their_order(tmp_path, monkeypatch):
    source = builders.image_folder(tmp_path / "images")
    first, _ = builders.examples(tmp_path / "a", source, shards=3)
    original = ingest.beam.Create
    monkeypatch.setattr(ingest.beam, "Create", lambda values: original(list(values)[::-1]))
    second, _ = builders.examples(tmp_path / "b", source, shards=3)
    assert files.tree_digest(first.uri) == files.tree_digest(second.uri)


def test_every_image_arrives_once_in_the_split_of_its_content(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    written, _ = builders.examples(tmp_path / "a", source, shards=2)
    contents = manifest.load(written.uri)
    seen = {}
    for name in contents.splits:
        for example in manifest.examples_of(written.uri, contents, name):
            assert ingest.assign_split(example.key, _SPLITS) == name
            assert contents.classes[example.label] == example.text
            assert (example.height, example.width, example.format) == (12, 10, "png")
            seen[example.filename] = example.encoded
    assert seen == {str(path): path.read_bytes() for path in source.rglob("*.png")}
    for path in written.uri.glob("Split-*/*"):
        keys = [examples.parse(payload).key for payload in tfrecord.read(path)]
        assert keys == sorted(keys)


def test_bad_images_are_listed_with_their_reason_and_the_rest_goes_on(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    (source / "cat" / "cut.png").write_bytes((source / "cat" / "000.png").read_bytes()[:-30])
    (source / "dog" / "page.jpg").write_text("<html>")
    written, result = builders.examples(tmp_path / "a", source, max_rejected=0.1)
    lines = (written.uri / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": str(source / "cat" / "cut.png"), "reason": "damaged"},
        {"name": str(source / "dog" / "page.jpg"), "reason": "not_an_image"},
    ]
    assert manifest.load(written.uri).examples == 40
    assert result.endswith("2 rejected")


def test_too_many_bad_images_stop_the_run(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    (source / "cat" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 41 images cannot be used .*empty.png \(empty\)"):
        builders.examples(tmp_path / "a", source)


@given(st.binary(max_size=20))
def test_a_key_stays_in_its_split_when_another_split_is_cut_in_two(content):
    key = hashlib.sha256(content).hexdigest()
    before = ingest.assign_split(key, {"train": 0.8, "rest": 0.2})
    after = ingest.assign_split(key, {"train": 0.8, "eval": 0.1, "test": 0.1})
    assert (before == "train") == (after == "train")


def test_the_shares_of_the_splits_are_kept():
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    found = [ingest.assign_split(key, _SPLITS) for key in keys]
    for name, share in _SPLITS.items():
        assert found.count(name) / len(found) == pytest.approx(share, abs=0.01)
