import json

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records import images
from pipeline.training.preprocessing import decode
from tests.pipeline import builders


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_every_format_is_recognised(format_):
    encoded = builders.encode(builders.noise(0, 6, 9), format_)
    assert images.inspect(encoded) == (format_.lower(), 6, 9)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not_an_image"),
        (builders.encode(builders.noise(0, 64, 64), "JPEG")[:-200], "damaged"),
        (builders.encode(builders.noise(0, 64, 64), "PNG")[:-200], "damaged"),
        (builders.encode(builders.noise(0), "TIFF"), "format_tiff"),
    ],
)
def test_what_cannot_be_used_has_a_stable_reason(encoded, reason):
    with pytest.raises(images.BadImageError) as caught:
        images.inspect(encoded)
    assert str(caught.value) == reason


def test_real_odd_files_are_refused_or_can_be_served(real_images):
    folder = real_images / "odd_images"
    names = sorted(
        p.name for p in folder.iterdir() if p.suffix not in (".json", "") and p.is_file()
    )
    assert len(names) > 30
    accepted = 0
    for name in names:
        encoded = (folder / name).read_bytes()
        try:
            _, height, width = images.inspect(encoded)
        except images.BadImageError:
            continue
        accepted += 1
        # What is accepted is what the graph that is served can decode, to the same size.
        assert decode(tf.constant(encoded)).shape == (height, width, 3), name
    assert accepted >= 15
    assert json.loads((folder / "manifest.json").read_text())


def test_real_photos_are_accepted(real_images):
    for path in sorted((real_images / "photos" / "glass").glob("*.jpg"))[:5]:
        encoded = path.read_bytes()
        assert images.inspect(encoded) == ("jpeg", 512, 384)
        assert np.ptp(decode(tf.constant(encoded)).numpy()) > 50
