"""A look at a collection of images before any run."""

import csv

import pytest

from pipeline import sources, survey
from pipeline.records import manifest
from tests.pipeline import builders


def test_classes_sizes_and_formats_of_a_folder(tmp_path):
    builders.image_folder(tmp_path, ("cat", "dog"), images=5)
    (tmp_path / "cat" / "wide.jpg").write_bytes(builders.encode(builders.noise(1, 40, 90), "JPEG"))
    (tmp_path / "dog" / "none.png").write_bytes(b"no image")
    (tmp_path / "dog" / "notes.txt").write_text("x")
    found = survey.look(str(tmp_path))
    assert (found.total, found.looked, found.counted) == (12, 12, True)
    assert found.counts == {"cat": 6, "dog": 6}
    assert found.splits == {}
    assert found.short_sides == [10] * 10 + [40]
    assert (90, 40) in found.sizes
    assert found.short_side == 10
    assert found.formats == {"PNG": 10, "JPEG": 1}
    assert found.unreadable == [str(tmp_path / "dog" / "none.png")]
    assert "1 .txt" in found.notices[0]


def test_headers_alone_are_read_of_files(tmp_path, monkeypatch):
    builders.image_folder(tmp_path, images=3)
    whole = (tmp_path / "cat" / "000.png").read_bytes()
    # A header without a picture is enough to know the size.
    (tmp_path / "cat" / "000.png").write_bytes(whole[:64])
    assert survey.look(str(tmp_path)).short_sides == [10] * 6


def test_of_many_images_some_are_looked_at_and_all_are_counted(tmp_path):
    builders.image_folder(tmp_path, ("a", "b"), images=20)
    found = survey.look(str(tmp_path), most=7)
    assert (found.total, found.counts, found.counted) == (40, {"a": 20, "b": 20}, True)
    assert 5 <= found.looked <= 7


def test_splits_of_a_folder_and_of_a_manifest(tmp_path):
    for split, images in (("train", 4), ("test", 2)):
        builders.image_folder(tmp_path / "photos" / split, images=images)
    found = survey.look(str(tmp_path / "photos"))
    assert found.splits == {"train": 8, "test": 4}
    table = tmp_path / "photos.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        rows.writerow(("photos/train/cat/000.png", "cat", "train"))
        rows.writerow(("photos/train/dog/000.png", "dog", "test"))
        rows.writerow(("photos/nowhere.png", "dog", "test"))
    found = survey.look(str(table))
    assert (found.counts, found.splits) == ({"cat": 1, "dog": 2}, {"train": 1, "test": 2})
    assert [name.rpartition("/")[2] for name in found.unreadable] == ["nowhere.png"]


def test_of_a_source_without_files_a_sample_is_read(tmp_path):
    written, _ = builders.examples(
        tmp_path / "examples", splits={"train": 0.2, "eval": 0.1, "test": 0.7}
    )
    found = survey.look(str(written.uri / "Split-train"), most=100)
    assert found.total == manifest.load(written.uri).split("train").examples
    assert 0 < found.looked <= 100
    assert not found.counted
    assert sum(found.counts.values()) == found.looked
    assert found.short_side == 8


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_what_is_no_collection_is_said_as_in_a_run(tmp_path, name):
    with pytest.raises(Exception) as expected:
        sources.open_source(str(tmp_path / name))
    with pytest.raises(type(expected.value)) as caught:
        survey.look(str(tmp_path / name))
    assert str(caught.value) == str(expected.value)
