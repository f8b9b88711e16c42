"""CIFAR-10 as 50,000 files on Flink: the same records, and nobody holds them all."""

import numpy as np
import pytest
from PIL import Image

from tests.flink.jobs import Jobs, content, engine

pytestmark = pytest.mark.exhaustive

_SIZE = 32


@pytest.fixture(scope="module")
def cifar(real_images, tmp_path_factory):
    """The training images in class folders; the stored sprites hold them in rows."""
    folder = tmp_path_factory.mktemp("cifar")
    stored = real_images / "cifar10"
    labels = (stored / "labels.bin").read_bytes()
    number = 0
    for path in sorted(stored.glob("data_batch_*.webp")):
        with Image.open(path) as sprite:
            pixels = np.asarray(sprite.convert("RGB"))
        rows, columns = (extent // _SIZE for extent in pixels.shape[:2])
        tiles = pixels.reshape(rows, _SIZE, columns, _SIZE, 3).swapaxes(1, 2)
        for tile in tiles.reshape(-1, _SIZE, _SIZE, 3):
            image = folder / f"class{labels[number]}" / f"{number:05}.png"
            image.parent.mkdir(exist_ok=True)
            Image.fromarray(tile).save(image)
            number += 1
    assert number == 50_000
    return folder


def test_fifty_thousand_images_become_the_same_records(cluster, cifar, tmp_path):
    here = Jobs(tmp_path / "here").ingest(cifar)
    there = Jobs(tmp_path / "there", engine(cluster, 4)).ingest(cifar)
    assert content(there) == content(here)
