"""What the fields of a recipe may hold."""

import numbers
from typing import Any

from keras_resnet._validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_positive,
    check_rate,
)
from keras_resnet.layers._unit import DROP_PATH_MODES
from keras_resnet.layers.stochastic_depth import SCHEDULES as DROP_PATH_SCHEDULES
from keras_resnet.recipes import losses, optimizers, schedules
from keras_resnet.recipes.geometry import PADDINGS

OPTIMIZERS = ("sgd", "adamw", "lamb")
SCALINGS = ("linear", "sqrt", "none")


def validate(recipe: Any) -> None:
    """Raises ValueError unless the fields of a new recipe are in range; makes ranges tuples."""
    if not isinstance(recipe.name, str) or not recipe.name:
        raise ValueError(f"`name` must be a text. Received: name={recipe.name!r}")
    object.__setattr__(recipe, "milestones", _shares("milestones", recipe.milestones))
    object.__setattr__(recipe, "crop_ratio", _range("crop_ratio", recipe.crop_ratio))
    if recipe.random_crop is not None:
        object.__setattr__(recipe, "random_crop", _range("random_crop", recipe.random_crop))
        check_fraction("random_crop", recipe.random_crop[1])
    for name in ("epochs", "batch_size", "accumulate_steps", "repeated_augmentation"):
        check_integer(name, getattr(recipe, name))
    for name in ("random_shift", "rand_augment"):
        check_integer(name, getattr(recipe, name), minimum=0)
    for name in ("train_size", "test_size"):
        if getattr(recipe, name) is not None:
            check_integer(name, getattr(recipe, name))
    for name in ("learning_rate", "epsilon", "decay_factor"):
        check_positive(name, getattr(recipe, name))
    for name in (
        *("warmup_epochs", "minimum_learning_rate", "weight_decay"),
        *("lighting", "rand_augment_magnitude", "rand_augment_std", "mixup", "cutmix"),
    ):
        _check_least(name, getattr(recipe, name))
    for name in ("warmup_learning_rate", "bce_threshold", "clip_norm"):
        if getattr(recipe, name) is not None:
            _check_least(name, getattr(recipe, name))
    for name in (
        *("momentum", "beta_1", "beta_2", "label_smoothing", "ema_decay"),
        *("random_zoom", "drop_path_rate", "dropout_rate"),
    ):
        check_rate(name, getattr(recipe, name))
    for name, greatest in {
        "random_rotation": 0.5,
        "brightness": 1,
        "contrast": 1,
        "saturation": 1,
        "rand_augment_probability": 1,
        "random_erasing": 1,
        "mix_probability": 1,
        "switch_probability": 1,
    }.items():
        _check_least(name, getattr(recipe, name), greatest)
    check_fraction("test_crop", recipe.test_crop)
    for name in ("nesterov", "decay_norm_and_bias", "random_flip", "rand_augment_increasing"):
        check_flag(name, getattr(recipe, name))
    for name, allowed in {
        "optimizer": OPTIMIZERS,
        "learning_rate_scaling": SCALINGS,
        "schedule": schedules.KINDS,
        "weight_decay_form": optimizers.FORMS,
        "loss": losses.LOSSES,
        "padding": PADDINGS,
        "drop_path_mode": DROP_PATH_MODES,
        "drop_path_schedule": tuple(DROP_PATH_SCHEDULES),
    }.items():
        check_choice(name, getattr(recipe, name), allowed)
    _validate_together(recipe)


def _validate_together(recipe: Any) -> None:
    if recipe.schedule == "multistep" and not recipe.milestones:
        raise ValueError(
            "`milestones` must be shares of the training, such as (0.5, 0.75), with "
            "schedule='multistep'. Received: milestones=()"
        )
    if recipe.minimum_learning_rate > recipe.learning_rate:
        raise ValueError(
            f"`minimum_learning_rate` must be at most learning_rate={recipe.learning_rate}. "
            f"Received: minimum_learning_rate={recipe.minimum_learning_rate}"
        )
    if recipe.clip_norm == 0:
        raise ValueError(
            "`clip_norm` must be a number above 0, or None not to clip. Received: clip_norm=0"
        )


def _check_least(name: str, value: Any, greatest: float | None = None) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not value >= 0 or (greatest is not None and value > greatest):
        allowed = "of at least 0" if greatest is None else f"from 0 to {greatest}"
        raise ValueError(f"`{name}` must be a number {allowed}. Received: {name}={value!r}")


def _shares(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (tuple, list)) or not all(
        isinstance(value, numbers.Real) and 0 < value < 1 for value in values
    ):
        raise ValueError(f"`{name}` must be numbers between 0 and 1. Received: {name}={values!r}")
    if list(values) != sorted(values):
        raise ValueError(f"`{name}` must not decrease. Received: {name}={values!r}")
    return tuple(float(value) for value in values)


def _range(name: str, values: Any) -> tuple[float, float]:
    if (
        not isinstance(values, (tuple, list))
        or len(values) != 2
        or not all(isinstance(value, numbers.Real) and value > 0 for value in values)
        or values[0] > values[1]
    ):
        raise ValueError(
            f"`{name}` must be the least and then the greatest of two numbers above 0. "
            f"Received: {name}={values!r}"
        )
    return float(values[0]), float(values[1])
