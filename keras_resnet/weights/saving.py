"""Writing the weights of a model: with the names of its layers, or with those of timm."""

import json
import os
from pathlib import Path

import keras
import numpy as np

from keras_resnet.layers._unit import ResidualUnit
from keras_resnet.layers.stem import Stem
from keras_resnet.weights import torch_names
from keras_resnet.weights.files import FORMAT
from keras_resnet.weights.schemes import torch_variables


def save(model: keras.Model, path: str | Path) -> None:
    """Writes the weights of a model to a `.safetensors` file, by the names of its layers.

    `keras_resnet.weights.load` reads it, and the `weights` of `keras_resnet.ResNet`. The metadata
    hold the configuration of the network. The file appears whole or not at all.

    Args:
        model: A model that `keras_resnet.ResNet` built.
        path: The file, whose name ends in `.safetensors`.

    Raises:
        ValueError: If the name ends otherwise.
        FileNotFoundError: If there is no such directory.
    """
    config = getattr(model, "config", None)
    metadata = {**FORMAT, "version": "1"}
    if config is not None:
        metadata["config"] = json.dumps(config.to_dict())
    _write({variable.path: _array(variable) for variable in model.weights}, path, metadata)


def to_timm(model: keras.Model, path: str | Path | None = None) -> dict[str, np.ndarray]:
    """The weights of a model as timm and torchvision name them and lay them out.

    `timm.create_model(name, checkpoint_path=path)` and torch's `load_state_dict` take them.

    Args:
        model: A model that `keras_resnet.ResNet` built, of a network that timm has.
        path: A `.safetensors` file to write them to; None to write none.

    Returns:
        The `state_dict`: float32 arrays by name.

    Raises:
        ValueError: If timm has no such network, for what no tensor can express.
        FileNotFoundError: If there is no directory for the file.

    Example:

    ```python
    keras_resnet.weights.to_timm(model, "resnet50.safetensors")
    ```
    """
    _check_timm_has(model)
    state = {}
    for name, variable in torch_variables(model):
        value = _array(variable)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
            if torch_names.dialect_of(model) is torch_names.RESNETV2:
                value = value[:, :, None, None]  # A 1×1 convolution there.
        state[name] = np.ascontiguousarray(value)
        if name.endswith(".running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            state[counter] = np.zeros((), "int64")
    if path is not None:
        _write(state, path, {"format": "pt"})
    return state


def _check_timm_has(model: keras.Model) -> None:
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualUnit)]
    stems = [layer for layer in model.layers if isinstance(layer, Stem)]
    legacy = torch_names.dialect_of(model) is torch_names.LEGACY_SENET
    reasons = {
        f"the order {block.order!r}"
        for block in blocks
        if block.order not in ("original", "full_preactivation")
    }
    if any(layer.conv_bias != "none" for layer in (*stems, *blocks)):
        reasons.add("convolutions with biases")
    if not legacy and any(getattr(block, "stride_on", "3x3") == "1x1" for block in blocks):
        reasons.add("the stride on the first 1×1 convolution")
    if any(block.shortcut is None or block.shortcut.kind == "zero_pad" for block in blocks):
        reasons.add("blocks without an identity or a projection around them")
    if any(stem.kind == "cifar" or stem.pool == "max_zero" for stem in stems):
        reasons.add("its stem")
    if reasons:
        raise ValueError(
            "`model` must be a network that timm has. Received: model "
            f"{model.name!r} with {', '.join(sorted(reasons))}"
        )


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _write(tensors: dict[str, np.ndarray], path: str | Path, metadata: dict[str, str]) -> None:
    from safetensors.numpy import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"`path` must end in .safetensors. Received: path={str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in a directory that exists. Received: path={str(path)!r}"
        )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
