"""Finds pictures that look alike, by perceptual hashes of 64 bits.

Two hashes that differ in at most d bits agree in at least one of d + 1 bands of their bits, so only
pictures that share a band are compared.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BITS = 64
# One row per picture: its rank (that of its split in `duplicates.KEPT_FIRST`), the first 16 bytes
# of the SHA-256 of its pixels, and its perceptual hash.
RECORD = np.dtype([("rank", "u1"), ("high", "u8"), ("low", "u8"), ("hash", "u8")])

_TRAIN_RANK = 2
_FAR = BITS + 1
_ROWS = 512
# Comparing all with all takes the square of the number.
LONGEST_RUN = 20_000


class Link(NamedTuple):
    """Two pictures that look alike.

    Args:
        picture: Identifier: the first 16 bytes of the SHA-256 of the pixels.
        other: That of the one it resembles most, of those that would be kept before it, or of
            those in the training split.
        distance: Bits in which their hashes differ.
        train: Whether `other` was sought in the training split.
    """

    picture: bytes
    other: bytes
    distance: int
    train: bool


def identifier(pixels: bytes) -> bytes:
    """Returns how links call the picture whose pixels have this SHA-256."""
    return pixels[:16]


def record(rank: int, pixels: bytes, perceptual: int) -> tuple[int, int, int, int]:
    """Returns one row of `RECORD`."""
    high, low = int.from_bytes(pixels[:8]), int.from_bytes(pixels[8:16])
    return rank, high, low, perceptual


def runs(records: np.ndarray, band: int, distance: int) -> Iterator[np.ndarray]:
    """Yields the pictures that share the bits of a band: two or more, in no particular order.

    Args:
        records: Rows of `RECORD`, in any order.
        band: 0 to `distance`.
        distance: The greatest number of bits in which hashes may differ.
    """
    edges = np.linspace(0, BITS, distance + 2).astype(int)
    low, high = int(edges[band]), int(edges[band + 1])
    hashes = records["hash"]
    values = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
    order = np.lexsort((records["low"], records["high"], records["rank"], hashes, values))
    values = values[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    for start, end in zip(starts, np.r_[starts[1:], len(values)], strict=True):
        if end - start > 1:
            yield records[order[start:end]]


def links(run: np.ndarray, distance: int) -> Iterator[Link]:
    """Yields for each picture the nearest one before it, and outside train the nearest in train.

    Only pictures that differ in at most `distance` bits are linked; pictures of equal pixels are
    not. A run longer than `LONGEST_RUN` is cut, and only pictures of one piece are compared.

    Args:
        run: What `runs` yields.
        distance: The greatest number of bits.
    """
    for begin in range(0, len(run), LONGEST_RUN):
        yield from _links_within(run[begin : begin + LONGEST_RUN], distance)


def _links_within(run: np.ndarray, distance: int) -> Iterator[Link]:
    run = run[np.lexsort((run["low"], run["high"], run["rank"]))]
    hashes = run["hash"]
    outside = int(np.searchsorted(run["rank"], _TRAIN_RANK))
    for begin in range(0, len(run), _ROWS):
        rows = np.arange(begin, min(begin + _ROWS, len(run)))
        apart = np.bitwise_count(hashes[rows, None] ^ hashes[None, :])
        same = (run["high"][rows, None] == run["high"]) & (run["low"][rows, None] == run["low"])
        apart[same] = _FAR
        earlier = np.where(np.arange(len(run)) < rows[:, None], apart, _FAR)
        yield from _nearest(run, rows, earlier, 0, distance, train=False)
        tested = rows[rows < outside]
        if len(tested) and outside < len(run):
            among = apart[: len(tested), outside:]
            yield from _nearest(run, tested, among, outside, distance, train=True)


def _nearest(
    run: np.ndarray, rows: np.ndarray, apart: np.ndarray, first: int, distance: int, *, train: bool
) -> Iterator[Link]:
    best = apart.argmin(axis=1)
    found = apart[np.arange(len(rows)), best]
    for row in np.flatnonzero(found <= distance):
        picture, other = run[rows[row]], run[first + best[row]]
        yield Link(_name(picture), _name(other), int(found[row]), train)


def _name(row: np.void) -> bytes:
    return int(row["high"]).to_bytes(8) + int(row["low"]).to_bytes(8)
