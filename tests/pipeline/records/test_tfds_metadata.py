import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipeline import files
from pipeline.records import manifest, tfds_metadata, tfrecord
from pipeline.records.examples import ImageExample, serialize
from tests.pipeline import builders

CLASSES = ("zebra", "cat", "dög")
SPLITS = {"train": (5, 4), "eval": (3,), "test": ()}
UNDECODABLE = os.fsdecode(b"caf\xe9.png")


def _example(index, classes, grey=False):
    pixels = builders.noise(index, height=4 + index, width=6)
    label = index % len(classes)
    return ImageExample(
        encoded=builders.encode(pixels[..., 0] if grey else pixels),
        format="png",
        height=4 + index,
        width=6,
        label=label,
        text=classes[label],
        filename=UNDECODABLE if index == 0 else f"{index}.png",
        group="camera 7" if index == 1 else "",
    )


def _artifact(root, classes=CLASSES, name="photos"):
    """Writes an artifact as ExampleGen does; returns it with its examples by split."""
    splits, written, index = {}, {}, 0
    for split, sizes in SPLITS.items():
        (root / f"Split-{split}").mkdir(parents=True)
        shards, written[split] = [], []
        for number, size in enumerate(sizes):
            chosen = [_example(index + i, classes, grey=i == 1) for i in range(size)]
            index += size
            file = f"Split-{split}/data_tfrecord-{number:05}-of-{len(sizes):05}"
            summary = tfrecord.write(root / file, map(serialize, chosen))
            shards.append(manifest.Shard(file=file, **vars(summary)))
            written[split] += chosen
        splits[split] = manifest.Split(shards=tuple(shards), class_counts={})
    contents = manifest.Manifest(classes=classes, splits=splits)
    contents.save(root)
    tfds_metadata.write(root, name, contents)
    return root, written


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return _artifact(tmp_path_factory.mktemp("tfds") / "examples")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is asked of the network, whether or not there is one."""

    def refuse(*address):
        raise OSError(f"the test reached for the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _same(found, expected):
    """Whether what TFDS reads is what was written, in any order of shards."""
    found = {bytes(item["image/filename"]): item for item in found}
    assert found.keys() == {os.fsencode(example.filename) for example in expected}
    for example in expected:
        item = found[os.fsencode(example.filename)]
        assert item["image/class/label"] == example.label
        assert item["image/class/text"].decode() == example.text
        assert item["image/key/sha256"].decode() == example.key
        assert item["image/format"].decode() == example.format
        assert item["image/group"].decode() == example.group
        assert item["image/encoded"].shape == (example.height, example.width, 3)
        assert (item["image/height"], item["image/width"]) == (example.height, example.width)


def _both_ways(root, name="photos"):
    yield tfds.builder_from_directory(root)
    yield tfds.builder(f"{name}:{tfds_metadata.VERSION}", data_dir=root / tfds_metadata.DATA_DIR)


def test_either_way_reads_every_image_with_the_names_of_the_classes(artifact):
    root, written = artifact
    for builder in _both_ways(root):
        assert builder.info.features["image/class/label"].names == list(CLASSES)
        assert builder.info.splits["train"].num_examples == 9
        assert builder.info.splits["eval"].num_examples == 3
        for split in ("train", "eval"):
            _same(tfds.as_numpy(builder.as_dataset(split=split)), written[split])


def test_pixels_and_labels_come_as_pairs_and_as_training_sees_them(artifact):
    root, _ = artifact
    pairs = tfds.load(
        "photos:1.0.0", data_dir=root / "tfds", split="eval", as_supervised=True
    ).as_numpy_iterator()
    ours = manifest.examples_of(root, manifest.load(root), "eval")
    import tensorflow as tf

    for (pixels, label), example in zip(pairs, ours, strict=True):
        assert label == example.label
        np.testing.assert_array_equal(pixels, tf.io.decode_image(example.encoded, channels=3))


def test_slices_are_taken_across_shards_and_splits(artifact):
    root, written = artifact
    read = tfds.ReadConfig(interleave_cycle_length=1)  # in the stored order
    found = tfds.load(
        "photos:1.0.0", data_dir=root / "tfds", split="train[3:7]+eval[-1:]", read_config=read
    )
    names = [item["image/filename"].decode() for item in found.as_numpy_iterator()]
    expected = written["train"][3:7] + written["eval"][-1:]
    assert names == [example.filename for example in expected]


def test_without_a_split_all_that_have_images_are_read(artifact):
    root, _ = artifact
    found = tfds.load("photos:1.0.0", data_dir=root / "tfds")
    assert {split: len(data) for split, data in found.items()} == {"train": 9, "eval": 3}


def test_a_moved_artifact_is_read_and_has_equal_bytes_wherever_it_was_written(artifact, tmp_path):
    root, written = artifact
    elsewhere, _ = _artifact(tmp_path / "built" / "elsewhere")
    assert files.tree_digest(elsewhere) == files.tree_digest(root)
    moved = elsewhere.rename(tmp_path / "moved")
    for builder in _both_ways(moved):
        _same(tfds.as_numpy(builder.as_dataset(split="train")), written["train"])


def test_metadata_are_the_same_bytes_in_another_process(artifact, tmp_path):
    root, _ = artifact
    again = shutil.copytree(root, tmp_path / "again")
    shutil.rmtree(again / "tfds")
    script = (
        "import sys, pathlib; from pipeline.records import manifest, tfds_metadata; "
        "root = pathlib.Path(sys.argv[1]); "
        "tfds_metadata.write(root, 'photos', manifest.load(root))"
    )
    subprocess.run(
        [sys.executable, "-c", script, again],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    assert files.tree_digest(again) == files.tree_digest(root)


def test_the_shards_stand_as_before(artifact):
    root, _ = artifact
    manifest.verify(root, manifest.load(root))
    assert not [path for path in root.rglob("*") if path.is_symlink()]
    assert all(size < 10_000 for name, size in files.tree_listing(root / "tfds").items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photos", "photos"),
        ("my-photos 2", "my_photos_2"),
        ("2024", "data_2024"),
        ("", "data_"),
        ("größe", "gr__e"),
        ("éclairs", "data__clairs"),
        ("../../etc", "data_______etc"),
    ],
)
def test_any_name_becomes_one_that_tfds_finds(name, expected, tmp_path):
    assert tfds_metadata.dataset_name(name) == expected
    root, written = _artifact(tmp_path / "examples", name=name)
    assert {path.name for path in (root / "tfds").iterdir()} == {expected}
    found = tfds.load(f"{expected}:1.0.0", data_dir=root / "tfds", split="eval")
    _same(tfds.as_numpy(found), written["eval"])


def test_the_name_of_a_data_set_of_tfds_is_no_obstacle(tmp_path):
    root, written = _artifact(tmp_path / "examples", name="cifar10")
    found = tfds.load("cifar10:1.0.0", data_dir=root / "tfds", split="eval")
    _same(tfds.as_numpy(found), written["eval"])


def test_names_of_classes_that_are_no_line_are_quoted_and_stay_different(tmp_path):
    classes = ("a\nb", "ab ", "ab", " ", "'ab '", "c\r", "\u2028d", "日本 猫", '"')
    root, _ = _artifact(tmp_path / "examples", classes)
    for builder in _both_ways(root):
        names = builder.info.features["image/class/label"].names
        assert names == [
            "'a\\nb'",
            "'ab '",
            "ab",
            "' '",
            "\"'ab '\"",
            "'c\\r'",
            "'\\u2028d'",
            "日本 猫",
            "'\"'",
        ]
