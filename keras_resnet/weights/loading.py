"""Reading weights into a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.weights import torch_names

# What a training loop of torch counts, and no network computes with.
_IGNORED = "num_batches_tracked"
_MOST_NAMES_IN_AN_ERROR = 10


def load(model: keras.Model, path: str | Path) -> None:
    """Reads the weights of a file into a model.

    Args:
        model: A model that `keras_resnet.ResNet` built.
        path: A `.safetensors` file with torch names (`load_torch_state`), or a file that Keras
            wrote (`.weights.h5`, `.keras`). Formats that can run code when read are not taken.

    Raises:
        ValueError: If the file is of another kind or does not fit the model.
        FileNotFoundError: If there is no such file.
        ImportError: If a `.safetensors` file needs the package `safetensors`.

    Example:

    ```python
    model = keras_resnet.ResNet50D()
    keras_resnet.weights.load(model, "resnet50d.ra2_in1k.safetensors")
    ```
    """
    path = Path(path)
    if not path.name.endswith((".safetensors", ".weights.h5", ".keras")):
        raise ValueError(
            "`path` must end in .safetensors, .weights.h5 or .keras; the pickles of torch (.bin, "
            f".pt, .pth) can run code when read. Received: path={str(path)!r}"
        )
    if not path.exists():
        raise FileNotFoundError(f"`path` must be a file. Received: path={str(path)!r}")
    if path.suffix == ".safetensors":
        load_torch_state(model, read_safetensors(path))
    else:
        model.load_weights(path)


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file by name."""
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(
            "Reading .safetensors needs the package safetensors: pip install safetensors"
        ) from error
    return load_file(path)


def load_torch_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Copies the tensors of a torch network into the same network of this package.

    The names are those of timm's `resnet*`, `wide_resnet*`, `resnext*`, `seres*`, `resnetrs*`,
    `legacy_seresnet*` and `resnetv2_*`, and of torchvision. Every tensor of `state` is used
    exactly once, `num_batches_tracked` excepted, and every weight of the model is set; the
    classifier of `state` is left out where the model has none. Nothing is copied if that fails.

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
    remaining = {name for name in state if name.rsplit(".", 1)[-1] != _IGNORED}
    if not any(layer.name == "classifier" for layer in model.layers):
        classifier = _dialect(model, state).classifier
        remaining -= {f"{classifier}.weight", f"{classifier}.bias"}
    assignments, missing, misshapen = [], [], []
    for name, variable in torch_variables(model, state):
        if name not in remaining:
            missing.append(name)
            continue
        remaining.remove(name)
        value = _to_keras_layout(np.asarray(state[name]), variable)
        if value.shape != tuple(variable.shape):
            misshapen.append(
                f"{name} {tuple(np.shape(state[name]))} does not fit {variable.path} "
                f"{tuple(variable.shape)}"
            )
        assignments.append((variable, value))
    if missing or remaining or misshapen:
        raise ValueError(
            "`state` must hold the tensors of this network and no others."
            + _listed("Missing", missing)
            + _listed("Unexpected", sorted(remaining))
            + _listed("Of another shape", misshapen)
        )
    for variable, value in assignments:
        variable.assign(value)


def _dialect(model: keras.Model, state: Mapping[str, Any]) -> torch_names.Dialect:
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualUnit)]
    if any(block.order == "full_preactivation" for block in blocks):
        return torch_names.RESNETV2
    legacy = any(name.startswith("layer0.") for name in state)
    return torch_names.LEGACY_SENET if legacy else torch_names.RESNET


def torch_variables(
    model: keras.Model, state: Mapping[str, Any]
) -> Iterator[tuple[str, keras.Variable]]:
    """Each weight of the model with the name of its tensor, in the dialect of `state`."""
    for module, layer in torch_names.torch_modules(model, _dialect(model, state)):
        if isinstance(layer, keras.layers.BatchNormalization):
            yield f"{module}.weight", layer.gamma
            yield f"{module}.bias", layer.beta
            yield f"{module}.running_mean", layer.moving_mean
            yield f"{module}.running_var", layer.moving_variance
        else:
            yield f"{module}.weight", layer.kernel
            if layer.bias is not None:
                yield f"{module}.bias", layer.bias


def _to_keras_layout(value: np.ndarray, variable: keras.Variable) -> np.ndarray:
    if value.ndim == 4 and len(variable.shape) == 2 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]  # A classifier that torch keeps as a 1×1 convolution.
    if value.ndim == 4:  # (out, in / groups, height, width)
        value = value.transpose(2, 3, 1, 0)
    elif value.ndim == 2:
        value = value.T
    return value.astype(variable.dtype)


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = names[:_MOST_NAMES_IN_AN_ERROR]
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"\n{title} ({len(names)}): {', '.join(shown)}{more}"
