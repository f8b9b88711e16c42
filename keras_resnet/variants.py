"""The networks of the family by name."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet, create_arguments

_CIFAR = ResNetConfig(
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    block="basic",
    shortcut="A",
    stem="cifar",
    stem_width=16,
    stem_pool=None,
    image_size=32,
    default_classes=10,
)


def _cifar(depth: int, **fields: Any) -> ResNetConfig:
    """He et al., 2015, section 4.2: 6n + 2 layers."""
    return dataclasses.replace(_CIFAR, depths=((depth - 2) // 6,) * 3, **fields)


SPECS: dict[str, ResNetConfig] = {
    "resnet50": ResNetConfig(depths=(3, 4, 6, 3)),
    "wide_resnet50_2": ResNetConfig(depths=(3, 4, 6, 3), base_width=128),
    **{f"cifar_resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
}


def _constructor(constructor: str, name: str) -> Callable[..., keras.Model]:
    """A function that builds one network, with the arguments of `keras.applications`."""

    def construct(
        include_top: bool = True,
        weights: Any = None,
        input_tensor: Any = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: Any = "softmax",
        name: str = name,
    ) -> keras.Model:
        return ResNet(
            SPECS[spec],
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    spec = name
    construct.__name__ = construct.__qualname__ = constructor
    construct.__module__ = __name__
    construct.__doc__ = (
        f"Builds `{name}`. The arguments are those of `keras_resnet.ResNet`; "
        f"`keras_resnet.create({name!r}, ...)` takes fields of the configuration besides."
    )
    return construct


ResNet50 = _constructor("ResNet50", "resnet50")
WideResNet50 = _constructor("WideResNet50", "wide_resnet50_2")


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks that match a shell pattern, sorted.

    Example:

    ```python
    keras_resnet.list_models("wide*")  # ["wide_resnet101_2", "wide_resnet50_2"]
    ```
    """
    return sorted(fnmatch.filter(SPECS, pattern))


def create(name: str, **arguments: Any) -> keras.Model:
    """Builds a network of the family by its name.

    Args:
        name: One of `keras_resnet.list_models()`.
        **arguments: Fields of `keras_resnet.ResNetConfig`, which change the network, and arguments
            of `keras_resnet.ResNet`.

    Raises:
        ValueError: If there is no network of this name, or an argument is out of range.
        TypeError: If neither the configuration nor `ResNet` has an argument of this name.

    Example:

    ```python
    keras_resnet.create("cifar_resnet20", shortcut="B", classes=100)
    ```
    """
    if name not in SPECS:
        close = difflib.get_close_matches(str(name), SPECS)
        raise ValueError(
            "`name` must be one of `keras_resnet.list_models()`"
            f"{', perhaps ' + ' or '.join(map(repr, close)) if close else ''}. "
            f"Received: name={name!r}"
        )
    fields = {field.name for field in dataclasses.fields(ResNetConfig)}
    for argument in arguments:
        if argument not in fields and argument not in create_arguments():
            close = difflib.get_close_matches(argument, [*fields, *create_arguments()])
            raise TypeError(
                f"create() got an unexpected argument {argument!r}"
                f"{'; is ' + ' or '.join(map(repr, close)) + ' meant?' if close else ''}"
            )
    changes = {key: value for key, value in arguments.items() if key in fields}
    others = {key: value for key, value in arguments.items() if key not in fields}
    config = dataclasses.replace(SPECS[name], **changes)
    return ResNet(config, **{"name": name, **others})
