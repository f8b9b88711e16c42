"""Decides what becomes of images whose pixels are equal."""

from collections.abc import Sequence
from dataclasses import dataclass

CONFLICT = "conflicting_labels"

# A copy in the training split gives away what the other splits are there to measure.
_KEPT_FIRST = {"test": 0, "eval": 1, "train": 2, None: 3}


@dataclass(frozen=True)
class Candidate:
    """What is known of an image without its bytes.

    Args:
        name: Where it came from.
        text: Name of its class.
        label: Index of its class.
        split: The split that the source puts it in, or None.
        pixels: SHA-256 of size and RGB pixels.
        digest: SHA-256 of the file.
        format: Of the stored bytes.
        height: Pixels.
        width: Pixels.
    """

    name: str
    text: str
    label: int
    split: str | None
    pixels: str
    digest: str
    format: str
    height: int
    width: int


@dataclass(frozen=True)
class Decision:
    """What becomes of images of equal pixels.

    Args:
        kept: Those that are written.
        dropped: Entries of those that are copies of a kept one.
        conflicting: Entries of those that contradict each other; none of them is kept.
    """

    kept: tuple[Candidate, ...]
    dropped: tuple[dict[str, str], ...] = ()
    conflicting: tuple[dict[str, str], ...] = ()


def entry(name: str, text: str, digest: str, reason: str) -> dict[str, str]:
    """Returns the line of the dead-letter file for one image."""
    return {"name": name, "class": text, "sha256": digest, "reason": reason}


def decide(candidates: Sequence[Candidate]) -> Decision:
    """Decides between images of equal pixels, the same whatever their order.

    Of one label, one is kept: in the test split before the eval split before the training split,
    and of the first name. Of different labels, none is: at least one of them is wrong.

    Args:
        candidates: Images whose `pixels` are equal.
    """
    ordered = sorted(candidates, key=lambda found: (_KEPT_FIRST[found.split], found.name))
    first, *others = ordered
    if any(other.label != first.label for other in others):
        labels = " and ".join(sorted({found.text for found in ordered}))
        return Decision(
            (),
            conflicting=tuple(
                {**entry(c.name, c.text, c.digest, CONFLICT), "classes": labels} for c in ordered
            ),
        )
    return Decision(
        (first,),
        dropped=tuple(
            {**entry(c.name, c.text, c.digest, "duplicate"), "kept": first.name} for c in others
        ),
    )
