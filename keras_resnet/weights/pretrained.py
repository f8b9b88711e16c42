"""What the argument `weights` of a network means."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras

from keras_resnet.config import ResNetConfig
from keras_resnet.weights.download import fetch
from keras_resnet.weights.loading import load
from keras_resnet.weights.records import WeightsRecord, default_record, find_record

# Fields that say how a network is trained or laid out; the others say what its weights mean.
_FREE_FIELDS = {
    "output_stride",
    "kernel_initializer",
    "zero_init_residual",
    "bn_momentum",
    "bn_synchronized",
    "block_dropout_rate",
    "drop_path_rate",
    "drop_path_schedule",
    "drop_path_mode",
    "dropout_rate",
    "data_format",
    "image_size",
    "default_classes",
}


def load_pretrained(model: keras.Model, weights: Any) -> None:
    """Loads what `weights` of `keras_resnet.ResNet` names into a model that is there already.

    Args:
        model: A model that `keras_resnet.ResNet` built.
        weights: `"imagenet"`, one of `keras_resnet.list_weights()`, a record, or a path.

    Raises:
        ValueError: If there are no such weights, or they are of another network.
        DownloadError: If they are neither in the cache nor to be had.
    """
    record = resolve(model.config, weights)
    path = fetch(record) if isinstance(record, WeightsRecord) else record
    try:
        load(model, path)
    except ValueError as error:
        raise ValueError(
            "`weights` must come from the same network. "
            f"Received: weights={str(weights)!r} for model {model.name!r}. {error}"
        ) from error


def resolve(config: ResNetConfig, weights: Any) -> WeightsRecord | Path:
    """The record or the file that `weights` of `keras_resnet.ResNet` names; nothing is downloaded.

    Args:
        config: That of the network.
        weights: `"imagenet"`, one of `keras_resnet.list_weights()`, a record, or a path.

    Raises:
        ValueError: If there are no such weights, or they are of another network.
    """
    if isinstance(weights, (str, os.PathLike)) and Path(weights).is_file():
        return Path(weights)
    architecture = architecture_of(config)
    if isinstance(weights, WeightsRecord):
        record = weights
    elif weights == "imagenet":
        record = default_record(architecture) if architecture else None
        if record is None:
            raise ValueError(
                "`weights` must be None or a file for this network, which nobody is known to have "
                "trained on ImageNet; `keras_resnet.list_weights()` has those that were. "
                "Received: weights='imagenet'"
            )
    elif isinstance(weights, str) and weights.startswith(("timm/", "keras/")):
        record = find_record(weights)
    else:
        raise ValueError(
            "`weights` must be None, 'imagenet', one of `keras_resnet.list_weights()`, or the path "
            f"of a file that exists. Received: weights={weights!r}"
        )
    if record.architecture != architecture:
        network = architecture or "of a configuration that has no name"
        raise ValueError(
            f"`weights` must be of the same network; these are of {record.architecture}, and the "
            f"network is {network}. Received: weights={record.name!r}"
        )
    return record


def architecture_of(config: ResNetConfig) -> str | None:
    """Name of the network of `keras_resnet.SPECS` whose weights mean the same, or None."""
    from keras_resnet.variants import SPECS  # Whose module needs the factory, which needs this one.

    meaning = _meaning(config)
    return next((name for name, spec in SPECS.items() if _meaning(spec) == meaning), None)


def _meaning(config: ResNetConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if name not in _FREE_FIELDS}
