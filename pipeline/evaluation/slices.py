"""Parts of a split by a feature of the examples: by its values, or by where a number lies."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.errors import DataError
from pipeline.records import examples

SIZE = "image/size"
ASPECT_RATIO = "image/aspect_ratio"
BYTES = "image/bytes"
BRIGHTNESS = "image/brightness"
CONTRAST = "image/contrast"
SHARPNESS = "image/sharpness"
FOLDER = "image/folder"

# What has to be measured in the picture; the rest is in the record.
MEASURED = (ASPECT_RATIO, BYTES, BRIGHTNESS, CONTRAST, SHARPNESS)
# What any record may be asked for, whether it has it or not.
KNOWN = (
    SIZE,
    FOLDER,
    *MEASURED,
    examples.WIDTH,
    examples.HEIGHT,
    examples.FORMAT,
    examples.GROUP,
)
DEFAULT: Mapping[str, int] = {SIZE: 4, BRIGHTNESS: 4, examples.GROUP: 20}
OTHERS = "all others"

Edges = Annotated[tuple[float, ...], Field(min_length=1)]
Bins = Annotated[int, Field(ge=1)] | Edges


@dataclass(frozen=True)
class Part:
    """The examples of one slice.

    Args:
        feature: Name of the feature.
        name: What a person calls the slice, such as `"64 to 128"`.
        members: The indices of its examples, int64, ascending.
    """

    feature: str
    name: str
    members: np.ndarray


def divide(
    features: Mapping[str, Sequence[Any]], slices: Mapping[str, Bins], present: Sequence[str]
) -> tuple[list[Part], list[str]]:
    """Returns the slices of examples, and which features give none.

    Numbers lie between edges: the ones that are given, or those that divide the examples into so
    many equal parts. Of other values each is a slice, the commonest first; beyond so many, the
    rest is one together. What all examples share gives no slice.

    Args:
        features: Name to the value of each example; None or NaN where an example has none.
        slices: Feature to a number of parts, or to edges in ascending order.
        present: The features that records of the split have, for the error.

    Raises:
        DataError: No example has a feature, and it is none that is known; or edges were given for
            what is not a number.
    """
    parts: list[Part] = []
    without: list[str] = []
    for feature, bins in slices.items():
        values = features.get(feature, ())
        there = np.array([i for i, value in enumerate(values) if _is_known(value)], np.int64)
        if not len(there) and feature not in KNOWN:
            raise DataError(
                f"evaluator.slices: no record has the feature {feature!r}; there are "
                f"{', '.join(sorted({*present, *KNOWN}))}"
            )
        known = [values[index] for index in there]
        if all(isinstance(value, int | float) for value in known):
            found = _of_numbers(np.array(known, np.float64), bins)
        elif isinstance(bins, int):
            found = _of_names([str(value) for value in known], bins)
        else:
            raise DataError(
                f"evaluator.slices: {feature!r} is not a number, {known[0]!r} for one; expected "
                "how many of its values are slices, not edges"
            )
        if len(found) < 2:
            without.append(feature)
            continue
        parts += [Part(feature, name, there[inside]) for name, inside in found]
    return parts, without


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _of_numbers(values: np.ndarray, bins: Bins) -> list[tuple[str, np.ndarray]]:
    if not len(values):
        return []
    if isinstance(bins, int):
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        # The edges are values that are there, so that they read as a person knows them.
        edges = np.unique(np.quantile(values, shares, method="higher"))
    else:
        edges = np.unique(bins)
    members = np.searchsorted(edges, values, side="right")
    shown = [f"{edge:.4g}" for edge in edges]
    if len(set(shown)) < len(shown):
        shown = [repr(float(edge)) for edge in edges]
    names = [
        f"below {shown[0]}" if shown else "",
        *(f"{low} to {high}" for low, high in itertools.pairwise(shown)),
        f"from {shown[-1]}" if shown else "",
    ]
    return [
        (names[index], inside)
        for index in range(len(edges) + 1)
        if len(inside := np.flatnonzero(members == index))
    ]


def _of_names(values: list[str], most: int) -> list[tuple[str, np.ndarray]]:
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    column = np.array(values, object)
    found = [(name, np.flatnonzero(column == name)) for name, _ in ranked[:most]]
    if rest := {name for name, _ in ranked[most:]}:
        inside = np.array([index for index, value in enumerate(values) if value in rest])
        found.append((OTHERS, inside))
    return found
