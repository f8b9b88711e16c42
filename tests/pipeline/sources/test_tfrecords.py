import gzip
import os

import pytest

from pipeline import sources
from pipeline.errors import UsageError
from pipeline.records import examples, manifest, tfrecord
from pipeline.records.example_proto import example_class
from tests.pipeline import builders
from tests.pipeline.sources.reading import everything, reasons, references


def example(index, text=None, label=None, image=None, **features):
    """Returns a serialized Example with a picture, as any other program may have written it."""
    message = example_class()()
    picture = b"picture %d" % index if image is None else image
    for name, value in {
        examples.IMAGE: picture,
        examples.TEXT: text,
        examples.LABEL: label,
        **features,
    }.items():
        if value is None:
            continue
        for single in value if isinstance(value, list) else [value]:
            kind = "int64_list" if isinstance(single, int) else "bytes_list"
            single = single.encode() if isinstance(single, str) else single
            getattr(message.features.feature[name], kind).value.append(single)
    return message.SerializeToString(deterministic=True)


def _pets(count, start=0):
    return [example(start + i, "cat" if i % 2 else "dog", i % 2) for i in range(count)]


def _open(path):
    return sources.open_source(str(path))


@pytest.fixture
def artifact(tmp_path):
    """An Examples artifact of ExampleGen, with a class order that is not that of the alphabet."""
    contents = {}
    for split, count in (("train", 300), ("eval", 2), ("test", 3)):
        file = f"Split-{split}/data_tfrecord-00000-of-00001"
        (tmp_path / f"Split-{split}").mkdir()
        payloads = [
            example(i, ("zebra", "ant")[i % 2], i % 2, **{examples.GROUP: f"{i}"})
            for i in range(count)
        ]
        summary = tfrecord.write(tmp_path / file, payloads)
        shard = manifest.Shard(file=file, **vars(summary))
        contents[split] = manifest.Split(shards=(shard,), class_counts={})
    manifest.Manifest(classes=("zebra", "ant", "yak"), splits=contents).save(tmp_path)
    return tmp_path


def test_an_artifact_of_examples_is_read_with_its_splits_classes_and_groups(artifact):
    source = _open(artifact)
    assert source.classes == ("zebra", "ant", "yak")
    assert source.splits == ("train", "eval", "test")
    assert (source.total, source.damaged) == (305, ())
    found = [(r.name, r.text, r.split, r.group, encoded) for r, encoded in everything(source)]
    assert found == [
        (
            f"{artifact}/Split-{split}/data_tfrecord-00000-of-00001#{index}",
            ("zebra", "ant")[index % 2],
            split,
            str(index),
            b"picture %d" % index,
        )
        for split, count in (("eval", 2), ("test", 3), ("train", 300))
        for index in range(count)
    ]


def test_what_example_gen_wrote_comes_out_again(tmp_path):
    builders.image_folder(tmp_path / "photos", images=30)
    written, _ = builders.examples(tmp_path / "examples", tmp_path / "photos")
    source = _open(written.uri)
    before = {b: r.text for r, b in everything(_open(tmp_path / "photos"))}
    assert {b: r.text for r, b in everything(source)} == before
    contents = manifest.load(written.uri)
    counts = {name: split.examples for name, split in contents.splits.items() if split.examples}
    found = [reference.split for reference in references(source)]
    assert {name: found.count(name) for name in counts} == counts


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ({"train-00000-of-00010": "train", "validation-00001-of-00010": "eval"}, ("train", "eval")),
        (
            {
                "my_test-train.tfrecord-00000-of-00001": "train",
                "my_test-test.tfrecord-00000-of-00001": "test",
            },
            ("train", "test"),
        ),
        ({"pets_dev.tfrecords": "eval", "TRAIN.TFRECORD": "train"}, ("train", "eval")),
        ({"Split-Train/a.tfrecord": "train", "Split-val/b.tfrecord.gz": "eval"}, ("train", "eval")),
        ({"a.tfrecord": None, "train.tfrecord": "train"}, ("train",)),
        ({"a.tfrecord": None, "b.tfrecord": None}, ()),
        # All in one split: that says nothing.
        ({"train-00000-of-00002": None, "train-00001-of-00002": None}, ()),
    ],
)
def test_folders_and_names_of_files_tell_the_split(tmp_path, names, splits):
    for number, name in enumerate(names):
        _write(tmp_path / name, _pets(3, 10 * number))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(b"")
    source = _open(tmp_path)
    assert source.splits == splits
    found = {r.name.rpartition("#")[0]: r.split for r in references(source)}
    assert found == {f"{tmp_path}/{name}": split for name, split in names.items()}


