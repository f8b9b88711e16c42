"""What the configuration itself has for the fields that a space names."""

import inspect
from collections.abc import Iterable
from typing import Any

from pipeline.components.trainer import CUSTOM, NONE
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.tuning import constraints

# How Trainer is told to do without what a recipe has as None.
_WITHOUT = {"clip_norm": 0.0, "random_crop": NONE}


def configured(trainer: TrainerParameters, keys: Iterable[str]) -> dict[str, Any]:
    """Returns the value of each key in a training as it is configured.

    What is left to the recipe or to the network is as these have it. An argument of a network of a
    person's own that has no default is left out.

    Args:
        trainer: Parameters of Trainer.
        keys: Of a space.

    Raises:
        UsageError: The parameters are not allowed.
    """
    from pipeline.training import network, recipe

    settled, chosen = recipe.settle(trainer)
    found: dict[str, Any] = {}
    for key in keys:
        name, _, entry = key.partition(".")
        if name == "recipe_arguments":
            found[key] = getattr(chosen, entry)
        elif name != "model_arguments":
            value = getattr(settled, name)
            found[key] = _WITHOUT.get(name) if value is None else value
        elif entry in settled.model_arguments:
            found[key] = settled.model_arguments[entry]
        elif CUSTOM not in trainer.model:
            found[key] = getattr(constraints.network(trainer), entry)
        else:
            signature = inspect.signature(network.function_of(trainer.model)).parameters
            if entry in signature and signature[entry].default is not inspect.Parameter.empty:
                found[key] = signature[entry].default
    return {key: _as_lists(value) for key, value in found.items()}


def _as_lists(value: Any) -> Any:
    """Returns a value as YAML has it, which knows no tuples."""
    return [_as_lists(one) for one in value] if isinstance(value, list | tuple) else value
