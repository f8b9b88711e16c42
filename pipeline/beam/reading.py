"""Reads the images of one part of a source: decoded, normalised, and spooled as records.

This is the work that is spread over processes. The bytes of images go to a spool on the disk at
once, and only what is known of them goes on through the pipeline.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.beam import parallel, spool
from pipeline.records import duplicates, examples, images, near, tfrecord
from pipeline.records.duplicates import Candidate
from pipeline.sources import Reference

DEADLY = "killed_its_reader"
_PLACES = 1 << 32


@dataclass
class Part:
    """What came of the images of one part.

    Args:
        seen: How many images of each class there were.
        candidates: Those that can be used.
        quarantined: The entries of those that cannot.
        hashes: Rows of `near.RECORD` of the candidates, as bytes.
    """

    seen: Counter[str] = field(default_factory=Counter)
    candidates: list[Candidate] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    hashes: bytes = b""


@dataclass(frozen=True)
class Reader:
    """Reads a part; `parallel.Work`.

    Args:
        read: That of the source.
        classes: The class names in label order.
        rules: What is refused, and how the rest is stored.
        shares: The share of each split.
        keep_splits: Whether the splits of the source are its own.
        spool: Directory that receives the records.
    """

    read: Callable[[Any], Iterator[tuple[Reference, bytes]]]
    classes: tuple[str, ...]
    rules: images.Rules
    shares: dict[str, float]
    keep_splits: bool
    spool: Path

    def __call__(
        self, element: tuple[int, int], journal: Path | None, deadly: frozenset[str]
    ) -> Part:
        """Returns what came of the images of the part that `element` is the place of."""
        part = Part()
        labels = {text: label for label, text in enumerate(self.classes)}
        hashes = []
        with (self.spool / uuid.uuid4().hex).open("xb") as file:
            for reference, encoded in self.read(spool.part(self.spool, element)):
                part.seen[reference.text] += 1
                try:
                    if reason := reference.bad or (DEADLY if reference.name in deadly else None):
                        raise images.BadImageError(reason)
                    parallel.note(journal, reference.name)
                    image = images.normalize(encoded, self.rules)
                # Whatever may be in a file, it costs no more than this file.
                except Exception as error:  # noqa: BLE001
                    known = isinstance(error, images.BadImageError)
                    reason = str(error) if known else f"unexpected_{type(error).__name__}"
                    digest = sha256(encoded).hexdigest()
                    part.quarantined.append(
                        duplicates.entry(reference.name, reference.text, digest, reason)
                    )
                    continue
                candidate = self._spool(reference, encoded, image, labels[reference.text], file)
                part.candidates.append(candidate)
                rank = duplicates.KEPT_FIRST[candidate.split]
                hashes.append(near.record(rank, image.pixels, image.perceptual))
        part.hashes = np.array(hashes, near.RECORD).tobytes()
        return part

    def _spool(
        self, reference: Reference, encoded: bytes, image: images.Image, label: int, file: BinaryIO
    ) -> Candidate:
        payload = examples.serialize(
            examples.ImageExample(
                encoded=image.encoded,
                format=image.format,
                height=image.height,
                width=image.width,
                label=label,
                text=reference.text,
                filename=reference.name,
                group=reference.group or "",
            )
        )
        offset = file.tell()
        length = file.write(tfrecord.frame(payload))
        return Candidate(
            pixels=image.pixels,
            name=reference.name,
            text=reference.text,
            split=self._split(reference, image.pixels),
            group=reference.group or "",
            digest=sha256(encoded).hexdigest(),
            file=file.name,
            offset=offset,
            length=length,
        )

    def _split(self, reference: Reference, pixels: bytes) -> str:
        if self.keep_splits and reference.split:
            return reference.split
        if reference.group:
            return assign_split(
                sha256(reference.group.encode(errors="surrogateescape")).digest(), self.shares
            )
        return assign_split(pixels, self.shares)


def assign_split(key: bytes, shares: dict[str, float]) -> str:
    """Returns the split of what has this digest: the same in every run, whatever is added.

    Args:
        key: SHA-256 of the pixels or of the name of the group.
        shares: The share of each split, in order; together 1.
    """
    place = int.from_bytes(key[:4]) / _PLACES
    for name, share in shares.items():
        place -= share
        if place < 0:
            return name
    return name  # rounding left a sliver behind the last
