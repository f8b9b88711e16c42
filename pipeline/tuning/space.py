"""The space that is searched: which fields of Trainer may have which values, and when."""

import dataclasses
import graphlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.complaints import suggestion
from pipeline.components.trainer import Parameters
from pipeline.errors import UsageError
from pipeline.tuning.dimension import Dimension, as_json, canonical

if TYPE_CHECKING:
    import keras_tuner

# Fields of Trainer that are mappings, of which a key of the space names an entry.
MAPPINGS = ("model_arguments", "recipe_arguments")
# So many ways to switch the conditions are looked at.
_MOST_SWITCHINGS = 512


@dataclasses.dataclass(frozen=True, order=True)
class Wrong:
    """What is wrong with a space.

    Args:
        path: Where, below the space: a key of it, the number of the alternative, a key of that.
        message: What was found and what was expected.
    """

    path: tuple[str | int, ...]
    message: str


class Space:
    """Fields of Trainer with the values that they may have, parents before what depends on them.

    A key is what stands below `trainer` in the configuration, such as `learning_rate` or
    `model_arguments.depths`.

    Args:
        dimensions: Key to its alternatives, of which at most one holds at a time.

    Raises:
        UsageError: Conditions name no key of the space, or wait for each other.
    """

    def __init__(self, dimensions: Mapping[str, Sequence[Dimension]]):
        if wrong := list(_conditions(dimensions)):
            raise UsageError(f"tuner.space.{wrong[0].path[0]}: {wrong[0].message}")
        graph = {
            key: [parent for one in alternatives for parent in one.when]
            for key, alternatives in dimensions.items()
        }
        order = graphlib.TopologicalSorter(graph).static_order()
        self.dimensions = {key: tuple(dimensions[key]) for key in order}

    def active(self, key: str, values: Mapping[str, Any]) -> Dimension | None:
        """Returns which alternative of a key holds, or None.

        Args:
            key: Of the space.
            values: Those of its parents, as the fields have them.
        """
        return next((one for one in self.dimensions[key] if _met(one, values)), None)

    def to_keras_tuner(
        self, configured: Mapping[str, Any] | None = None
    ) -> "keras_tuner.HyperParameters":
        """Returns the space as Keras Tuner has it.

        A range with steps becomes a choice, since Keras Tuner's own steps miss `max` by their
        rounding; what is neither text nor number, such as a list, becomes its JSON.

        Args:
            configured: Value by key, which are its defaults where the space holds them.
        """
        import keras_tuner

        entries = []
        for key, alternatives in self.dimensions.items():
            for one in alternatives:
                kind, settings = _for_keras_tuner(one)
                given = (configured or {}).get(key)
                if key in (configured or {}) and one.holds(given):
                    settings["default"] = one.encoded(given)
                conditions = [
                    {"class_name": "Parent", "config": {"name": parent, "values": encoded}}
                    for parent, encoded in self._encoded_conditions(one)
                ]
                entry = {"name": key, "default": None, "conditions": conditions, **settings}
                entries.append({"class_name": kind, "config": entry})
        found = keras_tuner.HyperParameters.from_config({"space": entries, "values": {}})
        for entry in found.space:
            if found.is_active(entry):
                found.values[entry.name] = entry.default
        return found

    def _encoded_conditions(self, dimension: Dimension) -> Iterator[tuple[str, list[Any]]]:
        for parent, wanted in dimension.when.items():
            texts = {canonical(value) for value in _any_of(wanted)}
            encoded = [
                one.encoded(value)
                for one in self.dimensions[parent]
                for value in one.grid() or ()
                if canonical(value) in texts
            ]
            yield parent, list(dict.fromkeys(encoded))

    def decode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of the fields, of those keys that are active.

        Args:
            values: As Keras Tuner has them, `HyperParameters.values`.

        Raises:
            UsageError: The value of a key is none that the space has, or is missing.
        """
        found: dict[str, Any] = {}
        for key in self.dimensions:
            one = self.active(key, found)
            if one is None:
                continue
            if key not in values:
                raise UsageError(f"tuner.space.{key}: has no value among {sorted(values)}")
            try:
                found[key] = one.decoded(values[key])
            except ValueError as error:
                raise UsageError(f"tuner.space.{key}: {error}") from None
        return found

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns values of fields as Keras Tuner has them; the way back from `decode`."""
        active = {key: self.active(key, values) for key in self.dimensions if key in values}
        return {key: one.encoded(values[key]) for key, one in active.items() if one}

    def switchings(self) -> Iterator[dict[str, Any]]:
        """Yields each way to choose the values that conditions ask for, active keys alone."""
        parents = [
            key
            for key in self.dimensions
            if any(key in one.when for found in self.dimensions.values() for one in found)
        ]
        return itertools.islice(self._chosen(parents, {}), _MOST_SWITCHINGS)

    def _chosen(self, keys: Sequence[str], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not keys:
            yield values
        elif (one := self.active(keys[0], values)) is None:
            yield from self._chosen(keys[1:], values)
        else:
            for value in one.grid() or ():
                yield from self._chosen(keys[1:], {**values, keys[0]: value})


def apply(parameters: Parameters, values: Mapping[str, Any]) -> Parameters:
    """Returns Trainer's parameters with the values of a trial.

    Args:
        parameters: Those of Trainer.
        values: Value by key of a space, as the fields have them.

    Raises:
        UsageError: A field does not take its value, or there is no such field; the message begins
            with the key.
    """
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name, _, entry = key.partition(".")
        if not entry:
            changes[name] = value
        elif name in MAPPINGS:
            held = changes.get(name, getattr(parameters, name))
            changes[name] = {**held, entry: value}
        else:
            raise UsageError(f"{key}: Trainer has no such field")
    try:
        return dataclasses.replace(parameters, **changes)
    except ValidationError as error:
        raise UsageError(_said(error.errors()[0], values)) from None


def _said(error: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Returns what pydantic found, beginning with the key of a space that it is of."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        # Of several fields together; it says what it found.
        named = (key for key in values if key.rpartition(".")[2] in message)
        return f"{next(named, ', '.join(values))}: {message}"
    name = str(error["loc"][0])
    key = next((key for key in values if key.partition(".")[0] == name), name)
    if error["type"] == "unexpected_keyword_argument":
        return f"{key}: Trainer has no such field"
    return f"{key}: {message[:1].lower()}{message[1:]}; found {as_json(error['input'])}"


def _for_keras_tuner(dimension: Dimension) -> tuple[str, dict[str, Any]]:
    """Returns Keras Tuner's class of a dimension, and what it is made of."""
    if (grid := dimension.grid()) is not None:
        return "Choice", {"values": [dimension.encoded(value) for value in grid], "ordered": None}
    ends = {"min_value": dimension.min, "max_value": dimension.max}
    kind = "Int" if dimension.type == "int" else "Float"
    return kind, {**ends, "step": None, "sampling": dimension.scale}


def _met(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether the conditions of a dimension hold."""
    return all(
        parent in values and canonical(values[parent]) in map(canonical, _any_of(wanted))
        for parent, wanted in dimension.when.items()
    )


def _any_of(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else (wanted,)


def wrong_conditions(dimensions: Mapping[str, Sequence[Dimension]]) -> list[Wrong]:
    """Returns what is wrong with the conditions of a space, all of it."""
    return list(_conditions(dimensions))


def _conditions(dimensions: Mapping[str, Sequence[Dimension]]) -> Iterator[Wrong]:
    broken = False
    for key, alternatives in dimensions.items():
        for number, one in enumerate(alternatives):
            for parent, wanted in one.when.items():
                if found := _wrong_condition(key, parent, wanted, dimensions):
                    broken = True
                    yield Wrong((key, number, "when", parent), found)
        for (_, first), (number, second) in itertools.combinations(enumerate(alternatives), 2):
            if not _exclusive(first, second):
                yield Wrong(
                    (key, number),
                    "two of its alternatives may hold at once; expected `when` to tell them apart",
                )
    if broken:
        return
    try:
        graph = {key: [p for one in found for p in one.when] for key, found in dimensions.items()}
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        yield Wrong(
            (circle[0],), f"conditions wait for each other: {' -> '.join(circle)}; take out one"
        )


def _wrong_condition(
    key: str, parent: str, wanted: Any, dimensions: Mapping[str, Sequence[Dimension]]
) -> str | None:
    if parent == key:
        return "a field cannot be its own condition"
    if parent not in dimensions:
        others = [other for other in dimensions if other != key]
        hint = suggestion(parent, others) if others else "it has no other"
        return f"the space has no {parent!r}; {hint}"
    grids = [one.grid() for one in dimensions[parent]]
    if None in grids:
        return f"{parent} is a range; expected a choice, or a range with a step"
    if not _any_of(wanted):
        return f"no value of {parent} is named"
    known = {canonical(value): as_json(value) for grid in grids for value in grid}
    for value in _any_of(wanted):
        if canonical(value) not in known:
            return f"{parent} is never {as_json(value)}; expected of {', '.join(known.values())}"
    return None


def _exclusive(first: Dimension, second: Dimension) -> bool:
    return any(
        not set(map(canonical, _any_of(first.when[parent])))
        & set(map(canonical, _any_of(second.when[parent])))
        for parent in first.when
        if parent in second.when
    )
