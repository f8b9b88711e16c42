"""Finds pictures that look alike, reports them, and drops them where that is asked for."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, AsSingleton, PCollection

from pipeline.beam import spool
from pipeline.beam.reporter import Reporter
from pipeline.records import duplicates, examples, near
from pipeline.records.duplicates import Candidate

# Two pictures are one when their pixels, each shrunk to this size, differ by no more than so many
# of 255 on average. A second JPEG compression makes about 1; two digits of one class, 20.
_COMPARED = (32, 32)
_ALIKE = 6.0


@dataclass(frozen=True)
class Found:
    """What has been found.

    Args:
        gone: Spool file and offset of each image that is dropped.
        dropped: Their entries.
        overlaps: The entries of those that are kept beside one that looks like them.
        leaks: How many images of each split look like one in the training split.
    """

    gone: frozenset[tuple[str, int]]
    dropped: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]
    leaks: Counter[str]


def find(
    hashes: PCollection,
    kept: PCollection,
    report: int | None,
    drop: int | None,
    reporter: Reporter,
) -> PCollection:
    """Returns a collection of the one `Found`.

    Args:
        hashes: Rows of `near.RECORD` as bytes.
        kept: Packed candidates.
        report: Bits in which the hashes of pictures may differ that are reported, or None.
        drop: Bits in which those may differ that are dropped after a look at the pixels, or None.
        reporter: Is told where some may be missed.
    """
    distance = max(limit for limit in (report, drop) if limit is not None)
    links = (
        hashes
        | "Copy to each band" >> beam.FlatMap(_to_bands, distance)
        | "Gather bands" >> beam.GroupByKey()
        | "Compare hashes" >> beam.FlatMap(_links, distance, reporter)
        | "Gather links" >> beam.combiners.ToList()
    )
    linked = links | "Linked pictures" >> beam.Map(
        lambda found: frozenset(name for link in found for name in link[:2])
    )
    candidates = kept | "Keep the linked" >> beam.Filter(
        lambda packed, names: near.identifier(spool.unpack(packed).pixels) in names,
        AsSingleton(linked),
    )
    return links | "Settle" >> beam.Map(settle, AsList(candidates), report, drop)


def _to_bands(rows: bytes, distance: int) -> Iterator[tuple[int, bytes]]:
    for band in range(distance + 1):
        yield band, rows


def _links(
    gathered: tuple[int, Iterable[bytes]], distance: int, reporter: Reporter
) -> Iterator[tuple]:
    band, parts = gathered
    records = np.frombuffer(b"".join(parts), near.RECORD)
    for run in near.runs(records, band, distance):
        if len(run) > near.LONGEST_RUN:
            reporter.say(
                f"{len(run):,} pictures look so much alike that near duplicates among them are "
                f"sought in pieces of {near.LONGEST_RUN:,}; some may be missed"
            )
        yield from map(tuple, near.links(run, distance))


def settle(links: list[tuple], packed: list[bytes], report: int | None, drop: int | None) -> Found:
    """Decides which of the linked pictures go, the same whatever their order.

    A picture goes when one that stays, of the same class, looks like it; in the test split none
    goes because of one in train.

    Args:
        links: `near.Link`s as tuples.
        packed: The candidates that they speak of, those that are not kept missing.
        report: As in `find`.
        drop: As in `find`.
    """
    candidates: dict[bytes, Candidate] = {}
    for candidate in sorted(map(spool.unpack, packed), key=lambda found: found.order):
        candidates.setdefault(near.identifier(candidate.pixels), candidate)
    best: dict[tuple[bytes, bool], tuple[int, bytes]] = {}
    for link in map(near.Link._make, links):
        if link.picture in candidates and link.other in candidates:
            key = link.picture, link.train
            best[key] = min(best.get(key, (link.distance, link.other)), (link.distance, link.other))

    # Of each picture that goes, the one that stays for it.
    stays: dict[bytes, bytes] = {}
    dropped, overlaps = [], []
    for picture, candidate in candidates.items():
        if (picture, False) not in best:
            continue
        distance, other = best[picture, False]
        other = stays.get(other, other)
        kept = candidates[other]
        droppable = drop is not None and distance <= drop and kept.text == candidate.text
        if droppable and _look_alike(candidate, kept):
            stays[picture] = other
            entry = duplicates.dropped(candidate, duplicates.NEAR_DUPLICATE, kept)
            dropped.append({**entry, "distance": distance})
        elif report is not None and distance <= report:
            overlaps.append(duplicates.overlap(duplicates.NEAR, candidate, kept, distance))
    leaks = Counter(
        candidates[picture].split
        for (picture, train), (distance, other) in best.items()
        if train and not {picture, other} & stays.keys()
        if report is not None and distance <= report
    )
    gone = frozenset((candidates[name].file, candidates[name].offset) for name in stays)
    return Found(gone, dropped, overlaps, leaks)


def _look_alike(candidate: Candidate, other: Candidate) -> bool:
    first, second = (_shrunk(found).astype(np.int16) for found in (candidate, other))
    return float(np.abs(first - second).mean()) <= _ALIKE


def _shrunk(candidate: Candidate) -> np.ndarray:
    from PIL import Image as pillow

    encoded = examples.parse(spool.payload(candidate)).encoded
    with pillow.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB").resize(_COMPARED, pillow.Resampling.BOX))
