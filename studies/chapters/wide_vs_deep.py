"""Wide networks against deep ones of like size: error, and the time of an epoch."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

import keras_resnet
from keras_resnet import SPECS, recipes
from keras_resnet.analysis import count
from keras_resnet.variants import find_config
from studies.data import Data, Split
from studies.networks import Network, Results, charts, last, million, table, trainings
from studies.report import Report, Study, Table, Verdict, unless_quick
from studies.statistics import Decision, Spread, compare
from studies.table import TITLES
from studies.timing import clock_name, step_seconds
from studies.training import build, shortened
from studies.work import Desk, Run, Setting, on_cpu

_STEPS_RUN = "steps"
_IMAGENET_RUN = "imagenet"
_IMAGENET = {"wide_resnet50_2": "WRN-50-2", "resnet152": "ResNet-152"}
_IMAGENET_BATCH = 32


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        wide: Names of the wide networks.
        deep: Names of the deep ones, of like numbers of parameters.
        epochs: Length of the training.
        batch_size: Images of a step.
        rounds: How often the time is measured; the spread is that of the rounds.
        steps: That are timed in each round.
        warmup_epochs: Of the learning rate.
    """

    wide: tuple[str, ...]
    deep: tuple[str, ...]
    epochs: int
    batch_size: int
    rounds: int
    steps: int
    warmup_epochs: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        return self.wide + self.deep


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("wrn_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    return {
        name: Network(
            name.replace("_", "-"),
            _label(name),
            dataclasses.replace(find_config(name), zero_init_residual=False),
            recipe,
        )
        for name in plan.names
    }


def _label(name: str) -> str:
    """`ResNet-44` of `cifar_resnet44`."""
    for begin, label in (
        ("cifar_preresnet", "pre-activation "),
        ("cifar_resnet", "ResNet-"),
        ("wrn_", "WRN-"),
    ):
        name = name.replace(begin, label)
    return name.replace("_", "-")


def runs(plan: Plan, setting: Setting) -> list[Run]:
    known = networks(plan, setting)
    found = trainings(list(known.values()), setting)
    cost = sum(run.cost for run in found) / len(found)
    settings = {
        "configs": [network.config.to_dict() for network in known.values()],
        "batch": plan.batch_size,
        "rounds": plan.rounds,
        "steps": plan.steps,
    }
    found = [Run(_STEPS_RUN, settings, _timer(plan, known), cost), *found]
    # Twelve billion multiplications an image say nothing on a processor.
    if not setting.quick and not on_cpu():
        own = {key: settings[key] for key in ("rounds", "steps")}
        found.append(Run(_IMAGENET_RUN, own, _imagenet_timer(plan), cost))
    return found


def _rounds(plan: Plan, names: Any, models: list[Any], data: Data, batch: int, desk: Desk) -> Any:
    measured: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1, plan.rounds + 1):
        seconds = step_seconds(models, data, batch, plan.steps)
        for name, own in zip(measured, seconds, strict=True):
            measured[name].append(float(np.median(own)))
        desk.progress(number / plan.rounds, f"round {number} of {plan.rounds} timed")
    return measured


def _timer(plan: Plan, known: dict[str, Network]) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        models = []
        for network in known.values():
            model = build(network.config, data.shape, data.classes, seed=0)
            network.recipe.compile(model, steps_per_epoch=1000)
            models.append(model)
        return _rounds(plan, known, models, data, plan.batch_size, desk)

    return perform


def _imagenet_timer(plan: Plan) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        random = np.random.default_rng(0)
        shape = (_IMAGENET_BATCH, 224, 224, 3)
        noise = Split(random.integers(0, 256, shape, dtype=np.uint8), np.arange(_IMAGENET_BATCH))
        images = Data("noise", noise, noise, mirrored=True, classes=1000)
        models = []
        for name in _IMAGENET:
            model = keras_resnet.create(name, classifier_activation=None)
            recipes.get("wrn_imagenet").compile(model, steps_per_epoch=1000)
            models.append(model)
        return _rounds(plan, _IMAGENET, models, images, _IMAGENET_BATCH, desk)

    return perform


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    every = list(known.values())
    return Report(
        (
            _time_verdict(plan, known, results[_STEPS_RUN]),
            _error_verdict(plan, known, setting, results),
            _imagenet_verdict(plan, results),
        ),
        (_step_table(plan, known, results[_STEPS_RUN]), table(every, setting, results)),
        charts(every, setting, results),
    )


