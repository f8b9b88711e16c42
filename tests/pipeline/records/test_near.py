"""Pictures that look alike, against comparing all with all."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.records import images, near
from tests.pipeline import builders


def table(rows):
    """`(rank, identifier, hash)` as records."""
    packed = [near.record(rank, key.to_bytes(16) + bytes(16), bits) for rank, key, bits in rows]
    return np.array(packed, near.RECORD)


def found(records, distance):
    """The nearest partner of each picture over all bands: (picture, train) to distance."""
    best = {}
    for band in range(distance + 1):
        for run in near.runs(records, band, distance):
            for link in near.links(run, distance):
                key = link.picture, link.train
                best[key] = min(best.get(key, near.BITS), link.distance)
    return best


def expected(rows, distance):
    best = {}
    ordered = sorted(rows)
    for index, (rank, key, bits) in enumerate(ordered):
        for other_index, (other_rank, other, other_bits) in enumerate(ordered):
            apart = (bits ^ other_bits).bit_count()
            if key == other or apart > distance:
                continue
            if other_index < index:
                place = key.to_bytes(16), False
                best[place] = min(best.get(place, near.BITS), apart)
            if rank < 2 and other_rank == 2:
                place = key.to_bytes(16), True
                best[place] = min(best.get(place, near.BITS), apart)
    return best


@st.composite
def collections(draw):
    """A few pictures, of which some differ from others in a few bits."""
    size = draw(st.integers(1, 12))
    rows = []
    for key in range(size):
        bits = draw(st.integers(0, 2**64 - 1))
        if rows and draw(st.booleans()):
            bits = rows[draw(st.integers(0, key - 1))][2]
            for place in draw(st.lists(st.integers(0, 63), max_size=8, unique=True)):
                bits ^= 1 << place
        rows.append((draw(st.integers(0, 2)), key, bits))
    return rows


@settings(deadline=None, max_examples=200)
@given(collections(), st.integers(0, 8), st.randoms())
def test_the_bands_find_what_comparing_all_with_all_finds(rows, distance, random):
    random.shuffle(rows)
    assert found(table(rows), distance) == expected(rows, distance)


def test_long_runs_are_compared_in_pieces(monkeypatch):
    monkeypatch.setattr(near, "LONGEST_RUN", 10)
    records = table([(2, key, 0) for key in range(25)])
    pictures = {link.picture for run in near.runs(records, 0, 2) for link in near.links(run, 2)}
    assert len(pictures) == 25 - 3  # the first of each piece has nobody before it


def hashed(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return images.normalize(buffer.getvalue()).perceptual


def apart(first, second):
    return (first ^ second).bit_count()


def test_the_hash_survives_compression_and_scaling_of_real_photos(real_images):
    paths = sorted(Path(real_images, "photos").glob("*/*.jpg"))[::40]
    originals = []
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        original = images.normalize(path.read_bytes()).perceptual
        originals.append(original)
        assert apart(original, hashed(picture, format="JPEG", quality=60)) <= 4
        assert apart(original, hashed(picture.resize((256, 192)), format="PNG")) <= 4
    assert min(apart(*pair) for pair in pairwise(originals)) > 4


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (64, 64), (65, 66), (500, 3)])
def test_pictures_of_any_size_have_a_hash(size):
    encoded = builders.encode(builders.noise(0, *size))
    assert 0 <= images.normalize(encoded).perceptual < 2**64
