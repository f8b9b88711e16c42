import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import files
from pipeline.beam import ingest, reading, writing
from pipeline.components import example_gen
from pipeline.records import images, manifest
from tests.pipeline import builders

_SPLITS = {"train": 0.8, "eval": 0.1, "test": 0.1}


def test_the_same_images_give_the_same_bytes_whatever_their_order(tmp_path, monkeypatch):
    source = builders.image_folder(tmp_path / "images")
    first, _ = builders.examples(tmp_path / "a", source, shards=3)
    original = ingest.beam.Create
    monkeypatch.setattr(ingest.beam, "Create", lambda values: original(list(values)[::-1]))
    second, _ = builders.examples(tmp_path / "b", source, shards=3)
    assert files.tree_digest(first.uri) == files.tree_digest(second.uri)


def test_every_image_arrives_once_in_the_split_of_its_pixels(tmp_path):
    source = builders.image_folder(tmp_path / "images", images=40)
    written, _ = builders.examples(tmp_path / "a", source, shards=2)
    contents = manifest.load(written.uri)
    seen = {}
    for name in contents.splits:
        for example in manifest.examples_of(written.uri, contents, name):
            pixels = images.normalize(example.encoded).pixels
            assert reading.assign_split(pixels, _SPLITS) == name
            assert contents.classes[example.label] == example.text
            assert (example.height, example.width, example.format) == (12, 10, "png")
            seen[example.filename] = example.encoded
    assert seen == {str(path): path.read_bytes() for path in source.rglob("*.png")}
    assert sorted(path.name for path in written.uri.iterdir()) == [
        "Split-eval",
        "Split-test",
        "Split-train",
        "account.json",
        "dataset_info.json",
        "duplicates.jsonl",
        "features.json",
        "image.class.label.labels.txt",
        "leakage.json",
        "manifest.json",
        "overlaps.jsonl",
        "quarantine.jsonl",
        "tfds",
    ]


def entries(artifact, name):
    return [json.loads(line) for line in (artifact.uri / f"{name}.jsonl").read_text().splitlines()]


def account(artifact):
    return json.loads((artifact.uri / "account.json").read_text())


def test_bad_images_are_quarantined_with_their_reason_and_the_rest_goes_on(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    cut = (source / "cat" / "000.png").read_bytes()[:-30]
    (source / "cat" / "cut.png").write_bytes(cut)
    (source / "dog" / "page.jpg").write_text("<html>")
    written, result = builders.examples(tmp_path / "a", source)
    assert entries(written, "quarantine") == [
        {
            "name": str(source / "cat" / "cut.png"),
            "class": "cat",
            "sha256": hashlib.sha256(cut).hexdigest(),
            "reason": "damaged",
        },
        {
            "name": str(source / "dog" / "page.jpg"),
            "class": "dog",
            "sha256": hashlib.sha256(b"<html>").hexdigest(),
            "reason": "not_an_image",
        },
    ]
    assert manifest.load(written.uri).examples == 40
    assert result.endswith(", 2 quarantined")
    row = {"seen": 21, "written": 20, "quarantined": 1, "duplicates": 0}
    assert account(written) == {
        "all": {"seen": 42, "written": 40, "quarantined": 2, "duplicates": 0},
        "classes": {"cat": row, "dog": row},
    }


def test_too_many_bad_images_stop_the_run_with_the_commonest_reasons(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    for number in range(3):
        (source / "cat" / f"empty{number}.png").write_bytes(b"")
    (source / "dog" / "page.png").write_text("<html>")
    written = builders.artifact(tmp_path / "a")
    outcome = example_gen.run(
        {}, {"examples": written}, example_gen.Parameters(source=str(source)), builders.CONTEXT
    )
    assert re.match(
        r"4 of 44 images cannot be used \(9.1%; .*max_bad_fraction is 5.0%\): "
        r"empty 3 times \(first: .*empty0.png\), not_an_image 1 times",
        outcome.refusal,
    )
    assert len(entries(written, "quarantine")) == 4


def test_of_equal_pictures_one_is_kept_and_contradictions_are_quarantined(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    # The same picture in another format under the same label, and a copy under another label.
    with Image.open(source / "cat" / "003.png") as picture:
        picture.save(source / "cat" / "again.bmp")
    shutil.copy(source / "cat" / "005.png", source / "dog" / "copy.png")
    written, result = builders.examples(tmp_path / "a", source)
    (dropped,) = entries(written, "duplicates")
    assert dropped["name"] == str(source / "cat" / "again.bmp")
    assert dropped["kept"] == str(source / "cat" / "003.png")
    conflicting = entries(written, "quarantine")
    assert [entry["name"] for entry in conflicting] == [
        str(source / "cat" / "005.png"),
        str(source / "dog" / "copy.png"),
    ]
    assert {(e["reason"], e["classes"]) for e in conflicting} == {
        ("conflicting_labels", "cat and dog")
    }
    assert account(written)["all"] == {"seen": 42, "written": 39, "quarantined": 2, "duplicates": 1}
    assert result.endswith(", 2 quarantined, 1 duplicates")


def test_the_copy_in_the_training_split_goes(tmp_path):
    builders.image_folder(tmp_path / "images" / "train")
    builders.image_folder(tmp_path / "images" / "test", images=3)  # the first three again
    written, _ = builders.examples(tmp_path / "a", tmp_path / "images", official_splits="clean")
    contents = manifest.load(written.uri)
    assert {name: split.examples for name, split in contents.splits.items()} == {
        "train": 34,
        "eval": 0,
        "test": 6,
    }


def test_the_conflicting_pairs_among_real_photos_are_found(real_images, tmp_path):
    """Three pairs are the same picture under two labels, as the README of the data says."""
    written, _ = builders.examples(tmp_path / "a", real_images / "photos")
    names = {Path(entry["name"]).stem for entry in entries(written, "quarantine")}
    assert names == {"glass115", "metal91", "glass176", "plastic152", "glass389", "plastic332"}
    assert account(written)["all"] == {
        "seen": 400,
        "written": 394,
        "quarantined": 6,
        "duplicates": 0,
    }


def test_file_names_that_are_no_text_are_no_obstacle(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    name = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(source / "cat" / "000.png", source / "dog" / name)
    written, _ = builders.examples(tmp_path / "a", source)
    assert str(source / "dog" / name) in {e["name"] for e in entries(written, "quarantine")}
    (source / "dog" / name).write_bytes(builders.encode(builders.noise(77)))
    written, _ = builders.examples(tmp_path / "b", source)
    contents = manifest.load(written.uri)
    found = {
        example.filename
        for split in contents.splits
        if contents.splits[split].examples
        for example in manifest.examples_of(written.uri, contents, split)
    }
    assert str(source / "dog" / name) in found


def test_the_number_of_shards_grows_with_the_bytes():
    assert [writing.shards_for(size << 20) for size in (0, 1, 128, 129, 1280)] == [1, 1, 1, 2, 10]


@given(st.binary(max_size=20))
def test_an_image_stays_in_its_split_when_another_split_is_cut_in_two(content):
    key = hashlib.sha256(content).digest()
    before = reading.assign_split(key, {"train": 0.8, "rest": 0.2})
    after = reading.assign_split(key, {"train": 0.8, "eval": 0.1, "test": 0.1})
    assert (before == "train") == (after == "train")


def test_the_shares_of_the_splits_are_kept():
    keys = [hashlib.sha256(str(number).encode()).digest() for number in range(20_000)]
    found = [reading.assign_split(key, _SPLITS) for key in keys]
    for name, share in _SPLITS.items():
        assert found.count(name) / len(found) == pytest.approx(share, abs=0.01)
