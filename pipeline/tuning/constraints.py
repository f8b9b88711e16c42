"""What a network may cost, counted before it is trained."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from pipeline.components.trainer import CUSTOM
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.errors import UsageError
from pipeline.tuning.parameters import Parameters

if TYPE_CHECKING:
    from keras_resnet import ResNetConfig

# Networks of a search that are kept counted.
_KEPT = 1024


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a network costs.

    Args:
        parameters: Its weights, moving statistics too.
        macs: Multiply-accumulate operations of one image; None for a network of a person's own
            with layers of which they are not known.
    """

    parameters: int
    macs: int | None


def network(parameters: TrainerParameters) -> "ResNetConfig":
    """Returns the configuration of the network that parameters of Trainer describe.

    Args:
        parameters: Those of Trainer, of which the model is one of `keras_resnet.list_models()`.

    Raises:
        UsageError: There is no such network, recipe or field, or a value is not allowed.
    """
    from keras_resnet import ResNetConfig
    from keras_resnet.variants import find_config
    from pipeline.training import recipe

    settled, _ = recipe.settle(parameters)
    known = {field.name for field in dataclasses.fields(ResNetConfig)}
    given = {name: value for name, value in settled.model_arguments.items() if name in known}
    try:
        return dataclasses.replace(find_config(parameters.model), **given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.model {parameters.model!r}: {error}") from None


def measure(parameters: TrainerParameters, classes: int) -> Cost:
    """Returns what the network costs; nothing is trained, and for the family nothing built.

    Args:
        parameters: Those of Trainer.
        classes: Number of classes.

    Raises:
        UsageError: There is no such network.
    """
    if CUSTOM in parameters.model:
        return _built(parameters, classes)
    return _counted(network(parameters), (*parameters.image_size, 3), classes)


@functools.lru_cache(_KEPT)
def _counted(config: "ResNetConfig", shape: tuple[int, int, int], classes: int) -> Cost:
    from keras_resnet.analysis import count

    try:
        found = count(config, shape, classes=classes)
    except ValueError as error:
        raise UsageError(f"trainer.image_size {list(shape[:2])}: {error}") from None
    return Cost(found.parameters, found.macs)


def _built(parameters: TrainerParameters, classes: int) -> Cost:
    """Returns what a network of a person's own costs."""
    from keras_resnet.analysis import count
    from pipeline.training import network as networks
    from pipeline.training import recipe

    settled, _ = recipe.settle(parameters)
    try:
        model = networks.build(settled, classes, "float32")
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.model {parameters.model!r}: {error}") from None
    try:
        return Cost(model.count_params(), count(model).macs)
    except ValueError:
        # A layer with a matrix of which nobody knows how it is multiplied.
        return Cost(model.count_params(), None)


def reason(cost: Cost, parameters: Parameters) -> str | None:
    """Returns why a network is rejected, or None.

    Args:
        cost: That of the network.
        parameters: Those of Tuner.
    """
    for found, limit, name, what in (
        (cost.parameters, parameters.max_parameters, "max_parameters", "parameters"),
        (cost.macs, parameters.max_macs, "max_macs", "multiply-accumulate operations per image"),
    ):
        if limit is None:
            continue
        if found is None:
            return f"{name}: the {what} of this network are not known"
        if found > limit:
            return f"{found:,} {what}, and tuner.{name} is {limit:,}"
    return None
