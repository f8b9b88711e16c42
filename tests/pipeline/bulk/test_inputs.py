import gzip
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bulk import inputs
from pipeline.errors import DataError, UsageError
from pipeline.records import tfrecord
from pipeline.records.images import RULES
from tests.pipeline import builders
from tests.pipeline.sources import tree
from tests.pipeline.sources.test_tfrecords import example


def listed(data, size=4):
    """Returns the listing of `data`, and all its rows as a list for each shard."""
    file = io.BytesIO()
    listing = inputs.write(str(data), size, file)
    lines = file.getvalue()
    shards = []
    for shard in listing.shards:
        found = list(inputs.rows(lines[shard.offset : shard.offset + shard.length]))
        assert len(found) == shard.rows
        shards.append(found)
    return listing, shards


def flat(data):
    """Returns key to bytes or code of every row."""
    _, shards = listed(data)
    rows = [row for shard in shards for row in shard]
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: row.bad or row.image for row in rows}


def test_a_folder_of_any_depth_is_read_whole_and_in_the_order_of_names(tmp_path):
    wanted = {}
    for name in ("b/2.jpg", "a/deep/er/1.PNG", "loose.jpeg", "a/é.webp", "a/1.jpg", "z.tiff"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        wanted[str(path)] = name.encode()
    for name in ("notes.txt", "a/.hidden.jpg", "b/clip.mp4"):
        (tmp_path / name).write_bytes(b"else")
    listing, shards = listed(tmp_path)
    assert [len(shard) for shard in shards] == [4, 2]
    rows = [row for shard in shards for row in shard]
    assert {row.key: row.image for row in rows} == wanted
    names = [row.key.removeprefix(f"{tmp_path}/").split("/") for row in rows]
    assert names == sorted(names)
    assert listing.rows == 6
    assert listing.notices == (f"{tmp_path}: 2 files are left out: 1 .mp4, 1 .txt",)


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 12))
def test_every_entry_is_in_one_shard_and_shards_are_as_small_as_they_may_be(counts, size):
    entries = [("records", number, count) for number, count in enumerate(counts)]
    shards = list(inputs._grouped(entries, size))
    assert [member for _, members, _ in shards for member in members] == list(range(len(counts)))
    for _, members, count in shards:
        assert count == sum(counts[member] for member in members)
        assert count - counts[members[-1]] < size
    assert all(count >= size for _, _, count in shards[:-1])