def _write(path, payloads):
    path.parent.mkdir(exist_ok=True)
    plain = path.with_name("plain")
    tfrecord.write(plain, payloads)
    content = plain.read_bytes()
    plain.unlink()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_a_split_that_nobody_knows_is_not_mixed_into_another(tmp_path):
    _write(tmp_path / "Split-train" / "a.tfrecord", _pets(2))
    _write(tmp_path / "Split-holdout" / "a.tfrecord", _pets(2, 5))
    source = _open(tmp_path)
    assert source.total == 4
    assert set(reasons(source).values()) == {"unknown_split"}
    assert len(reasons(source)) == 2


def test_one_file_a_pattern_and_zipped_files(tmp_path):
    _write(tmp_path / "pets.tfrecord", _pets(300))
    _write(tmp_path / "pets.tfrecord.gz", _pets(300))
    _write(tmp_path / "whatever.1", _pets(2))
    _write(tmp_path / "whatever.2", _pets(3))
    plain, zipped = _open(tmp_path / "pets.tfrecord"), _open(tmp_path / "pets.tfrecord.gz")
    assert [b for _, b in everything(plain)] == [b for _, b in everything(zipped)]
    assert (plain.name, plain.total, zipped.total) == ("pets", 300, 300)
    assert len(plain.parts) > 1
    some = _open(tmp_path / "whatever.*")
    assert (some.name, some.total) == (tmp_path.name, 5)
    with pytest.raises(UsageError, match="no file matches this pattern"):
        _open(tmp_path / "nothing*")
    with pytest.raises(UsageError, match=r"whatever.1': a file; expected"):
        _open(tmp_path / "whatever.1")


def test_many_small_and_few_large_records_make_parts_of_some_bytes(tmp_path):
    large = [example(i, "cat" if i else "dog", image=bytes(9 << 20)) for i in range(3)]
    _write(tmp_path / "a.tfrecord", [*large, *_pets(300)])
    source = _open(tmp_path / "a.tfrecord")
    assert [part.count for part in source.parts] == [1, 1, 128, 128, 45]
    assert [part.first for part in source.parts] == [0, 1, 2, 130, 258]
    assert [r.name.rpartition("#")[2] for r in references(source)] == [str(i) for i in range(303)]


@pytest.mark.parametrize(
    ("pairs", "classes"),
    [
        ([("zebra", 0), ("ant", 1), ("yak", 2)], ("zebra", "ant", "yak")),
        ([("zebra", 0), ("ant", 0)], ("ant", "zebra")),
        ([("zebra", 0), ("ant", 1), ("ant", 2)], ("ant", "zebra")),
        ([("zebra", None), ("ant", None)], ("ant", "zebra")),
        ([(None, 10), (None, 9)], ("9", "10")),
        ([("", 10), (None, 9)], ("9", "10")),
    ],
)
def test_the_order_of_classes(tmp_path, pairs, classes):
    payloads = [example(i, text, label) for i, (text, label) in enumerate(pairs)]
    _write(tmp_path / "a.tfrecord", payloads)
    source = _open(tmp_path / "a.tfrecord")
    assert source.classes == classes
    assert [r.text for r in references(source)] == [text or str(label) for text, label in pairs]


