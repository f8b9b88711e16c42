"""Reading weights into a model."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.layers.stem import Stem
from keras_resnet.weights.files import read
from keras_resnet.weights.schemes import LayerNames, Torch

# What a training loop of torch counts, and no network computes with.
_IGNORED = "num_batches_tracked"
_MOST_NAMES_IN_AN_ERROR = 10


def load(model: keras.Model, path: str | Path) -> None:
    """Reads the weights of a file into a model.

    Every tensor of the file is used exactly once, and every weight of the model is set, or nothing
    is. There are two exceptions: a classifier with another number of classes keeps its random
    start, which is said on standard error, and that of a file is left out where the model has none;
    and where the images have 1 channel or more than 3, the first convolution is adapted to them
    (its channels summed up, or repeated and scaled).

    Args:
        model: A model that `keras_resnet.ResNet` built.
        path: A `.safetensors` file with the names of timm and torchvision or of this package
            (`save`), an `.h5` file of keras.applications or of tf.keras' ResNet-RS, or what Keras
            wrote of such a model (`.weights.h5`, `.keras`). Nothing that could run is read.

    Raises:
        ValueError: If the file is of another kind, damaged, or does not fit the model; the message
            names what is missing, left over or of another shape.
        FileNotFoundError: If there is no such file.

    Example:

    ```python
    model = keras_resnet.ResNet50D()
    keras_resnet.weights.load(model, "resnet50d.ra2_in1k.safetensors")
    ```
    """
    path = Path(path)
    tensors, scheme = read(path)
    _copy(model, tensors, scheme, path.name)


def load_torch_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Copies the tensors of a torch network into the same network of this package.

    The names are those of timm's `resnet*`, `wide_resnet*`, `resnext*`, `seres*`, `resnetrs*`,
    `legacy_seresnet*` and `resnetv2_*`, and of torchvision. Every tensor of `state` is used
    exactly once, `num_batches_tracked` excepted, and every weight of the model is set, with the
    exceptions that `load` makes for the classifier and for other channels. Nothing is copied if
    that fails.

    Args:
        model: A model that `keras_resnet.ResNet` built. Its configuration must be that of the torch
            network, also where no tensor shows it: in the place of the strides, for example.
        state: The `state_dict`, as arrays that NumPy understands. Half precision is widened.

    Raises:
        ValueError: If tensors are missing, left over, or of another shape; the message names them.

    Example:

    ```python
    model = keras_resnet.WideResNet50(classifier_activation=None)
    keras_resnet.weights.load_torch_state(model, safetensors.numpy.load_file(path))
    ```
    """
    _copy(model, state, Torch(), "`state`")


@dataclass
class _Misfits:
    """What keeps tensors from their places."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)


def _copy(model: keras.Model, tensors: Mapping[str, Any], scheme: LayerNames, source: str) -> None:
    remaining = {name for name in tensors if name.rsplit(".", 1)[-1] != _IGNORED}
    classifier = scheme.classifier(model, remaining)
    kept = _classes_differ(model, tensors, scheme, classifier)
    if kept is not None:
        print(
            f"keras_resnet: {source} has {kept[0]} classes and the model {kept[1]}; the classifier "
            "of the model keeps its random start.",
            file=sys.stderr,
        )
    if kept is not None or not _has_classifier(model):
        remaining -= set(classifier)
    first = _first_kernel(model)
    misfits, assignments = _Misfits(), []
    for name, variable in scheme.variables(model, remaining):
        if kept is not None and name in classifier:
            continue
        if name not in remaining:
            misfits.missing.append(name)
            continue
        remaining.remove(name)
        value = scheme.to_keras(np.asarray(tensors[name]), variable)
        if variable is first:
            value = _adapted(value, variable.shape[2])
        if value.shape != tuple(variable.shape):
            shape = tuple(np.shape(tensors[name]))
            misfits.misshapen.append(
                f"{name} {shape} does not fit {variable.path} {tuple(variable.shape)}"
            )
        assignments.append((variable, value))
    misfits.unexpected = sorted(remaining)
    if misfits.missing or misfits.unexpected or misfits.misshapen:
        raise ValueError(
            f"{source} must hold the tensors of this network and no others."
            + _listed("Missing", misfits.missing)
            + _listed("Unexpected", misfits.unexpected)
            + _listed("Of another shape", misfits.misshapen)
        )
    for variable, value in assignments:
        variable.assign(value.astype(variable.dtype))


def _has_classifier(model: keras.Model) -> bool:
    return any(layer.name == "classifier" for layer in model.layers)


def _classes_differ(
    model: keras.Model, tensors: Mapping[str, Any], scheme: LayerNames, names: tuple[str, str]
) -> tuple[int, int] | None:
    """The classes of the tensors and those of the model, where only these are different."""
    if not _has_classifier(model) or not all(name in tensors for name in names):
        return None
    ours = model.get_layer("classifier").kernel
    theirs = scheme.to_keras(np.asarray(tensors[names[0]]), ours).shape
    if len(theirs) != 2 or theirs[0] != ours.shape[0] or theirs[1] == ours.shape[1]:
        return None
    return theirs[1], ours.shape[1]


def _first_kernel(model: keras.Model) -> keras.Variable | None:
    stems = [layer for layer in model.layers if isinstance(layer, Stem)]
    return stems[0].conv1.kernel if stems else None


def _adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The kernel of a convolution of RGB images, (height, width, 3, out), for other channels.

    One channel gets the sum of the three, so that grey images give what they gave as RGB. More get
    the three in turn, scaled so that the sum over all channels stays (timm's `in_chans`).
    """
    if kernel.ndim != 4 or kernel.shape[2] != 3 or channels == 3:
        return kernel
    kernel = kernel.astype("float32")
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % 3] * (3 / channels)


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = names[:_MOST_NAMES_IN_AN_ERROR]
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"\n{title} ({len(names)}): {', '.join(shown)}{more}"
