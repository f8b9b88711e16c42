import os

import pytest

from pipeline import sources
from pipeline.errors import UsageError
from pipeline.records import images
from tests.pipeline import builders


def references(source):
    return [reference for part in source.parts for reference, _ in source.read(part)]


def test_the_digits_are_all_there_and_readable():
    source = sources.open_source("digits")
    assert source.total == len(references(source)) == 1797
    assert source.classes == tuple("0123456789")
    _, encoded = next(source.read(source.parts[17]))
    image = images.normalize(encoded)
    assert (image.format, image.height, image.width, image.converted) == ("png", 8, 8, False)


def test_a_folder_of_classes_is_read_in_a_fixed_order(tmp_path):
    builders.image_folder(tmp_path, ("b", "a"), 2)
    (tmp_path / "a" / "note.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    source = sources.open_source(str(tmp_path))
    assert source.classes == ("a", "b")
    assert [reference.text for reference in references(source)] == ["a", "a", "b", "b"]
    assert all(reference.split is None for reference in references(source))


def test_folders_that_name_splits_decide_the_split(tmp_path):
    builders.image_folder(tmp_path / "train", images=2)
    builders.image_folder(tmp_path / "validation", images=1)
    source = sources.open_source(str(tmp_path))
    assert [reference.split for reference in references(source)] == ["train"] * 4 + ["eval"] * 2
    assert source.classes == ("cat", "dog")


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        sources.open_source(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match=r"found no images; expected .*/CLASS/IMAGE"):
        sources.open_source(str(tmp_path))
    builders.image_folder(tmp_path, ("only",), 1)
    with pytest.raises(UsageError, match="found one class, 'only'"):
        sources.open_source(str(tmp_path))


def test_the_digest_sees_contents_and_not_times(tmp_path):
    builders.image_folder(tmp_path, images=2)
    before = sources.open_source(str(tmp_path)).digest()
    path = tmp_path / "cat" / "000.png"
    times = (path.stat().st_atime, path.stat().st_mtime)

    os.utime(path, (1, 1))
    assert sources.open_source(str(tmp_path)).digest() == before

    # An edit of the same length, within the same second.
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, times)
    assert sources.open_source(str(tmp_path)).digest() != before
