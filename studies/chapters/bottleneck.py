"""What depth costs in basic blocks and in bottlenecks."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_resnet import SPECS, recipes
from keras_resnet.analysis import Count, count
from studies.data import Data
from studies.networks import Network, Results, charts, last, million, table, trainings
from studies.report import Report, Study, Table, Verdict, unless_quick
from studies.statistics import Decision, compare
from studies.table import TITLES
from studies.timing import clock_name, step_seconds
from studies.training import build, shortened
from studies.work import Desk, Run, Setting

# Simonyan and Zisserman, 2014, table 1, column E: the convolutions before each pooling.
_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_VGG19_DENSE = (4096, 4096, 1000)
_IMAGENET = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_STEPS_RUN = "steps"


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        blocks: Of each of the three stages.
        epochs: Length of the training.
        batch_size: Images of a step.
        steps: That are timed.
        warmup_epochs: Of the learning rate.
    """

    blocks: int
    epochs: int
    batch_size: int
    steps: int
    warmup_epochs: float = 0.0


def vgg19(side: int = 224) -> Count:
    """Counts VGG-19, which has no shortcuts, no batch norm and three dense layers."""
    parameters = macs = 0
    channels = 3
    for width, layers in _VGG19:
        for _ in range(layers):
            kernel = 9 * channels * width
            parameters += kernel + width
            macs += side**2 * kernel
            channels = width
        side //= 2
    inputs = side**2 * channels
    for units in _VGG19_DENSE:
        parameters += inputs * units + units
        macs += inputs * units
        inputs = units
    return Count(parameters, 0, macs)


@functools.cache
def imagenet(name: str) -> Count:
    """Counts a network as the paper had it, with the stride on the first 1×1 of a bottleneck."""
    return count(dataclasses.replace(SPECS[name], stride_on="1x1"))


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("he2015_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    found = {}
    for block, layers in (("basic", 2), ("bottleneck", 3)):
        config = dataclasses.replace(
            SPECS["cifar_resnet20"],
            depths=(plan.blocks,) * 3,
            block=block,
            shortcut="B",
            zero_init_residual=False,
        )
        label = f"{block}, {3 * layers * plan.blocks + 2} layers"
        found[block] = Network(block, label, config, recipe)
    return found


def runs(plan: Plan, setting: Setting) -> list[Run]:
    known = list(networks(plan, setting).values())
    found = trainings(known, setting)
    settings = {
        "configs": [network.config.to_dict() for network in known],
        "batch": plan.batch_size,
        "steps": plan.steps,
    }
    cost = sum(run.cost for run in found) / len(found)
    return [Run(_STEPS_RUN, settings, _timer(plan, known), cost), *found]


def _timer(plan: Plan, known: list[Network]) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        models = [build(network.config, data.shape, data.classes, seed=0) for network in known]
        for network, model in zip(known, models, strict=True):
            network.recipe.compile(model, steps_per_epoch=1000)
        seconds = step_seconds(models, data, plan.batch_size, plan.steps)
        desk.progress(1.0, f"{plan.steps} steps of each timed")
        return {network.name: own for network, own in zip(known, seconds, strict=True)}

    return perform


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    return Report(
        (_vgg_verdict(), _block_verdict(), _error_verdict(known, setting, results)),
        (
            _imagenet_table(),
            table(list(known.values()), setting, results),
            _step_table(plan, known, results),
        ),
        charts(list(known.values()), setting, results),
    )


def _vgg_verdict() -> Verdict:
    deep, vgg = imagenet("resnet152"), vgg19()
    return Verdict(
        "ResNet-152 costs fewer multiplications than VGG-19",
        "He 2015, 3.3 and table 1: 11.3 against 19.6 billion multiply-adds.",
        f"{deep.macs / 1e9:.1f} against {vgg.macs / 1e9:.1f} billion, and "
        f"{million(deep.trainable)} parameters against {million(vgg.trainable)}.",
        Decision.SUPPORTED if deep.macs < vgg.macs else Decision.CONTRADICTED,
        "counted from the layers",
    )


def _block_verdict() -> Verdict:
    basic, bottleneck = imagenet("resnet34"), imagenet("resnet50")
    ratio = bottleneck.macs / basic.macs
    return Verdict(
        "With bottlenecks in place of basic blocks, 34 layers become 50 at about the same cost",
        "He 2015, table 1: 3.6 against 3.8 billion multiply-adds; figure 5: both blocks are of "
        "similar complexity.",
        f"{basic.macs / 1e9:.2f} against {bottleneck.macs / 1e9:.2f} billion, a factor of "
        f"{ratio:.3f}, for {50 / 34:.2f} times as many layers.",
        Decision.SUPPORTED if ratio < 50 / 34 else Decision.CONTRADICTED,
        "counted from the layers; supported if the cost grows by less than the depth",
    )


def _error_verdict(known: dict[str, Network], setting: Setting, results: Results) -> Verdict:
    errors = {
        name: last(network, setting, results, "test_error") for name, network in known.items()
    }
    difference = compare(errors["basic"].values, errors["bottleneck"].values)
    return Verdict(
        "At equal cost bottlenecks have the lower error",
        "He 2015, table 3, ImageNet top-1 error, 10 crops: ResNet-34 B 24.52 %, ResNet-50 22.85 %.",
        f"test error, %: {known['basic'].label} {errors['basic'].told()}; "
        f"{known['bottleneck'].label} {errors['bottleneck'].told()}; difference "
        f"{difference.told()}.",
        **unless_quick(setting, difference.exceeds(), "by the 95 % interval over the seeds"),
    )


def _imagenet_table() -> Table:
    rows = [
        (name.replace("resnet", "ResNet-"), million(own.trainable), f"{own.macs / 1e9:.2f} G")
        for name in _IMAGENET
        for own in [imagenet(name)]
    ]
    vgg = vgg19()
    rows.append(("VGG-19", million(vgg.trainable), f"{vgg.macs / 1e9:.2f} G"))
    return Table(
        "For images of 224×224",
        ("network", "parameters", "multiply-adds"),
        tuple(rows),
        "With the paper's stride on the first 1×1 of a bottleneck; 18 and 34 have basic blocks.",
    )


def _step_table(plan: Plan, known: dict[str, Network], results: Results) -> Table:
    rows = tuple(
        (network.label, f"{1000 * float(np.median(results[_STEPS_RUN][name])):.3g}")
        for name, network in known.items()
    )
    return Table(
        "Time of a training step",
        ("network", "ms"),
        rows,
        f"{plan.batch_size} images; median of {plan.steps} steps of each, which took turns, in "
        f"{clock_name()}.",
    )


STUDY = Study(
    "bottleneck",
    TITLES["bottleneck"],
    "Parameters, multiplications, the time of a training step and the error of networks of basic "
    "blocks (two 3×3) and of bottlenecks (1×1, 3×3, 1×1), with as many blocks of the same inner "
    "widths.",
    "He et al., 2015, arXiv:1512.03385, section 3.3, table 1 and figure 5",
    quick=Plan(blocks=3, epochs=5, batch_size=64, steps=20, warmup_epochs=1.0),
    full=Plan(blocks=9, epochs=164, batch_size=128, steps=100),
    runs=runs,
    report=report,
)
