"""Whether the space can be searched at all: everything that is wrong with it, before a trial."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.complaints import suggestion
from pipeline.components.trainer import CUSTOM, OVERRIDES
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.errors import UsageError, UsageErrors
from pipeline.tuning import constraints, contexts
from pipeline.tuning.configured import configured
from pipeline.tuning.dimension import as_json
from pipeline.tuning.parameters import Parameters, Search
from pipeline.tuning.space import MAPPINGS, Space, Wrong, apply, wrong_conditions

# Fields of Trainer that are no matter of a search, and why.
_FIXED = {
    "epochs": "Tuner says how long a trial trains; set tuner.epochs",
    "strategy": "a search does not choose where it computes; set trainer.strategy",
    "seed": "a seed that happens to be good says nothing; set tuner.seed",
    "export": "it changes what is measured, and not the training; set trainer.export",
}
# Of the classes of the data nothing is known before the run.
_CLASSES = 2


def complaints(search: Search, trainer: TrainerParameters) -> list[Wrong]:
    """Returns what can be seen to be wrong with a space without loading Keras.

    Args:
        search: The section `tuner`.
        trainer: What trials train with where the space says nothing.
    """
    dimensions = search.space
    wrong = wrong_conditions(dimensions)
    for key in dimensions:
        if found := _wrong_key(key, dimensions):
            wrong.append(Wrong((key,), found))
    if wrong:
        return sorted(wrong)
    space = Space(dimensions)
    for key, alternatives in dimensions.items():
        for number, dimension in enumerate(alternatives):
            for name, value in dimension.tried():
                if found := _wrong_value(trainer, key, name, value):
                    wrong.append(Wrong((key, number, name), found))
                    break
            if not contexts.reachable(space, key, number):
                said = "its conditions never hold together; change them, or leave it out"
                wrong.append(Wrong((key, number, "when"), said))
    return wrong or _impossible(space, {}, lambda values: apply(trainer, values))


def check(parameters: Parameters) -> None:
    """Raises UsageError when some value of the space can never be trained with.

    Every end of a range and every choice is put into the parameters of Trainer, and the recipe and
    the configuration of the network are made of them. Loads Keras.

    Args:
        parameters: Those of Tuner.

    Raises:
        UsageErrors: A line for each value, which begins with its key.
        UsageError: Trainer's own parameters are not allowed.
    """
    trainer = parameters.trainer
    # What is wrong with these by themselves is not the space's fault.
    _attempt(trainer)
    wrong = complaints(parameters, trainer) or list(_wrong_names(parameters))
    if not wrong:
        space = Space(parameters.space)
        usual = configured(trainer, space.dimensions)
        wrong = _impossible(space, usual, lambda values: _attempt(apply(trainer, values)))
        wrong = wrong or _too_costly(space, usual, parameters)
    if wrong:
        raise UsageErrors(said(one, parameters) for one in wrong)


def said(wrong: Wrong, search: Search) -> str:
    """Returns what is wrong as a line that begins with its key."""
    key, *rest = wrong.path
    # The number of the only alternative is not written anywhere.
    if rest and len(search.space.get(key, ())) == 1:
        rest = rest[1:]
    section = "tuner.space." if key in search.space else "tuner."
    return f"{section}{'.'.join(map(str, (key, *rest)))}: {wrong.message}"


def _wrong_key(key: str, dimensions: Mapping[str, Any]) -> str | None:
    known = [field.name for field in dataclasses.fields(TrainerParameters)]
    name, _, entry = key.partition(".")
    if name not in known:
        return f"Trainer has no such field; {_meant(key, known)}"
    if name in MAPPINGS and not entry:
        return f"expected one of its entries, such as {name}.NAME"
    if entry and name not in MAPPINGS:
        return f"Trainer has no such field; {_meant(key, known)}"
    if key in _FIXED:
        return _FIXED[key]
    if name == "recipe_arguments" and entry in OVERRIDES:
        return f"expected {entry!r}, which is a key of trainer"
    if name == "model_arguments" and entry in dimensions:
        return f"sets the same as {entry!r} of the space; take out one of them"
    return None


def _meant(key: str, known: list[str]) -> str:
    first, _, last = key.partition(".")
    if first == "trainer":
        return f"a key is what stands below trainer: {last!r}"
    if last in known:
        return f"did you mean {last!r}?"
    if last:
        return f"did you mean 'model_arguments.{last}' or 'recipe_arguments.{last}'?"
    return (
        f"{suggestion(key, known)} Fields of the network are model_arguments.NAME, further ones of "
        "the recipe recipe_arguments.NAME"
    )


def _wrong_value(trainer: TrainerParameters, key: str, name: str, value: Any) -> str | None:
    """Returns why the field by itself does not take a value."""
    if "." in key:
        return None
    try:
        dataclasses.replace(trainer, **{key: value})
    except ValidationError as error:
        found = [one for one in error.errors() if one["loc"] and one["loc"][0] == key]
        if any(one["type"] == "int_from_float" for one in found):
            return f"{key} takes whole numbers, not {value:g}; set type to int"
        messages = [f"{one['msg'][:1].lower()}{one['msg'][1:]}" for one in found]
        if messages:
            return f"{', or '.join(dict.fromkeys(messages))}; found {as_json(value)}"
    return None


def _impossible(
    space: Space, usual: Mapping[str, Any], attempt: Callable[[Mapping[str, Any]], Any]
) -> list[Wrong]:
    """Returns the values with which every attempt fails, whatever the other keys have.

    Where one value spoils all others, it alone is returned.
    """
    wrong: dict[str, list[Wrong]] = {}
    for key, alternatives in space.dimensions.items():
        for number, dimension in enumerate(alternatives):
            failures: dict[str, str] = {}
            for name, value in dimension.tried():
                # What is wrong at an end is not said of the values near it again.
                if name in ("type", "step") and failures:
                    break
                if found := _failure(key, contexts.of(space, key, number, value, usual), attempt):
                    failures[name if name != "values" else as_json(value)] = found
            for name, found in failures.items():
                message = found.removeprefix(f"{key}: ")
                path = (key, number, name)
                if dimension.type == "choice":
                    path, message = (key, number, "values"), f"{name}: {message}"
                if len(failures) > 1 and len(set(failures.values())) == 1:
                    path, message = (key, number), found.removeprefix(f"{key}: ")
                wrong.setdefault(found, []).append(Wrong(path, message))
    for reason, values in wrong.items():
        own = [one for one in values if _names(one.path[0], reason)]
        wrong[reason] = own or values[:1]
    return sorted({one for values in wrong.values() for one in values})


def _failure(
    key: str,
    tried: Iterator[Mapping[str, Any]],
    attempt: Callable[[Mapping[str, Any]], Any],
) -> str | None:
    """Returns why the attempts failed, if all of them do: for what `key` has, if that is known."""
    reasons: list[str] = []
    for values in tried:
        try:
            attempt(values)
        except UsageError as error:
            reasons.append(str(error))
        else:
            return None
    if not reasons:
        return None
    return next((one for one in reasons if _names(key, one)), reasons[0])


def _names(key: str, reason: str) -> bool:
    """Whether a reason speaks of the field that a key means."""
    return re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", reason) is not None


def _attempt(trainer: TrainerParameters) -> None:
    """Makes the recipe and the configuration of the network.

    Raises:
        UsageError: That cannot be done, or the batch cannot be divided as the recipe wants it.
    """
    from pipeline.training import feeding, recipe

    settled, chosen = recipe.settle(trainer)
    if found := feeding.mismatch(chosen, replicas=1):
        raise UsageError(f"trainer.batch_size {settled.batch_size}: {found}")
    if CUSTOM not in trainer.model:
        constraints.measure(trainer, _CLASSES)


def _wrong_names(parameters: Parameters) -> Iterator[Wrong]:
    """Yields the keys that name no field of the network or the recipe."""
    from pipeline.training.recipe import FURTHER

    models = _models(parameters)
    for key in parameters.space:
        name, _, entry = key.partition(".")
        if name == "recipe_arguments" and entry not in FURTHER:
            yield Wrong((key,), f"a recipe has no such field; {suggestion(entry, FURTHER)}")
        if name == "model_arguments":
            for model in models:
                known = _arguments(model)
                if known is not None and entry not in known:
                    hint = suggestion(entry, known) if known else "it takes no arguments"
                    yield Wrong((key,), f"{model} has no such argument; {hint}")
                    break
        if key in ("drop_path_rate", "dropout_rate") and key in parameters.trainer.model_arguments:
            yield Wrong((key,), f"trainer.model_arguments.{key} takes its place; take that out")


def _models(parameters: Parameters) -> list[str]:
    """Returns the names of all networks of the search."""
    found = [
        str(value)
        for dimension in parameters.space.get("model", ())
        for value in dimension.grid() or ()
    ]
    return found or [parameters.trainer.model]


def _arguments(model: str) -> list[str] | None:
    """Returns which arguments a network takes; None for any."""
    if CUSTOM not in model:
        from keras_resnet import ResNetConfig

        return [field.name for field in dataclasses.fields(ResNetConfig)]
    from pipeline.training.network import function_of

    signature = inspect.signature(function_of(model)).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.values()):
        return None
    return [name for name in signature if name not in ("input_shape", "classes")]


def _too_costly(space: Space, usual: Mapping[str, Any], parameters: Parameters) -> list[Wrong]:
    """Returns which limit no network of the space keeps."""
    trainer, wrong = parameters.trainer, []
    for limit, of in (("max_parameters", "parameters"), ("max_macs", "macs")):
        allowed = getattr(parameters, limit)
        if allowed is None:
            continue
        least = min(
            (_least(space, values, trainer, of) for values in contexts.every(space, usual)),
            key=lambda found: float("inf") if found is None else found,
        )
        if least is None:
            wrong.append(Wrong((limit,), f"of {trainer.model} nobody knows the {of}; leave it out"))
        elif least > allowed:
            message = f"{allowed:,} is less than the smallest network of the space has, {least:,}"
            wrong.append(Wrong((limit,), message))
    return wrong


def _least(space: Space, values: dict[str, Any], trainer: TrainerParameters, of: str) -> int | None:
    """Returns the cost of the cheapest network, going down from one along each key in turn."""

    def cost(tried: Mapping[str, Any]) -> int | None:
        try:
            return getattr(constraints.measure(apply(trainer, tried), _CLASSES), of)
        except UsageError:
            return None

    least, improves = cost(values), True
    while improves:
        improves = False
        for key in filter(_changes_the_network, space.dimensions):
            dimension = space.active(key, values)
            for _, value in dimension.tried() if dimension else ():
                tried = contexts.completed(space, {**values, key: value}, values)
                found = cost(tried)
                if found is not None and (least is None or found < least):
                    least, values, improves = found, tried, True
    return least


def _changes_the_network(key: str) -> bool:
    return key in ("model", "image_size") or key.startswith("model_arguments.")
