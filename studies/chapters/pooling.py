"""Max-pooling against a strided convolution in the stem."""

import dataclasses
import math
from dataclasses import dataclass

from keras_resnet import ResNetConfig, recipes
from studies.networks import Network, Results, charts, last, table, trainings
from studies.report import Report, Study, Verdict, unless_quick
from studies.statistics import compare
from studies.table import TITLES
from studies.training import shortened
from studies.work import Run, Setting

_POOLS = {"max": "max-pooling", "conv": "strided convolution"}
# In points of the error: a difference that nobody would choose a network for.
_NEXT_TO_NOTHING = 0.5


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        widths: Of the stages, behind a stem that shrinks images to a quarter of their side; small
            images have no room for the last of them.
        epochs: Length of the training.
        batch_size: Images of a step.
        warmup_epochs: Of the learning rate.
    """

    widths: tuple[int, ...]
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
    # The stem and each stage but the first halve the side, down to one pixel.
    widths = plan.widths[: int(math.log2(setting.data.side // 4)) + 1]
    config = ResNetConfig(
        depths=(2,) * len(widths),
        widths=widths,
        block="basic",
        stem="imagenet",
        stem_width=plan.widths[0],
        zero_init_residual=False,
    )
    return {
        pool: Network(pool, label, dataclasses.replace(config, stem_pool=pool), recipe)
        for pool, label in _POOLS.items()
    }


def runs(plan: Plan, setting: Setting) -> list[Run]:
    return trainings(list(networks(plan, setting).values()), setting)


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    errors = {
        name: last(network, setting, results, "test_error") for name, network in known.items()
    }
    difference = compare(errors["conv"].values, errors["max"].values)
    verdict = Verdict(
        "A strided convolution in place of max-pooling makes next to no difference to the error",
        "Springenberg 2015: max-pooling can be replaced by strided convolutions without loss in "
        "accuracy; ResNet-RS has such a stem (Bello 2021, figure 2).",
        f"test error, %: max-pooling {errors['max'].told()}, strided convolution "
        f"{errors['conv'].told()}; difference {difference.told()}.",
        **unless_quick(
            setting,
            difference.within(_NEXT_TO_NOTHING),
            f"supported if the 95 % interval over the seeds lies within {_NEXT_TO_NOTHING} points",
        ),
    )
    pair = list(known.values())
    return Report((verdict,), (table(pair, setting, results),), charts(pair, setting, results))


STUDY = Study(
    "pooling",
    TITLES["pooling"],
    "Residual networks of four or fewer stages behind the stem for ImageNet, whose second half is "
    "3×3 max-pooling or a 3×3 convolution, both with stride 2.",
    "Springenberg et al., 2015, arXiv:1412.6806; Bello et al., 2021, arXiv:2103.07579",
    quick=Plan(widths=(16, 32), epochs=6, batch_size=64, warmup_epochs=1.0),
    full=Plan(widths=(64, 128, 256, 512), epochs=164),
    runs=runs,
    report=report,
)
