import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline import sources
from pipeline.errors import UsageError
from tests.pipeline import builders
from tests.pipeline.sources.reading import everything, reasons, references


def test_a_folder_of_classes_is_read_in_a_fixed_order(tmp_path):
    builders.image_folder(tmp_path, ("b", "a"), 2)
    (tmp_path / "a" / "note.txt").write_text("no image")
    source = sources.open_source(str(tmp_path))
    assert source.classes == ("a", "b")
    names = [f"{tmp_path}/{text}/00{index}.png" for text in "ab" for index in range(2)]
    assert [(reference.name, reference.text) for reference in references(source)] == [
        (name, name.split("/")[-2]) for name in names
    ]
    assert all(reference.split is None for reference in references(source))
    assert source.splits == ()


def test_hidden_files_and_folders_are_left_out_at_every_depth(tmp_path):
    builders.image_folder(tmp_path, images=1)
    before = sources.open_source(str(tmp_path))
    picture = tmp_path / "cat" / "000.png"
    for hidden in (".bird/x.png", "cat/.thumbnails/x.png", "cat/._000.png", ".x.png"):
        path = tmp_path / hidden
        path.parent.mkdir(exist_ok=True)
        shutil.copy(picture, path)
    after = sources.open_source(str(tmp_path))
    assert after.notices == ()
    assert (after.total, after.classes, after.digest()) == (2, before.classes, before.digest())


def test_every_extension_counts_in_any_case_and_at_any_depth(tmp_path):
    builders.image_folder(tmp_path, images=1)
    names = ["a.JPG", "b.jfif", "c.webp", "d.tiff", "e.heic", "f.pbm", "deep/er/g.PNG"]
    for name in names:
        path = tmp_path / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    source = sources.open_source(str(tmp_path))
    found = [reference.name for reference in references(source) if reference.text == "cat"]
    assert found == sorted(f"{tmp_path}/cat/{name}" for name in ("000.png", *names))
    assert b"deep/er/g.PNG" in dict(everything(source)).values()
    assert source.notices == ()


def test_formats_that_are_not_read_are_counted_as_such(tmp_path):
    folder = builders.image_folder(tmp_path / "photos", images=30)
    Image.new("RGB", (9, 9)).save(folder / "cat" / "scan.tif")
    (folder / "dog" / "page.jfif").write_text("<html>")
    written, _ = builders.examples(tmp_path / "examples", folder)
    entries = (Path(written.uri) / "quarantine.jsonl").read_text().splitlines()
    found = {entry["name"]: entry["reason"] for entry in map(json.loads, entries)}
    assert found == {
        f"{folder}/cat/scan.tif": "format_tiff",
        f"{folder}/dog/page.jfif": "not_an_image",
    }


def test_other_files_are_left_out_with_a_notice(tmp_path):
    builders.image_folder(tmp_path, images=1)
    (tmp_path / "cat" / "note.txt").write_text("no image")
    assert _open(tmp_path).notices == (f"{tmp_path}: 1 file is left out: 1 .txt",)
    for name in ("LICENSE", "dog/a.TXT", "dog/a. longer than endings are", "dog/b.txt"):
        (tmp_path / name).write_text("")
    assert _open(tmp_path).notices == (
        f"{tmp_path}: 5 files are left out: 3 .txt, 2 without ending",
    )
    for number in range(10):
        (tmp_path / f"a.x{number}").write_text("")
    (notice,) = _open(tmp_path).notices
    assert notice.endswith(".x6, 1 .x7, 2 others")


def test_images_outside_a_class_are_left_out_with_a_notice(tmp_path):
    flat, split = tmp_path / "flat", tmp_path / "split"
    builders.image_folder(flat, images=1)
    builders.image_folder(split / "train", images=1)
    builders.image_folder(split / "test", images=1)
    for name in ("flat/loose.jpg", "split/train/loose.jpg", "split/z.tif"):
        (tmp_path / name).write_bytes(b"bytes")
    assert _open(flat).notices == (
        f"{flat}: 1 image lies outside a folder of a class, the first is 'loose.jpg'",
    )
    assert _open(split).notices == (
        f"{split}: 2 images lie outside a folder of a class, the first is 'train/loose.jpg'",
    )
    assert (_open(flat).total, _open(split).total) == (2, 4)
    for name in ("cat", "dog"):
        shutil.rmtree(flat / name)
    with pytest.raises(UsageError, match=r"found no images; expected .*; .* 1 image lies outside"):
        _open(flat)


def test_folders_that_name_splits_decide_the_split(tmp_path):
    builders.image_folder(tmp_path / "Train", images=2)
    builders.image_folder(tmp_path / "validation", images=1)
    source = sources.open_source(str(tmp_path))
    assert [reference.split for reference in references(source)] == ["train"] * 4 + ["eval"] * 2
    assert source.classes == ("cat", "dog")
    assert source.splits == ("train", "eval")


def test_a_folder_beside_splits_that_is_none_is_refused(tmp_path):
    builders.image_folder(tmp_path / "train", images=1)
    builders.image_folder(tmp_path / "val", images=1)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "about.txt").write_text("no image")
    assert _open(tmp_path).splits == ("train", "eval")
    builders.image_folder(tmp_path / "unused", images=1)
    with pytest.raises(
        UsageError, match=r"folder 'unused' .* beside the splits train, val, .*; move it elsewhere"
    ):
        _open(tmp_path)


