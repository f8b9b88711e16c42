"""Decides what becomes of images whose pixels are equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

CONFLICT = "conflicting_labels"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
EXACT, NEAR = "exact", "near"

# A copy in the training split gives away what the other splits are there to measure.
KEPT_FIRST = {"test": 0, "eval": 1, "train": 2}
TRAIN = "train"


class Candidate(NamedTuple):
    """What is known of an image without its bytes.

    Args:
        pixels: SHA-256 of size and RGB pixels.
        name: Where it came from.
        text: Name of its class.
        split: The split that it will be in.
        group: What no split tears apart; empty where there is none.
        digest: SHA-256 of the file, in hexadecimal.
        file: The spool file that holds its record.
        offset: Where in that file the record begins.
        length: Bytes of the record.
    """

    pixels: bytes
    name: str
    text: str
    split: str
    group: str
    digest: str
    file: str
    offset: int
    length: int

    @property
    def order(self) -> tuple[int, bytes, str, str, str]:
        """Which of several comes first: the one that is kept."""
        return KEPT_FIRST[self.split], self.pixels, self.name, self.text, self.group


@dataclass(frozen=True)
class Decision:
    """What becomes of images of equal pixels.

    Args:
        kept: Those that are written.
        dropped: Entries of those that are copies of a kept one.
        conflicting: Entries of those that contradict each other; none of them is kept.
        overlaps: Entries of those that are kept although they are copies.
    """

    kept: tuple[Candidate, ...]
    dropped: tuple[dict[str, Any], ...] = ()
    conflicting: tuple[dict[str, Any], ...] = ()
    overlaps: tuple[dict[str, Any], ...] = ()


def entry(name: str, text: str, digest: str, reason: str) -> dict[str, Any]:
    """Returns the line of the dead-letter file for one image."""
    return {"name": name, "class": text, "sha256": digest, "reason": reason}


def dropped(candidate: Candidate, reason: str, kept: Candidate) -> dict[str, Any]:
    """Returns the line of `duplicates.jsonl` for an image that goes because of another."""
    own = entry(candidate.name, candidate.text, candidate.digest, reason)
    return {**own, "kept": kept.name}


def overlap(kind: str, candidate: Candidate, other: Candidate, distance: int) -> dict[str, Any]:
    """Returns the line of `overlaps.jsonl` for an image that stays beside one that it resembles.

    Args:
        kind: `"exact"`: of equal pixels; `"near"`: that looks alike.
        candidate: The image.
        other: The one that would be kept of the two.
        distance: Bits in which their perceptual hashes differ.
    """
    return {
        "kind": kind,
        "name": candidate.name,
        "class": candidate.text,
        "split": candidate.split,
        "other": other.name,
        "other_class": other.text,
        "other_split": other.split,
        "distance": distance,
    }


def decide(candidates: Sequence[Candidate], *, clean: bool = True) -> Decision:
    """Decides between images of equal pixels, the same whatever their order.

    Of one label, one is kept: in the test split before the eval split before the training split,
    and of the first name. Of different labels, none is: at least one of them is wrong.

    Args:
        candidates: Images whose `pixels` are equal.
        clean: Whether anything goes; otherwise all are kept, and what they are is reported.
    """
    first, *others = ordered = sorted(candidates, key=lambda candidate: candidate.order)
    if not clean:
        return Decision(tuple(ordered), overlaps=tuple(overlap(EXACT, c, first, 0) for c in others))
    if any(other.text != first.text for other in others):
        labels = " and ".join(sorted({found.text for found in ordered}))
        return Decision(
            (),
            conflicting=tuple(
                {
                    **entry(c.name, c.text, c.digest, CONFLICT),
                    "classes": labels,
                    "pixels": c.pixels.hex(),
                }
                for c in ordered
            ),
        )
    return Decision((first,), dropped=tuple(dropped(c, DUPLICATE, first) for c in others))


def leaked(candidates: Sequence[Candidate]) -> list[str]:
    """Returns the split of each kept image outside the training split of which that has a copy."""
    if not any(candidate.split == TRAIN for candidate in candidates):
        return []
    return [candidate.split for candidate in candidates if candidate.split != TRAIN]
