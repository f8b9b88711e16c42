import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.records import examples, manifest, tfrecord
from pipeline.training import records
from tests.pipeline.training import data


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples") / "written", 3, train=24).uri


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "examples")


def first_shard(root):
    return root / manifest.load(root).split("train").shards[0].file


def opened(root, split="train"):
    return contextlib.closing(records.open_split(root, manifest.load(root), split))


def test_every_image_is_found_where_it_lies(original):
    expected = manifest.examples_of(original, manifest.load(original), "train")
    with opened(original) as found:
        assert len(found) == len(expected) == 24
        assert found.encoded(np.arange(24)).tolist() == [e.encoded for e in expected]
        assert found.encoded(np.array([5, 5, 2])).tolist() == [
            expected[n].encoded for n in (5, 5, 2)
        ]
        np.testing.assert_array_equal(found.labels, [e.label for e in expected])
        np.testing.assert_array_equal(found.sizes, [(e.height, e.width) for e in expected])
        assert not found.jpeg.any()


def test_the_names_of_files_are_found_where_they_are_wanted(original):
    expected = manifest.examples_of(original, manifest.load(original), "train")
    rows = np.array([23, 5, 0, 5, 8])
    with opened(original) as found:
        assert found.names(rows) == [expected[row].filename for row in rows]


def test_a_file_without_a_name_is_told_by_its_place(tmp_path):
    images = [dataclasses.replace(data.example(n), filename="") for n in range(3)]
    with opened(data.write(tmp_path, 1, images, train=3).uri) as found:
        (name,) = found.names(np.array([1]))
    assert name.endswith("of data_tfrecord-00000-of-00001")


def test_jpegs_are_told_from_other_files(tmp_path):
    images = [data.example(n, format_="JPEG" if n == 4 else "PNG") for n in range(6)]
    root = data.write(tmp_path, 1, images, train=6).uri
    with opened(root) as found:
        assert found.jpeg.tolist() == [False] * 4 + [True, False]


def cut(keep):
    def damage(path):
        path.write_bytes(path.read_bytes()[:keep])

    return damage


def flip(place):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return damage


def lose_last_record(path):
    payloads = list(tfrecord.read(path))
    path.unlink()
    tfrecord.write(path, payloads[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(5), id="cut in the first header"),
        pytest.param(cut(-3), id="cut in the last CRC"),
        pytest.param(cut(100), id="cut in a payload"),
        pytest.param(flip(0), id="length altered"),
        pytest.param(flip(7), id="length altered beyond all memory"),
        pytest.param(flip(9), id="CRC of the length altered"),
        pytest.param(flip(60), id="payload altered"),
        pytest.param(flip(-1), id="CRC of the payload altered"),
        pytest.param(lose_last_record, id="last record lost"),
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
    ],
)
def test_a_shard_that_is_not_what_the_manifest_says_is_named(root, damage):
    damage(first_shard(root))
    with pytest.raises(DataError, match=first_shard(root).name):
        records.open_split(root, manifest.load(root), "train")


def test_shards_in_another_order_and_unknown_ones_are_refused(root):
    one, two, _ = (root / shard.file for shard in manifest.load(root).split("train").shards)
    between = one.with_name("between")
    one.rename(between)
    two.rename(one)
    between.rename(two)
    with pytest.raises(DataError, match=one.name):
        records.open_split(root, manifest.load(root), "train")
    two.rename(between)
    one.rename(two)
    between.rename(one)
    (one.parent / "data_tfrecord-00009-of-00010").write_bytes(b"")
    with pytest.raises(DataError, match="data_tfrecord-00009-of-00010: not in"):
        records.open_split(root, manifest.load(root), "train")


def rewrite(root, payloads):
    """Puts other records into the first shard, and makes the manifest vouch for them."""
    path = first_shard(root)
    path.unlink()
    summary = tfrecord.write(path, payloads)
    contents = json.loads((root / "manifest.json").read_text())
    contents["splits"]["train"]["shards"][0] |= {
        "records": summary.records,
        "bytes": summary.bytes,
        "crc32c": summary.crc32c,
    }
    (root / "manifest.json").write_text(json.dumps(contents))


def test_a_record_that_is_no_image_is_named(root):
    payloads = list(tfrecord.read(first_shard(root)))
    rewrite(root, [payloads[0], b"no message", *payloads[2:]])
    with pytest.raises(DataError, match=f"{first_shard(root).name}: record 1 is no tf.train"):
        records.open_split(root, manifest.load(root), "train")


def test_labels_that_the_manifest_does_not_count_are_refused(root):
    payloads = list(tfrecord.read(first_shard(root)))
    rewrite(root, [examples.serialize(data.example(1)), *payloads[1:]])
    with pytest.raises(DataError, match="the labels of the split 'train' are not those"):
        records.open_split(root, manifest.load(root), "train")


def test_a_shard_that_is_cut_while_it_is_in_use_is_an_error_and_not_a_crash(root):
    with opened(root) as found:
        with first_shard(root).open("r+b") as file:
            file.truncate(50)
        with pytest.raises(DataError, match=f"{first_shard(root).name}: ends inside an image"):
            found.encoded(np.array([0]))


def test_more_shards_than_files_may_be_open(tmp_path):
    """In a process of its own, as the limit is that of a process."""
    root = data.write(tmp_path, 40, train=80).uri
    program = f"""
        import os, resource
        from pathlib import Path
        from pipeline.records import manifest
        from pipeline.training import records
        examples_of = manifest.load(Path({str(root)!r}))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (30, hard))
        print(len(records.open_split(Path({str(root)!r}), examples_of, "train")))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "80\n", done.stderr