def test_classes_may_be_called_like_splits(tmp_path):
    for names in (("test", "cat"), ("test", "train", "valid", "cat")):
        source = _open(builders.image_folder(tmp_path / str(len(names)), names, 1))
        assert (source.classes, source.splits) == (tuple(sorted(names)), ())
    # Vehicles, of which one kind is sorted further.
    builders.image_folder(tmp_path / "more", ("car", "bus"), 1)
    builders.image_folder(tmp_path / "more" / "train", ("steam", "diesel"), 1)
    assert _open(tmp_path / "more").classes == ("bus", "car", "train")


def test_a_single_split_is_none(tmp_path):
    builders.image_folder(tmp_path / "train", images=2)
    source = sources.open_source(str(tmp_path))
    assert source.splits == ()
    assert {reference.split for reference in references(source)} == {None}
    assert source.classes == ("cat", "dog")


def test_symbolic_links_are_followed_but_not_in_circles(tmp_path):
    builders.image_folder(tmp_path / "store", images=1)
    root = tmp_path / "root"
    (root / "dog").mkdir(parents=True)
    (root / "cat").symlink_to(tmp_path / "store" / "cat")
    (root / "dog" / "inner").symlink_to(tmp_path / "store" / "dog")
    (root / "dog" / "circle").symlink_to(root)
    found = [found.name.removeprefix(f"{root}/") for found in references(_open(root))]
    assert found == ["cat/000.png", "dog/inner/000.png"]


def test_a_link_to_itself_costs_one_file(tmp_path):
    builders.image_folder(tmp_path, images=1)
    link = tmp_path / "cat" / "loop.png"
    link.symlink_to(link)
    assert reasons(_open(tmp_path)) == {str(link): "unreadable"}
    assert _open(tmp_path).total == 3


def test_what_cannot_be_read_is_named_and_nothing_is_left_out(tmp_path):
    builders.image_folder(tmp_path, images=2)
    source = _open(tmp_path)
    (tmp_path / "cat" / "000.png").unlink()
    (tmp_path / "dog" / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "dog" / "pipe.png")  # to open it would wait for a writer
    assert reasons(source) == {f"{tmp_path}/cat/000.png": "unreadable"}
    later = _open(tmp_path)
    assert reasons(later) == {
        f"{tmp_path}/dog/dangling.jpg": "unreadable",
        f"{tmp_path}/dog/pipe.png": "unreadable",
    }
    assert len({source.digest(), later.digest()}) == 2


def test_a_huge_file_is_not_taken_into_memory(tmp_path):
    builders.image_folder(tmp_path, images=1)
    with (tmp_path / "cat" / "huge.png").open("wb") as file:
        file.truncate((1 << 30) + 1)
    assert reasons(_open(tmp_path)) == {f"{tmp_path}/cat/huge.png": "too_many_bytes"}


def test_names_that_are_no_text_are_read(tmp_path):
    builders.image_folder(tmp_path, images=1)
    raw = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "cat" / raw).write_bytes(b"bytes")
    source = _open(tmp_path)
    assert (f"{tmp_path}/cat/{raw}", b"bytes") in [(r.name, b) for r, b in everything(source)]
    assert source.digest() == _open(tmp_path).digest()


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"missing': no such folder or file; expected 'digits'"):
        _open(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"no such folder or file"):
        sources.open_source("nul\0")
    with pytest.raises(UsageError, match=r"File name too long"):
        sources.open_source("x" * 5000)
    with pytest.raises(UsageError, match=r"found no images; expected .*/CLASS/IMAGE"):
        _open(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match=r"notes.txt': a file; expected a folder of images"):
        _open(tmp_path / "notes.txt")
    builders.image_folder(tmp_path, ("only",), 1)
    with pytest.raises(UsageError, match="found one class, 'only'"):
        _open(tmp_path)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    builders.image_folder(tmp_path, images=1)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    # The super user may list everything.
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UsageError, match=r"dog': cannot be listed \(Permission denied\)"):
        _open(tmp_path)


def test_the_digest_sees_contents_and_not_times(tmp_path):
    builders.image_folder(tmp_path, images=2)
    before = _open(tmp_path).digest()
    path = tmp_path / "cat" / "000.png"
    times = (path.stat().st_atime, path.stat().st_mtime)

    os.utime(path, (1, 1))
    assert _open(tmp_path).digest() == before
    assert _open(tmp_path / ".").digest() == before

    # An edit of the same length, within the same second.
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, times)
    edited = _open(tmp_path).digest()
    assert edited != before

    (tmp_path / "cat" / "001.png").rename(tmp_path / "dog" / "moved.png")
    assert _open(tmp_path).digest() not in (before, edited)


def test_an_image_is_fetched_by_its_name(tmp_path):
    builders.image_folder(tmp_path, images=1)
    path = tmp_path / "cat" / "000.png"
    numbered = tmp_path / "cat" / "photo.png#3"
    numbered.write_bytes(b"not a record of anything")
    assert sources.fetch(str(tmp_path), str(path)) == path.read_bytes()
    assert sources.fetch(str(tmp_path), str(numbered)) == numbered.read_bytes()
    assert sources.fetch(str(tmp_path), f"{path}.missing") is None
    assert sources.fetch(str(tmp_path), f"{path}#0") is None


def _open(root):
    return sources.open_source(str(root))