def _time_verdict(plan: Plan, known: dict[str, Network], seconds: dict[str, Any]) -> Verdict:
    wide, deep = plan.wide[0], plan.deep[0]
    difference = compare(seconds[deep], seconds[wide])
    ratio = np.mean(seconds[deep]) / np.mean(seconds[wide])
    return Verdict(
        f"{known[wide].label} trains faster than {known[deep].label}, of like size",
        "Zagoruyko 2016, section 3: wide networks are several times faster to train than thin ones "
        "of like accuracy, as what they compute is parallel.",
        f"a step of {known[deep].label} takes {ratio:.2f} times as long in {clock_name()}; "
        f"difference in seconds {difference.told()}.",
        difference.exceeds(),
        f"by the 95 % interval over {plan.rounds} rounds of {plan.steps} steps that took turns",
    )


def _error_verdict(
    plan: Plan, known: dict[str, Network], setting: Setting, results: Results
) -> Verdict:
    wide, deep = (known[names[0]] for names in (plan.wide, plan.deep))
    errors = [last(network, setting, results, "test_error") for network in (wide, deep)]
    difference = compare(errors[1].values, errors[0].values)
    return Verdict(
        "A wide network of few layers has a lower error than a thin one of many",
        "CIFAR-10: WRN-16-4 (2.7 M) 5.02 % (Zagoruyko 2016), ResNet-110 (1.7 M) 6.43 % (He 2015), "
        "pre-activation 164 (1.7 M) 5.46 % (He 2016).",
        f"test error, %: {wide.label} {errors[0].told()}, {deep.label} {errors[1].told()}; "
        f"difference {difference.told()}.",
        **unless_quick(setting, difference.exceeds(), "by the 95 % interval over the seeds"),
    )


def _imagenet_verdict(plan: Plan, results: Results) -> Verdict:
    wide, deep = (count(SPECS[name]) for name in _IMAGENET)
    counts = (
        f"WRN-50-2 has {million(wide.trainable)} parameters and {wide.macs / 1e9:.1f} billion "
        f"multiply-adds, ResNet-152 {million(deep.trainable)} and {deep.macs / 1e9:.1f} billion."
    )
    claim = "At like multiply-adds WRN-50-2 trains faster than ResNet-152"
    paper = (
        "Zagoruyko 2016, 3 and table 8: it outperforms ResNet-152 with three times fewer layers "
    )
    paper += "and is significantly faster."
    if _IMAGENET_RUN not in results:
        why = "Throughput is that of an accelerator; it is measured by the full form where one is."
        return Verdict(claim, paper, counts, Decision.UNDECIDED, why)
    seconds = results[_IMAGENET_RUN]
    difference = compare(seconds["resnet152"], seconds["wide_resnet50_2"])
    speeds = [
        f"{label} {_IMAGENET_BATCH / np.mean(seconds[name]):.0f}"
        for name, label in _IMAGENET.items()
    ]
    return Verdict(
        claim,
        paper,
        f"{counts} Images trained on in a second: {', '.join(speeds)}; seconds of a step "
        f"{difference.told()}.",
        difference.exceeds(),
        f"by the 95 % interval over {plan.rounds} rounds",
    )


def _step_table(plan: Plan, known: dict[str, Network], seconds: dict[str, Any]) -> Table:
    rows = tuple(
        (network.label, Spread.of([1000 * value for value in seconds[name]]).told())
        for name, network in known.items()
    )
    return Table(
        "Time of a training step",
        ("network", "ms"),
        rows,
        f"{plan.batch_size} images, median of {plan.steps} steps of each, which took turns, in "
        f"{clock_name()}; ± the standard deviation of {plan.rounds} rounds.",
    )


STUDY = Study(
    "wide-vs-deep",
    TITLES["wide-vs-deep"],
    "Wide residual networks of few layers and thin ones of many layers, of like size, trained by "
    "the recipe of the wide ones.",
    "Zagoruyko and Komodakis, 2016, arXiv:1605.07146, section 3",
    quick=Plan(
        wide=("wrn_16_2",),
        deep=("cifar_resnet44",),
        epochs=4,
        batch_size=64,
        rounds=3,
        steps=15,
        warmup_epochs=1.0,
    ),
    full=Plan(
        wide=("wrn_16_4", "wrn_28_2"),
        deep=("cifar_resnet110", "cifar_preresnet164"),
        epochs=200,
        batch_size=128,
        rounds=5,
        steps=60,
    ),
    runs=runs,
    report=report,
)
