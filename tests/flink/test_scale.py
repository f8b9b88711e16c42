"""CIFAR-10 as 50,000 files on Flink: the same records, and nobody holds them all."""

import pytest
from PIL import Image

from studies import data
from tests.flink.jobs import Jobs, content, engine

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def cifar(real_images, tmp_path_factory):
    """The training images in class folders."""
    folder = tmp_path_factory.mktemp("cifar")
    train = data.cifar10(real_images / "cifar10").train
    for number, (pixels, label) in enumerate(zip(train.images, train.labels, strict=True)):
        image = folder / f"class{label}" / f"{number:05}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(image)
    assert number + 1 == 50_000
    return folder


def test_fifty_thousand_images_become_the_same_records(cluster, cifar, tmp_path):
    here = Jobs(tmp_path / "here").ingest(cifar)
    there = Jobs(tmp_path / "there", engine(cluster, 4)).ingest(cifar)
    assert content(there) == content(here)
