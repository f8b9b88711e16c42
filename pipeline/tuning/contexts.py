"""Whole sets of values in which one value of a space can be tried."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.tuning.dimension import canonical
from pipeline.tuning.space import Space

# In so many sets a value is tried before it counts as impossible.
_MOST = 64


def of(
    space: Space, key: str, number: int, value: Any, configured: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yields sets of values of all active keys, in which one key has one value.

    The first ones are the most usual: the conditions and the other keys are as configured, as far
    as the space holds that; the others differ from them in one key.

    Args:
        space: The space.
        key: Of the space.
        number: Of its alternative that has the value.
        value: What is tried.
        configured: Value by key, of the configuration.
    """
    return itertools.islice(_of(space, key, number, value, configured), _MOST)


def reachable(space: Space, key: str, number: int) -> bool:
    """Whether the conditions of an alternative of a key hold for any values of the space."""
    wanted = space.dimensions[key][number]
    return any(space.active(key, switching) is wanted for switching in space.switchings())


def every(space: Space, configured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields sets of values for every way to choose what conditions ask for.

    Args:
        space: The space.
        configured: Value by key, of the configuration.
    """
    for switching in space.switchings():
        yield completed(space, switching, configured)


def _of(
    space: Space, key: str, number: int, value: Any, configured: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    def unusual(switching: Mapping[str, Any]) -> int:
        return sum(
            canonical(found) != canonical(configured.get(k)) for k, found in switching.items()
        )

    firsts = []
    for switching in sorted(space.switchings(), key=unusual):
        fits = key not in switching or canonical(switching[key]) == canonical(value)
        if fits and space.active(key, switching) is space.dimensions[key][number]:
            firsts.append(completed(space, {**switching, key: value}, configured))
    yield from firsts
    for first in firsts:
        for other in first:
            dimension = space.active(other, first)
            if other == key or dimension is None:
                continue
            for _, changed in dimension.tried():
                # Where it is a condition of others, these are chosen anew.
                found = completed(space, {**first, other: changed}, configured)
                if key in found and space.active(key, found) is space.dimensions[key][number]:
                    yield found


def completed(
    space: Space, chosen: Mapping[str, Any], configured: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what is chosen with a usual value for every other active key.

    Args:
        space: The space.
        chosen: Value by key; what is not active is left out.
        configured: The usual values.
    """
    found: dict[str, Any] = {}
    for key in space.dimensions:
        dimension = space.active(key, found)
        if dimension is None:
            continue
        if key in chosen and dimension.holds(chosen[key]):
            found[key] = chosen[key]
        elif key in configured and dimension.holds(configured[key]):
            found[key] = configured[key]
        else:
            *_, found[key] = (value for _, value in dimension.tried())
    return found
