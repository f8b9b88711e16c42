"""What a training begins with: trained weights, and what of them stays as it is."""

from pathlib import Path

import keras

import keras_resnet
from keras_resnet.weights import (
    DownloadError,
    WeightsRecord,
    cache_path,
    load_pretrained,
    resolve,
)
from pipeline.components.trainer import CUSTOM, Parameters
from pipeline.errors import PipelineError, UsageError
from pipeline.training import network
from pipeline.training.preprocessing import Preprocessing


def prepare(model: keras.Model, parameters: Parameters, *, resumed: bool) -> None:
    """Loads the weights that a training begins with, and freezes what is not to learn.

    Args:
        model: What `network.build` returned.
        parameters: Those of Trainer.
        resumed: Whether the weights are those of a checkpoint, and nothing is to be loaded.

    Raises:
        UsageError: There are no such weights, they are of another network, or so many stages cannot
            be frozen.
        PipelineError: They can be neither found nor downloaded.
    """
    if parameters.init_from is not None and not resumed:
        source = _named(parameters)
        try:
            load_pretrained(model, source)
        except ValueError as error:
            raise UsageError(
                f"trainer.init_from {parameters.init_from!r}: {error}{_hint(source, parameters)}"
            ) from None
        except DownloadError as error:
            raise PipelineError(f"trainer.init_from {parameters.init_from!r}: {error}") from error
        if isinstance(source, WeightsRecord) and source.images.channels == "bgr":
            _turn_channels(model)
    if parameters.freeze_stages:
        _require_stages("freeze_stages", parameters)
        try:
            keras_resnet.freeze(model, parameters.freeze_stages)
        except ValueError as error:
            raise UsageError(f"trainer.freeze_stages: {error}") from None


def learning_rates(model: keras.Model, parameters: Parameters) -> dict[str, float] | None:
    """Returns what the learning rate of each part of the network is multiplied by.

    By pattern, as `keras_resnet.FineTuningSGD` takes them; None where it is the same everywhere.

    Args:
        model: What `network.build` returned.
        parameters: Those of Trainer.

    Raises:
        UsageError: The network has no stages that are known.
    """
    decay, head = parameters.stage_decay, parameters.head_learning_rate
    if decay == head == 1:
        return None
    _require_stages("stage_decay" if decay != 1 else "head_learning_rate", parameters)
    return keras_resnet.stage_learning_rates(model, decay, head)


def _require_stages(name: str, parameters: Parameters) -> None:
    if CUSTOM in parameters.model:
        raise UsageError(
            f"trainer.{name} {getattr(parameters, name)}: {parameters.model} is built by its own "
            "function and has no stages that are known; leave it out"
        )


def check(model: keras.Model, parameters: Parameters) -> None:
    """Raises UsageError where `prepare` would, as far as it shows without a download."""
    _named(parameters)
    prepare(model, parameters, resumed=True)
    learning_rates(model, parameters)


def expected(parameters: Parameters) -> Preprocessing | None:
    """Returns what weights that are named expect of their input, in the order red, green, blue.

    None where the training begins at random, or with a file, which does not say.
    """
    if not isinstance(record := _named(parameters), WeightsRecord):
        return None
    images = record.images
    order = slice(None, None, -1 if images.channels == "bgr" else 1)
    height, width = parameters.image_size
    return Preprocessing(
        height=height,
        width=width,
        mean=tuple(value / images.scale for value in images.mean[order]),
        std=tuple(value / images.scale for value in images.std[order]),
        interpolation=images.interpolation,
    )


def described(parameters: Parameters) -> str:
    """Returns in words what a training begins with, and what of it is frozen."""
    source, frozen = _named(parameters), parameters.freeze_stages
    start = "random weights"
    if source is not None:
        start = source.name if isinstance(source, WeightsRecord) else str(source)
    if not frozen:
        return start
    stages = "stage 1" if frozen == 1 else f"stages 1 to {frozen}"
    return f"{start}, the stem and {stages} frozen"


def whereabouts(parameters: Parameters) -> str:
    """Returns in words where the weights are that a training begins with."""
    if not isinstance(record := _named(parameters), WeightsRecord):
        return "as configured"
    path = cache_path(record)
    return f"in the cache, {path}" if path.is_file() else f"Trainer downloads them to {path}"


def _named(parameters: Parameters) -> WeightsRecord | Path | None:
    """Returns the record or the file that `init_from` names; None where there is no `init_from`."""
    if parameters.init_from is None:
        return None
    said = f"trainer.init_from {parameters.init_from!r}"
    if CUSTOM in parameters.model:
        raise UsageError(
            f"{said}: {parameters.model} is built by its own function; load its weights there"
        )
    try:
        return resolve(network.config(parameters), parameters.init_from)
    except ValueError as error:
        raise UsageError(f"{said}: {error}") from None


def _hint(source: WeightsRecord | Path, parameters: Parameters) -> str:
    """Returns what to do where a file does not fit, which does not say of which network it is."""
    if isinstance(source, WeightsRecord):
        return ""
    return f"\nThe network is trainer.model {parameters.model!r}; name that of the file (--model)"


def _turn_channels(model: keras.Model) -> None:
    """Makes a network that was trained on blue, green and red one for red, green and blue."""
    kernel = model.get_layer("stem").conv1.kernel
    kernel.assign(keras.ops.flip(kernel, axis=2))
