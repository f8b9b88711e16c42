import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pipeline import sources
from pipeline.errors import DataError, UsageError
from pipeline.records import manifest, tfrecord
from tests.pipeline import builders
from tests.pipeline.sources import pets
from tests.pipeline.sources.reading import everything, reasons, references


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where data sets are prepared once for all tests."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def copy(data_dir, tmp_path):
    """A prepared data set that a test may damage, as what a person gives and as a folder."""
    sources.open_source("tfds:pets", tfds_data_dir=data_dir)
    folder = tmp_path / "prepared"
    shutil.copytree(data_dir / "pets" / "1.2.3", folder)
    return f"tfds:{folder}", folder


def _theirs(builder, split, image, label):
    """What TFDS itself reads, undecoded, in its order."""
    dataset = builder.as_dataset(
        split=split,
        decoders={image: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
    )
    return [(found[image], int(found[label])) for found in dataset.as_numpy_iterator()]


def test_all_images_come_as_tfds_reads_them(data_dir):
    source = sources.open_source("tfds:pets", tfds_data_dir=data_dir)
    assert (source.name, source.classes) == ("pets", pets.CLASSES)
    assert source.splits == ("train", "eval", "test")
    assert (source.total, source.damaged) == (309, ())
    builder = tfds.builder("pets", data_dir=data_dir)
    expected = [
        (f"pets/1.2.3/{theirs}#{index}", ours, encoded, label)
        for theirs, ours in (("train", "train"), ("validation", "eval"), ("test", "test"))
        for index, (encoded, label) in enumerate(_theirs(builder, theirs, "picture", "kind"))
    ]
    found = everything(source)
    assert len(source.parts) > len(source.splits)
    for (reference, encoded), (name, split, theirs, label) in zip(found, expected, strict=True):
        assert (reference.name, reference.split) == (name, split)
        if label < 0:
            assert (reference.bad, encoded) == ("no_label", b"")
        else:
            assert (reference.text, encoded) == (pets.CLASSES[label], theirs)
        assert sources.fetch("tfds:pets", name, tfds_data_dir=data_dir) == theirs
    assert Counter(reasons(source).values()) == {"no_label": 31}


def test_other_splits_are_left_out_and_named(data_dir):
    source = sources.open_source("tfds:pets", tfds_data_dir=data_dir)
    assert source.notices == (
        "tfds:pets: the splits unlabelled are left out; read are train, validation, test",
    )
    with pytest.raises(UsageError, match="expected the splits train and test; found left, right"):
        sources.open_source("tfds:strange_pets", tfds_data_dir=data_dir)


def test_a_split_whose_labels_are_secret_is_left_out(data_dir):
    source = sources.open_source("tfds:secret_pets", tfds_data_dir=data_dir)
    assert source.notices == (
        "tfds:secret_pets: the splits test are left out: none of their images has a label",
    )
    assert source.splits == ("train", "eval")
    assert Counter(found.split for found in references(source)) == {"train": 20, "eval": 150}
    # A single label keeps a split, wherever it is.
    assert Counter(reasons(source).values()) == {"no_label": 149}
    with pytest.raises(UsageError, match="no image of the splits train, test has a label"):
        sources.open_source("tfds:blind_pets", tfds_data_dir=data_dir)


def test_a_secret_split_that_is_damaged_is_named(data_dir, tmp_path):
    sources.open_source("tfds:secret_pets", tfds_data_dir=data_dir)
    for damage in (lambda shard: os.truncate(shard, 500), lambda shard: shard.unlink()):
        folder = tmp_path / "prepared"
        shutil.copytree(data_dir / "secret_pets" / "1.2.3", folder)
        (shard,) = folder.glob("secret_pets-test*")
        damage(shard)
        source = sources.open_source(f"tfds:{folder}")
        assert (source.total, len(source.damaged), source.notices) == (320, 1, ())
        shutil.rmtree(folder)


def test_a_single_split_is_none(data_dir):
    source = sources.open_source("tfds:one_pets", tfds_data_dir=data_dir)
    assert (source.splits, source.notices, source.total) == ((), (), 10)
    assert {reference.split for reference in references(source)} == {None}


def test_features_that_may_mean_several_things_are_named(data_dir):
    with pytest.raises(
        UsageError,
        match="found the features id: Tensor, kind: ClassLabel, mirrored: Image, picture: Image",
    ):
        sources.open_source("tfds:two_pictures", tfds_data_dir=data_dir)


def test_versions_and_folders_name_the_same(data_dir, monkeypatch):
    source = sources.open_source("tfds:pets", tfds_data_dir=data_dir)
    monkeypatch.chdir(data_dir)
    for data in (
        f"tfds:{data_dir}/pets/1.2.3",
        "tfds:./pets/1.2.3",
        f"tfds:{data_dir}/pets/1.2.{{SPAN}}",
    ):
        other = sources.open_source(data, tfds_data_dir=data_dir)
        assert (other.digest(), references(other)) == (source.digest(), references(source))
    assert other.span == 3
    pinned = sources.open_source("tfds:pets:1.2.3", tfds_data_dir=data_dir)
    assert pinned.digest() == source.digest()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("tfds:no_such_pets", "TensorFlow Datasets knows no such data set"),
        ("tfds:pets:9.9.9", "9.9.9"),
        ("tfds:pets/large", "large"),
        ("tfds:", "tfds:"),
        ("tfds:/no/such/folder", "holds no data set that TFDS has prepared"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(data_dir, data, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        sources.open_source(data, tfds_data_dir=data_dir)
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(copy):
    data, folder = copy
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(UsageError, match="prepared as array_record; prepare it as tfrecord"):
        sources.open_source(data)


def test_an_artifact_of_example_gen_is_a_data_set_of_tfds(tmp_path):
    builders.image_folder(tmp_path / "photos", images=30)
    written, _ = builders.examples(tmp_path / "examples", tmp_path / "photos")
    source = sources.open_source(f"tfds:{written.uri}")
    contents = manifest.load(written.uri)
    assert source.classes == contents.classes
    counts = Counter(reference.split for reference in references(source))
    assert counts == {name: split.examples for name, split in contents.splits.items()}
    before = {b: r.text for r, b in everything(sources.open_source(str(tmp_path / "photos")))}
    assert {b: r.text for r, b in everything(source)} == before


def test_the_digest_sees_contents_and_names_of_classes_and_not_times(copy):
    data, folder = copy
    (shard,) = folder.glob("pets-train*")
    before = sources.open_source(data).digest()
    os.utime(shard, (1, 1))
    assert sources.open_source(data).digest() == before
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    changed = [sources.open_source(data).digest()]
    labels = folder / "kind.labels.txt"
    labels.write_text(labels.read_text().replace("ant", "bee"))
    changed.append(sources.open_source(data).digest())
    assert len({before, *changed}) == 3


@pytest.mark.parametrize("place", ["header", "payload", "footer", "boundary"])
def test_a_shard_that_is_cut_is_named_and_its_images_are_counted(copy, place):
    data, folder = copy
    (shard,) = folder.glob("pets-train*")
    with shard.open("rb") as file:
        last = list(tfrecord.records(file, shard))[-1]
    end = {"header": 7, "payload": 30, "footer": 12 + len(last.payload) + 2, "boundary": 0}
    os.truncate(shard, last.offset + end[place])
    source = sources.open_source(data)
    (line,) = source.damaged
    assert str(shard) in line
    assert ("299 records; TFDS says 300" if place == "boundary" else "record 299") in line
    assert source.total == 309
    damaged = [name for name, reason in reasons(source).items() if reason == "shard_damaged"]
    assert damaged == ["pets/1.2.3/train#299"]


def test_a_shard_that_is_missing_is_named_and_its_images_are_counted(copy):
    data, folder = copy
    (shard,) = folder.glob("pets-test*")
    shard.unlink()
    source = sources.open_source(data)
    assert source.damaged == (f"{shard}: missing; TFDS says 5 records are in it",)
    assert Counter(reasons(source).values())["unreadable"] == 5
    assert source.total == 309


def test_without_a_network_the_missing_file_is_named_at_once(data_dir, tmp_path):
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        sources.open_source("tfds:far_pets", tfds_data_dir=data_dir)
    assert time.monotonic() - started < 20
    assert re.fullmatch(
        rf"tfds:far_pets: {pets.URL} cannot be reached \(ConnectionError\); put the file pets.bin "
        rf"into {data_dir}/downloads/manual, or name its folder with --set "
        r"example_gen.tfds_manual_dir=FOLDER",
        str(caught.value),
    )
    with pytest.raises(DataError, match=f"into {tmp_path}, or"):
        sources.open_source("tfds:far_pets", tfds_data_dir=data_dir, tfds_manual_dir=tmp_path)
    with pytest.raises(UsageError, match=r"tfds_manual_dir .*missing': no such folder"):
        missing = tmp_path / "missing"
        sources.open_source("tfds:far_pets", tfds_data_dir=data_dir, tfds_manual_dir=missing)


def test_a_file_put_there_by_hand_is_taken_and_named_where_it_is_another(tmp_path, capfd):
    manual, data_dir = tmp_path / "manual", tmp_path / "data"
    manual.mkdir()
    pictures = []
    for first in (20, 40):
        (manual / "pets.bin").write_bytes(bytes([first, 0, 0]))
        source = sources.open_source(
            "tfds:far_pets", tfds_data_dir=data_dir, tfds_manual_dir=manual
        )
        (notice,) = source.notices
        assert re.fullmatch(
            rf"{manual}/pets.bin: sha256 [0-9a-f]{{64}} of 3 bytes, where TFDS has registered "
            r"0{64} of 4 bytes; taken, since it was put there by hand",
            notice,
        )
        pictures.append({encoded for _, encoded in everything(source)})
        shutil.rmtree(data_dir / "far_pets")
    # The second file is not mistaken for the first.
    assert not (pictures[0] & pictures[1]) - {b""}
    assert capfd.readouterr().out == ""
    assert sorted(path.name for path in data_dir.iterdir()) == [".preparing.lock", "downloads"]


def test_a_data_set_whose_code_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match=r"tfds:wild_pets: cannot be prepared: \w+: .*a line and"):
        sources.open_source("tfds:wild_pets", tfds_data_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".preparing.lock", "downloads"]


def test_nothing_is_prepared_to_fetch_a_picture(tmp_path):
    assert sources.fetch("tfds:pets", "pets/1.2.3/train#0", tfds_data_dir=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_names_of_other_data_sets_are_not_fetched(data_dir):
    sources.open_source("tfds:pets", tfds_data_dir=data_dir)
    for name in ("pets/1.2.3/train#300", "pets/1.2.3/train", "pets/1.0.0/train#1", "#", "x.png"):
        assert sources.fetch("tfds:pets", name, tfds_data_dir=data_dir) is None


@pytest.mark.soak
def test_a_preparation_that_is_killed_leaves_the_next_one_clean(tmp_path, round_):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline import sources\n"
        "from tests.pipeline.sources import pets\n"
        "sources.open_source('tfds:slow_pets', tfds_data_dir=Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    staging = tmp_path / ".preparing"
    while not list(staging.rglob("incomplete*")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.3 * round_ % 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "slow_pets").exists()

    source = sources.open_source("tfds:slow_pets", tfds_data_dir=tmp_path)
    assert len(everything(source)) == 44
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".preparing.lock",
        "downloads",
        "slow_pets",
    ]
    assert not [path for path in tmp_path.rglob("*") if "incomplete" in path.name]


@pytest.mark.slow
def test_two_processes_prepare_a_data_set_once(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline import sources\n"
        "from tests.pipeline.sources import pets\n"
        "print(sources.open_source('tfds:pets', tfds_data_dir=Path(sys.argv[1])).digest())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    # Files of TFDS differ from preparation to preparation.
    assert len(digests) == 1


_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _per_class(source):
    found = everything(source)
    assert not any(reference.bad for reference, _ in found)
    return Counter((reference.split, reference.text) for reference, _ in found)


@pytest.mark.exhaustive
def test_the_whole_of_cifar10_is_prepared_from_files_put_there_by_hand(
    data_dir, real_images, tmp_path
):
    subprocess.run([sys.executable, real_images / "cifar10" / "rebuild.py", tmp_path], check=True)
    source = _prepared(data_dir, tmp_path)
    assert _per_class(source) == {
        **{("train", text): 5000 for text in _CIFAR},
        **{("test", text): 1000 for text in _CIFAR},
    }
    _same_bytes(source, data_dir, "cifar10")


@pytest.mark.slow
def test_cifar10_is_prepared_from_files_put_there_by_hand(tmp_path):
    """From an archive like the real one, of 40 pictures in each file."""
    folder, random = tmp_path / "cifar-10-batches-bin", np.random.default_rng(0)
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(_CIFAR))
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        rows = random.integers(0, 256, (40, 3073), np.uint8)
        rows[:, 0] = np.arange(40) % 10
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    source = _prepared(tmp_path / "tfds", tmp_path)
    assert _per_class(source) == {
        **{("train", text): 20 for text in _CIFAR},
        **{("test", text): 4 for text in _CIFAR},
    }


def _prepared(data_dir, manual):
    source = sources.open_source("tfds:cifar10", tfds_data_dir=data_dir, tfds_manual_dir=manual)
    assert source.classes == _CIFAR
    # The archive was packed anew, and is not that of the registered sum.
    (notice,) = source.notices
    assert notice.startswith(f"{manual}/cifar-10-binary.tar.gz: sha256 ")
    originals = set()
    for path in (manual / "cifar-10-batches-bin").glob("*.bin"):
        rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)
        originals |= {row.tobytes() for row in rows[:100]}
    assert originals <= {_row(reference, encoded) for reference, encoded in everything(source)}
    return source


def _row(reference, encoded):
    """An image of CIFAR-10 as its original files have it: its label, then planes of colours."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    return bytes([_CIFAR.index(reference.text)]) + pixels.transpose(2, 0, 1).tobytes()


@pytest.mark.slow
def test_fashion_mnist_is_prepared_from_files_put_there_by_hand(data_dir, real_images):
    source = sources.open_source(
        "tfds:fashion_mnist",
        tfds_data_dir=data_dir,
        tfds_manual_dir=real_images / "fashion_mnist",
    )
    assert source.notices == ()  # they are the registered ones
    assert source.classes[:3] == ("T-shirt/top", "Trouser", "Pullover")
    assert _per_class(source) == {
        **{("train", text): 6000 for text in source.classes},
        **{("test", text): 1000 for text in source.classes},
    }
    _same_bytes(source, data_dir, "fashion_mnist")


def _same_bytes(source, data_dir, name):
    """Whether images are what TFDS reads at the same place."""
    builder = tfds.builder(name, data_dir=data_dir)
    theirs = _theirs(builder, "test[5000:5050]", "image", "label")
    ours = {
        int(reference.name.rpartition("#")[2]): (encoded, source.classes.index(reference.text))
        for reference, encoded in everything(source)
        if reference.split == "test"
    }
    assert [ours[index] for index in range(5000, 5050)] == theirs
