import hashlib

import numpy as np
import pytest

from studies import data
from studies.errors import UsageError


def test_digits_are_split_the_same_way_every_time():
    first, second = data.digits(), data.digits()
    assert first.checksum == second.checksum
    assert first.train.images.shape == (1437, 8, 8, 3)
    assert first.test.images.shape == (360, 8, 8, 3)
    assert first.train.images.max() == 255
    assert np.unique(first.test.labels).tolist() == list(range(10))
    assert data.quick(first) is first


def test_smaller_images_are_means_over_squares():
    whole = data.digits()
    small = whole.smaller(10, 5, 4)
    assert small.train.images.shape == (10, 4, 4, 3)
    expected = whole.test.images[2, 2:4, 6:8, 0].astype(float).mean()
    assert small.test.images[2, 1, 3, 0] == round(expected)
    assert "10 images of 4×4" in small.name
    assert small.checksum != whole.checksum


def test_cifar10_is_read_from_its_binary_batches(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = random.integers(0, 256, (10_000, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    found = data.cifar10(tmp_path)
    assert len(found.train.labels) == 50_000
    assert found.shape == (32, 32, 3)
    # The last batch is that of the test: red, green, blue planes, rows first.
    assert found.test.labels[7] == records[7, 0]
    assert found.test.images[7, 3, 5].tolist() == records[7, [102, 1126, 2150]].tolist()
    (folder / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(UsageError, match=r"30,730,000 bytes; found 5"):
        data.cifar10(tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UsageError, match=r"data_batch_3\.bin is missing"):
        data.cifar10(tmp_path)


@pytest.mark.slow
def test_cifar10_from_sprites_has_the_bytes_of_the_original_batches(real_images):
    folder = real_images / "cifar10"
    found = data.load(folder)
    planes = found.test.images.transpose(0, 3, 1, 2).reshape(10_000, -1)
    labels = found.test.labels.astype(np.uint8)[:, np.newaxis]
    digest = hashlib.sha256(np.concatenate([labels, planes], axis=1).tobytes()).hexdigest()
    lines = (folder / "batches.sha256").read_text().splitlines()
    assert {line.split()[1]: line.split()[0] for line in lines}["test_batch.bin"] == digest
    small = data.quick(found)
    assert small.shape == (8, 8, 3)
    assert small.mirrored


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_folder_without_cifar10_is_wrong_use(tmp_path, folder):
    with pytest.raises(UsageError, match="--data"):
        data.load(tmp_path / folder)