def test_records_that_cannot_be_used_are_named_and_none_is_left_out(tmp_path):
    strange = {
        b"\xff\xffno message": "not_an_example",
        b"": "no_image",
        example(0, "cat", image=[]): "no_image",
        example(0, "cat", image=7): "no_image",
        example(0): "no_label",
        example(0, "cat", -1): "no_label",
        example(0, "", -1): "no_label",
        example(0, b"\xff"): "not_utf8",
        example(0, ["cat", "dog"]): "several_values",
        example(0, None, [1, 2]): "several_values",
    }
    _write(tmp_path / "a.tfrecord", [*_pets(3), *strange, *_pets(2, 3)])
    source = _open(tmp_path / "a.tfrecord")
    expected = enumerate(strange.values(), 3)
    assert reasons(source) == {f"{tmp_path}/a.tfrecord#{i}": reason for i, reason in expected}
    assert source.total == 15
    assert source.damaged == ()


def test_files_without_images_tell_what_they_hold(tmp_path):
    message = example_class()()
    message.features.feature["image"].bytes_list.value.append(b"picture")
    message.features.feature["label"].int64_list.value.append(3)
    payload = message.SerializeToString()
    _write(tmp_path / "a.tfrecord", [payload])
    with pytest.raises(UsageError, match=r"found the features 'image', 'label'; .*as tfds:FOLDER"):
        _open(tmp_path / "a.tfrecord")
    _write(tmp_path / "a.tfrecord", [])
    with pytest.raises(UsageError, match="found no image with a class; expected examples with"):
        _open(tmp_path / "a.tfrecord")
    _write(tmp_path / "a.tfrecord", [example(0, "cat"), example(1, "cat")])
    with pytest.raises(UsageError, match="found one class, 'cat'"):
        _open(tmp_path / "a.tfrecord")


_COUNT = 5


@pytest.fixture(params=["plain", "zipped"])
def shards(request, tmp_path):
    """Two shards, of which one will be damaged; with the start of each record of that."""
    _write(tmp_path / "whole.tfrecord", _pets(4, 50))
    path = tmp_path / ("cut.tfrecord.gz" if request.param == "zipped" else "cut.tfrecord")
    _write(path, _pets(_COUNT))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    starts = [0]
    for payload in _pets(_COUNT):
        starts.append(starts[-1] + 16 + len(payload))

    def damage(content):
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return _open(tmp_path)

    return path, content, starts, damage


def test_a_cut_is_found_at_every_byte_but_those_between_records(shards):
    path, content, starts, damage = shards
    for length in range(1, len(content)):
        source = damage(content[:length])
        whole = sum(start <= length for start in starts[1:])
        found = everything(source)
        good = [reference.name for reference, _ in found if not reference.bad]
        assert sum(name.startswith(f"{path}#") for name in good) == whole
        if length in starts:
            # Nothing in the file can tell; a manifest does.
            assert source.damaged == ()
            assert len(found) == whole + 4
        else:
            assert len(found) == whole + 1 + 4
            assert reasons(source) == {f"{path}#{whole}": "shard_damaged"}
            (line,) = source.damaged
            assert f"{path}: record {whole} at byte {starts[whole]} is damaged" in line


def test_a_flipped_bit_costs_its_record_or_what_is_behind_its_header(shards):
    path, content, starts, damage = shards
    for position in range(starts[2], starts[3]):
        flipped = bytearray(content)
        flipped[position] ^= 4
        source = damage(bytes(flipped))
        bad = reasons(source)
        if position < starts[2] + 12:
            assert bad == {f"{path}#2": "shard_damaged"}
            assert "record 2" in source.damaged[0]
            assert source.total == 2 + 1 + 4
        else:
            assert bad == {f"{path}#2": "record_damaged"}
            assert (source.damaged, source.total) == ((), _COUNT + 4)


def test_a_length_that_promises_too_much_takes_no_memory(tmp_path):
    _write(tmp_path / "a.tfrecord", _pets(3))
    huge = (1 << 60).to_bytes(8, "little")
    # The CRC of a payload that is that number.
    header = huge + tfrecord.frame(huge)[-4:]
    with (tmp_path / "a.tfrecord").open("ab") as file:
        file.write(header + b"x" * 100)
    source = _open(tmp_path / "a.tfrecord")
    assert reasons(source) == {f"{tmp_path}/a.tfrecord#3": "shard_damaged"}
    assert "record 3" in source.damaged[0]