def test_the_digest_tells_other_files_from_the_same_ones(tmp_path):
    builders.image_folder(tmp_path / "photos", images=3)
    first, _ = listed(tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    assert listed(tmp_path / "photos")[0].sha256 == first.sha256
    picture = tmp_path / "photos" / "cat" / "000.png"
    status = picture.stat()
    digests = {first.sha256}
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    digests.add(listed(tmp_path / "photos")[0].sha256)
    picture.write_bytes(b"other")
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    digests.add(listed(tmp_path / "photos")[0].sha256)
    picture.rename(picture.with_name("new.png"))
    digests.add(listed(tmp_path / "photos")[0].sha256)
    assert len(digests) == 4


def test_what_cannot_be_read_is_a_row_with_a_code(tmp_path):
    for name in ("good.jpg", "gone.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(RULES.max_bytes + 1)
    file = io.BytesIO()
    inputs.write(str(tmp_path), 100, file)
    (tmp_path / "gone.jpg").unlink()
    found = {row.key.rpartition("/")[2]: row for row in inputs.rows(file.getvalue())}
    assert {name: row.bad for name, row in found.items()} == {
        "good.jpg": "",
        "gone.jpg": "vanished",
        "pipe.jpg": "unreadable",
        "link.jpg": "unreadable",
        "huge.jpg": "too_many_bytes",
    }
    assert all(row.bad == "" or row.image == b"" for row in found.values())


def test_a_folder_that_is_gone_stops_the_job_in_place_of_thousands_of_dead_letters(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "1.jpg").write_bytes(b"x")
    file = io.BytesIO()
    inputs.write(str(tmp_path / "disk"), 100, file)
    (tmp_path / "disk" / "1.jpg").unlink()  # as if nothing was mounted there
    with pytest.raises(DataError, match="the folder is gone, or empty now"):
        list(inputs.rows(file.getvalue()))
    (tmp_path / "disk").rmdir()
    with pytest.raises(DataError, match="the folder is gone, or empty now"):
        list(inputs.rows(file.getvalue()))


@pytest.mark.parametrize("columns", ["path", "path,label,split"])
def test_a_manifest_needs_no_labels_and_one_class_is_enough(tmp_path, columns):
    builders.image_folder(tmp_path, images=2)
    more = ",cat," if "label" in columns else ""
    (tmp_path / "m.csv").write_text(
        f"{columns}\ncat/000.png{more}\n{tmp_path}/dog/001.png{more}\nno.png{more}\na,b,c,d,e\n"
    )
    assert flat(tmp_path / "m.csv") == {
        f"{tmp_path}/cat/000.png": (tmp_path / "cat/000.png").read_bytes(),
        f"{tmp_path}/dog/001.png": (tmp_path / "dog/001.png").read_bytes(),
        f"{tmp_path}/no.png": "vanished",
        f"{tmp_path}/m.csv:5": "malformed_row",
    }


def test_a_file_that_a_manifest_names_twice_is_one_image(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "m.csv").write_text(f"path\na.png\nb.png\n{tmp_path}/a.png\n")
    assert flat(tmp_path / "m.csv") == {f"{tmp_path}/a.png": b"a", f"{tmp_path}/b.png": b"b"}
    (notice,) = listed(tmp_path / "m.csv")[0].notices
    assert notice == f"{tmp_path}/m.csv: 1 row names a file of an earlier row; asked once"


def test_records_need_no_labels_and_a_shard_may_begin_inside_a_file(tmp_path):
    payloads = [example(number) for number in range(300)]
    tfrecord.write(tmp_path / "a.tfrecord", payloads[:260])
    tfrecord.write(tmp_path / "b.tfrecord", payloads[260:])
    _, shards = listed(tmp_path, 100)
    assert [len(shard) for shard in shards] == [128, 128, 44]
    rows = [row for shard in shards for row in shard]
    assert [row.image for row in rows] == [b"picture %d" % number for number in range(300)]
    assert rows[259].key == f"{tmp_path}/a.tfrecord#259"
    assert rows[260].key == f"{tmp_path}/b.tfrecord#0"
    assert flat(tmp_path / "*.tfrecord") == {row.key: row.image for row in rows}


def test_records_that_are_damaged_or_no_images_are_rows_with_a_code(tmp_path):
    path = tmp_path / "a.tfrecord"
    tfrecord.write(path, [example(0), b"\xff", example(1, image=[]), example(2), example(3)])
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-10])
    assert list(flat(path).values()) == [
        b"picture 0",
        "not_an_example",
        "no_image",
        b"picture 2",
        "shard_damaged",
    ]
    zipped = tmp_path / "z.tfrecord.gz"
    zipped.write_bytes(gzip.compress(bytes(content)))
    assert list(flat(zipped).values())[3:] == [b"picture 2", b"picture 3"]


def test_examples_that_were_ingested_are_read_as_they_lie_there_and_as_tfds(tmp_path):
    written, _ = builders.examples(
        tmp_path / "examples", builders.image_folder(tmp_path / "photos", images=10)
    )
    pictures = sorted(path.read_bytes() for path in (tmp_path / "photos").rglob("*.png"))
    assert sorted(flat(written.uri).values()) == pictures
    (prepared,) = (path.parent for path in (written.uri / "tfds").rglob("dataset_info.json"))
    assert sorted(flat(f"tfds:{prepared}").values()) == pictures


def test_the_digits_are_there_without_any_file():
    found = flat("digits")
    assert len(found) == 1797
    assert found["digits/0000"][:4] == b"\x89PNG"


def test_files_behind_uris_are_read_like_those_here(tmp_path, monkeypatch):
    builders.image_folder(tmp_path / "photos", images=12)
    here = flat(tmp_path / "photos")
    there = flat(tree.uri(tmp_path / "photos"))
    assert list(there) == [tree.uri(path) for path in here]
    assert list(there.values()) == list(here.values())
    monkeypatch.setattr(tree.TreeFileSystem, "broken", frozenset({"007.png"}))
    with pytest.raises(DataError, match="the line is dead"):
        flat(tree.uri(tmp_path / "photos"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("missing", "data 'missing': no such folder or file"),
        ("*.tfrecord", "data '*.tfrecord': no file matches"),
        ("file.txt", "data 'file.txt': a file; expected a folder of images, a manifest"),
        ("empty", "data 'empty': found no images; empty: 1 file is left out: 1 .txt"),
        ("no.csv", "no.csv': no column 'path'"),
    ],
)
def test_what_cannot_be_listed_is_named(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "no.csv").write_text("name\n1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file.txt").write_text("x")
    with pytest.raises(UsageError) as found:
        inputs.write(data, 10, io.BytesIO())
    assert message in str(found.value)
