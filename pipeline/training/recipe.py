"""The recipe of a training: the one that is named, with what the parameters say otherwise."""

import dataclasses
from typing import Any

from keras_resnet import recipes
from keras_resnet.recipes import Recipe
from pipeline.complaints import suggestion
from pipeline.components.trainer import CUSTOM, NONE, OVERRIDES, Parameters
from pipeline.errors import UsageError

# What a recipe asks of the network.
_OF_NETWORK = ("drop_path_rate", "dropout_rate")
# What says of a recipe whose it is, and how the paper showed its images to the trained network.
_NO_ARGUMENTS = ("name", "reference", "train_size", "test_size", "test_crop")
# Fields of a recipe that have no key of their own: those of `recipe_arguments`.
FURTHER = tuple(
    field.name
    for field in dataclasses.fields(Recipe)
    if field.name not in (*OVERRIDES, *_NO_ARGUMENTS)
)
_LEARNING_RATES = ("learning_rate", "warmup_learning_rate", "minimum_learning_rate")


def settle(parameters: Parameters) -> tuple[Parameters, Recipe]:
    """Returns parameters that leave nothing to the recipe, and the recipe as it is trained.

    The learning rate that a recipe names is that of its own batch, and follows another one as the
    recipe says; one that the parameters name is taken as it is. Where the schedule begins and ends
    follows its peak. What is settled settles to itself.

    Args:
        parameters: Those of Trainer.

    Raises:
        UsageError: There is no such recipe, or what is changed does not go with it.
    """
    try:
        named = recipes.get(parameters.recipe)
    except ValueError as error:
        raise UsageError(f"trainer.recipe {parameters.recipe!r}: {error}") from None
    changes = {
        name: _meant(name, getattr(parameters, name))
        for name in OVERRIDES
        if getattr(parameters, name) is not None
    }
    further = _further(parameters)
    if "learning_rate_scaling" in further:
        named = _replaced(parameters, named, learning_rate_scaling=further["learning_rate_scaling"])
    batch_size = changes.get("batch_size", named.batch_size)
    rate = changes.get("learning_rate", named.learning_rate_at(batch_size))
    for name in _LEARNING_RATES:
        if (own := getattr(named, name)) is not None:
            changes[name] = own if rate == named.learning_rate else own * rate / named.learning_rate
    changes["learning_rate"] = rate
    if (schedule := changes.get("schedule", named.schedule)) != "multistep":
        if parameters.milestones:
            raise UsageError(
                f"trainer.milestones {list(parameters.milestones)}: the schedule is {schedule!r}; "
                "set trainer.schedule to 'multistep' or leave them out"
            )
        changes["milestones"] = ()
    if changes.get("loss", named.loss) != "bce":
        changes["bce_threshold"] = None
    recipe = _replaced(parameters, named, **{**changes, **further})
    settled = {
        name: getattr(recipe, name) for name in OVERRIDES if getattr(parameters, name) is None
    }
    settled["model_arguments"] = _model_arguments(parameters, recipe)
    return dataclasses.replace(parameters, **settled), recipe


def notices(parameters: Parameters, recipe: Recipe) -> list[str]:
    """Returns what a person has to know of the recipe, in lines.

    Args:
        parameters: Those of Trainer, before they were settled.
        recipe: As it is trained.
    """
    named = recipes.get(parameters.recipe)
    rate = f"learning rate {recipe.learning_rate:.4g}"
    if parameters.learning_rate is not None:
        rate += " as configured"
    elif recipe.batch_size != named.batch_size and named.learning_rate_scaling != "none":
        rate += (
            f", which is the recipe's {named.learning_rate:g} at batch {named.batch_size} scaled "
            f"to {recipe.batch_size} ({named.learning_rate_scaling})"
        )
    elif recipe.batch_size != named.batch_size:
        rate += f", the recipe's at batch {named.batch_size} too"
    described = (
        f"  recipe {recipe.name} ({recipe.reference}): {recipe.optimizer}, {recipe.schedule} "
        f"schedule over {recipe.epochs} epochs, {rate}"
    )
    lines = [described]
    if CUSTOM in parameters.model:
        left = [name for name in _OF_NETWORK if getattr(recipe, name)]
        if left:
            lines.append(
                f"  the recipe's {' and '.join(left)} are left to {parameters.model}: networks of "
                "one's own are built as their function builds them"
            )
    if recipe.train_size and recipe.train_size not in parameters.image_size:
        height, width = parameters.image_size
        lines.append(
            f"  the recipe was made for images of {recipe.train_size} by {recipe.train_size} "
            f"pixels, these are {height} by {width}"
        )
    return lines


def _further(parameters: Parameters) -> dict[str, Any]:
    """Returns the fields of the recipe that have no key of their own.

    Raises:
        UsageError: There is no such field.
    """
    for name in parameters.recipe_arguments:
        if name not in FURTHER:
            raise UsageError(
                f"trainer.recipe_arguments.{name}: a recipe has no such field to be set here; "
                f"{suggestion(name, FURTHER)}"
            )
    return dict(parameters.recipe_arguments)


def _replaced(parameters: Parameters, recipe: Recipe, **changes: Any) -> Recipe:
    try:
        return dataclasses.replace(recipe, **changes)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.recipe {parameters.recipe!r}: {error}") from None


def _meant(name: str, value: Any) -> Any:
    """Returns the recipe's value of a parameter."""
    if value == NONE or (name == "clip_norm" and value == 0):
        return None
    return value


def _model_arguments(parameters: Parameters, recipe: Recipe) -> dict[str, Any]:
    """Returns the arguments of the network, those of the recipe among them."""
    if CUSTOM not in parameters.model:
        return {**recipe.model_arguments, **parameters.model_arguments}
    named = recipes.get(parameters.recipe)
    if asked := [n for n in _OF_NETWORK if getattr(recipe, n) not in (0, getattr(named, n))]:
        raise UsageError(
            f"trainer.{asked[0]} {getattr(recipe, asked[0])}: {parameters.model} is built by its "
            "own function; leave it out, and use trainer.model_arguments for what that takes"
        )
    return parameters.model_arguments
