"""The network that is trained, and the one that is exported."""

import importlib
from collections.abc import Callable
from typing import Any

import keras

import keras_resnet
from keras_resnet.variants import config_of
from pipeline.components.trainer import CUSTOM, Parameters
from pipeline.errors import UsageError


def build(
    parameters: Parameters, classes: int, precision: str, bn_synchronized: bool = False
) -> keras.Model:
    """Returns the untrained network, which maps images to logits.

    Args:
        parameters: Those of Trainer.
        classes: Number of classes.
        precision: The Keras dtype policy.
        bn_synchronized: Whether batch normalisation takes its statistics over all replicas; in a
            network that is not of this project that is its own affair.

    Raises:
        ValueError: The name, or an argument's value, is not allowed.
        TypeError: There is no such argument.
        UsageError: What is named is no function that returns such a network.
    """
    if CUSTOM in parameters.model:
        return _custom(parameters, classes, precision)
    return _create(parameters, classes, None, precision, bn_synchronized)


def config(parameters: Parameters) -> keras_resnet.ResNetConfig:
    """Returns the configuration of the network that `build` returns, if it is of this project.

    Raises:
        ValueError: The name, or a field's value, is not allowed.
    """
    return config_of(parameters.model, _arguments(parameters))


def served(parameters: Parameters, trained: keras.Model) -> keras.Model:
    """Returns a network with the weights of `trained` that computes class probabilities in float32.

    Args:
        parameters: Those of Trainer.
        trained: What `build` returned.
    """
    classes = trained.output_shape[-1]
    if CUSTOM not in parameters.model:
        model = _create(parameters, classes, "softmax", "float32")
        model.set_weights(trained.get_weights())
        return model
    logits = _custom(parameters, classes, "float32")
    logits.set_weights(trained.get_weights())
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(logits.inputs, probabilities(logits.outputs[0]))


def _create(
    parameters: Parameters,
    classes: int,
    activation: str | None,
    precision: str,
    bn_synchronized: bool = False,
) -> keras.Model:
    return keras_resnet.create(
        parameters.model,
        **_arguments(parameters),
        input_shape=(*parameters.image_size, 3),
        classes=classes,
        classifier_activation=activation,
        bn_synchronized=bn_synchronized,
        dtype=precision,
    )


def _arguments(parameters: Parameters) -> dict[str, Any]:
    """Returns the further arguments; YAML has lists alone where they are tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.model_arguments.items()
    }


def _custom(parameters: Parameters, classes: int, precision: str) -> keras.Model:
    """Returns what the function that `parameters.model` names makes, once it is found fit."""
    name, shape = parameters.model, (*parameters.image_size, 3)
    function = function_of(name)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = function(input_shape=shape, classes=classes, **_arguments(parameters))
    finally:
        keras.config.set_dtype_policy(before)
    if not isinstance(model, keras.Model):
        raise UsageError(f"trainer.model {name!r}: returned {model!r}, expected a Keras model")
    inputs = keras.Input(shape)
    outputs = model(inputs)
    if getattr(outputs, "shape", None) != (None, classes):
        raise UsageError(
            f"trainer.model {name!r}: its output is {outputs!r}, expected logits of shape "
            f"(None, {classes})"
        )
    last = model.layers[-1] if model.layers else model
    if (
        isinstance(last, keras.layers.Softmax)
        or getattr(last, "activation", None) is keras.activations.softmax
    ):
        raise UsageError(
            f"trainer.model {name!r}: its last layer {last.name!r} is a softmax, expected logits; "
            "leave it out, Trainer adds it to what is served"
        )
    # One that is not functional does not know its inputs.
    return model if getattr(model, "inputs", None) else keras.Model(inputs, outputs)


def function_of(name: str) -> Callable[..., keras.Model]:
    """Returns the function that builds a network of a person's own.

    Args:
        name: `module:function`.

    Raises:
        UsageError: There is none.
    """
    module, _, function = name.partition(CUSTOM)
    try:
        found = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise UsageError(
            f"trainer.model {name!r}: {error}; the module has to be importable, for instance "
            "through PYTHONPATH"
        ) from None
    except AttributeError:
        raise UsageError(f"trainer.model {name!r}: {module} has no {function!r}") from None
    if not callable(found):
        raise UsageError(f"trainer.model {name!r}: {found!r} is no function")
    return found