def test_a_zipped_file_that_is_cut_is_found(tmp_path):
    _write(tmp_path / "whole.tfrecord", _pets(4, 50))
    path = tmp_path / "cut.tfrecord.gz"
    _write(path, _pets(50))
    content = path.read_bytes()
    for length in (1, 5, len(content) // 2, len(content) - 6, len(content) - 1):
        path.write_bytes(content[:length])
        source = _open(tmp_path)
        assert len(source.damaged) == 1
        assert list(reasons(source).values()) == ["shard_damaged"]
        assert len(everything(source)) == source.total
    for position in range(10, len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        source = _open(tmp_path)
        assert len(source.damaged) == 1
        assert len(everything(source)) == source.total


def test_a_cut_between_records_is_found_by_the_manifest(artifact):
    path = artifact / "Split-train" / "data_tfrecord-00000-of-00001"
    content = path.read_bytes()
    last = list(tfrecord.records(path.open("rb"), path))[-1].offset
    path.write_bytes(content[:last])
    (line,) = _open(artifact).damaged
    expected = manifest.load(artifact).splits["train"].shards[0]
    assert line == (
        f"{path}: found 299 records, {last} bytes, CRC32C {tfrecord.summarize(path).crc32c}; "
        f"manifest.json says 300, {len(content)}, {expected.crc32c}"
    )
    source = _open(artifact)
    assert reasons(source) == {f"{path}#299": "shard_damaged"}
    assert source.total == 299 + 1 + 5
    # A pattern names the files themselves, and no folder with a manifest.
    assert _open(artifact / "Split-*" / "*").damaged == ()


def test_a_shard_that_is_missing_or_strange_is_found_by_the_manifest(artifact):
    path = artifact / "Split-eval" / "data_tfrecord-00000-of-00001"
    stranger = artifact / "Split-eval" / "data_tfrecord-00001-of-00002"
    path.rename(stranger)
    source = _open(artifact)
    assert set(source.damaged) == {
        f"{stranger}: not in manifest.json",
        f"{path}: missing; manifest.json says 2 records are in it",
    }
    assert reasons(source) == {f"{stranger}#2": "shard_damaged", f"{path}#0": "shard_damaged"}


def test_a_manifest_of_something_else_is_refused(artifact):
    (artifact / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"manifest.json': not a manifest of ExampleGen"):
        _open(artifact)


def test_files_that_change_while_they_are_read_keep_the_count(artifact):
    source = _open(artifact)
    path = artifact / "Split-train" / "data_tfrecord-00000-of-00001"
    path.write_bytes(path.read_bytes()[:1000])
    bad = reasons(source)
    assert set(bad.values()) == {"shard_damaged"}
    path.unlink()
    bad = reasons(source)
    assert (len(bad), set(bad.values())) == (300, {"unreadable"})


def test_the_digest_sees_contents_and_labels_and_not_times(tmp_path):
    path = tmp_path / "a.tfrecord"
    _write(path, _pets(4))
    before = _open(path).digest()
    os.utime(path, (1, 1))
    assert _open(path).digest() == before
    changed = []
    for payloads in (
        _pets(5),
        [*_pets(3), example(3, "dog", 1)],
        [*_pets(3), example(9, "cat", 1)],
    ):
        path.unlink()
        _write(path, payloads)
        changed.append(_open(path).digest())
    assert len({before, *changed}) == 4


def test_an_image_is_fetched_by_file_and_number(shards):
    path, content, _, damage = shards
    source = damage(content)
    for reference, encoded in everything(source):
        assert sources.fetch(str(path), reference.name) == encoded
    assert sources.fetch(str(path), f"{path}#{_COUNT}") is None
    assert sources.fetch(str(path), f"{path}.missing#0") is None
    damage(content[:-1])
    assert sources.fetch(str(path), f"{path}#{_COUNT - 1}") is None
    assert sources.fetch(str(path), f"{path}#0") is not None
