"""What squeeze-and-excitation costs, and what it does to the error."""

import dataclasses
import functools
from dataclasses import dataclass

from keras_resnet import SPECS, recipes
from keras_resnet.analysis import count
from studies.networks import Network, Results, charts, last, million, table, trainings
from studies.report import Report, Study, Table, Verdict, unless_quick
from studies.statistics import Decision, compare
from studies.table import TITLES
from studies.training import shortened
from studies.work import Run, Setting

_REDUCTION = 16
# Hu et al., 2018, 4.1: from 3.86 to 3.87 billion; of more it would be no small cost.
_MOST_MACS = 1.005


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        depth: Number of layers, 6 n + 2.
        epochs: Length of the training.
        batch_size: Images of a step.
        warmup_epochs: Of the learning rate.
    """

    depth: int
    epochs: int
    batch_size: int = 128
    warmup_epochs: float = 0.0


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("he2015_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    without = dataclasses.replace(
        SPECS["cifar_resnet20"],
        depths=((plan.depth - 2) // 6,) * 3,
        zero_init_residual=False,
    )
    with_it = dataclasses.replace(without, se_ratio=1 / _REDUCTION, se_divisor=1)
    return {
        "without": Network("without", f"ResNet-{plan.depth}", without, recipe),
        "with": Network("with", f"SE-ResNet-{plan.depth}", with_it, recipe),
    }


def runs(plan: Plan, setting: Setting) -> list[Run]:
    return trainings(list(networks(plan, setting).values()), setting)


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    errors = {
        name: last(network, setting, results, "test_error") for name, network in known.items()
    }
    difference = compare(errors["without"].values, errors["with"].values)
    error = Verdict(
        "Squeeze-and-excitation lowers the error",
        "Hu 2018, table 2, ImageNet top-1 error: ResNet-50 24.80 %, SE-ResNet-50 23.29 %.",
        f"test error, %: {known['without'].label} {errors['without'].told()}, "
        f"{known['with'].label} {errors['with'].told()}; difference {difference.told()}.",
        **unless_quick(setting, difference.exceeds(), "by the 95 % interval over the seeds"),
    )
    pair = list(known.values())
    return Report(
        (_cost_verdict(), error),
        (_imagenet_table(), table(pair, setting, results)),
        charts(pair, setting, results),
    )


@functools.cache
def _imagenet(name: str) -> tuple[int, int]:
    """Parameters and multiply-adds."""
    found = count(dataclasses.replace(SPECS[name], stride_on="1x1"))
    return found.trainable, found.macs


def _cost_verdict() -> Verdict:
    (parameters, macs), (more_parameters, more_macs) = (
        _imagenet("resnet50"),
        _imagenet("seresnet50"),
    )
    return Verdict(
        "It costs next to no multiplications, and a tenth of the parameters",
        "Hu 2018, 4.1 and table 2: ResNet-50 3.86, SE-ResNet-50 3.87 billion multiply-adds; about "
        "10 % more parameters.",
        f"{macs / 1e9:.3f} against {more_macs / 1e9:.3f} billion multiply-adds "
        f"(+{100 * (more_macs / macs - 1):.2f} %), {million(parameters)} against "
        f"{million(more_parameters)} parameters (+{100 * (more_parameters / parameters - 1):.1f} %).",
        Decision.SUPPORTED if more_macs < _MOST_MACS * macs else Decision.CONTRADICTED,
        "counted from the layers, without the pooling and the products with the gates; supported "
        "below 0.5 %",
    )


def _imagenet_table() -> Table:
    rows = []
    for depth in (50, 101, 152):
        for prefix, label in (("", ""), ("se", "SE-")):
            parameters, macs = _imagenet(f"{prefix}resnet{depth}")
            rows.append((f"{label}ResNet-{depth}", million(parameters), f"{macs / 1e9:.3f} G"))
    return Table(
        "For images of 224×224",
        ("network", "parameters", "multiply-adds"),
        tuple(rows),
        "With the stride on the first 1×1 of a bottleneck, as in the paper.",
    )


STUDY = Study(
    "squeeze-excitation",
    TITLES["squeeze-excitation"],
    f"Residual networks with and without a gate for each channel, which is computed of the means "
    f"over the image through a {_REDUCTION}th of the channels.",
    "Hu et al., 2018, arXiv:1709.01507, sections 3 and 4.1",
    quick=Plan(depth=20, epochs=5, batch_size=64, warmup_epochs=1.0),
    full=Plan(depth=56, epochs=164),
    runs=runs,
    report=report,
)
