"""Networks whose blocks are skipped at random while they are trained: the time and the error."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_resnet import SPECS, recipes
from studies.data import Data
from studies.networks import Network, Results, charts, last, table, trainings
from studies.report import Report, Study, Table, Verdict, unless_quick
from studies.statistics import Decision, Spread, compare
from studies.table import TITLES
from studies.timing import clock_name, step_seconds
from studies.training import Training, build, shortened, train
from studies.work import Desk, Run, Setting

_STEPS_RUN = "steps"
_THOUSAND_RUN = "thousand"
_CHANCE = 0.9


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        depth: Number of layers, 6 n + 2.
        epochs: Length of the training.
        batch_size: Images of a step.
        rounds: How often the time is measured; the spread is that of the rounds.
        steps: That are timed in each round.
        thousand_epochs: Epochs of a network of 1,202 layers; 0 for none.
        warmup_epochs: Of the learning rate.
    """

    depth: int
    epochs: int
    batch_size: int
    rounds: int
    steps: int
    thousand_epochs: int = 0
    warmup_epochs: float = 0.0

    @property
    def blocks(self) -> int:
        return (self.depth - 2) // 2

    @property
    def rate(self) -> float:
        """That of the last block (Huang et al., section 4: it survives with 0.5)."""
        return recipes.get("stochastic_depth_cifar").drop_path_rate

    @property
    def survival(self) -> float:
        """Expected share of the blocks that a step trains."""
        return 1 - self.rate * (self.blocks + 1) / (2 * self.blocks)


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("stochastic_depth_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    config = dataclasses.replace(
        SPECS["cifar_resnet110_sd"],
        depths=((plan.depth - 2) // 6,) * 3,
        drop_path_rate=plan.rate,
        zero_init_residual=False,
    )
    constant = dataclasses.replace(config, drop_path_rate=0.0)
    return {
        "constant": Network("constant", f"{plan.depth} layers, constant depth", constant, recipe),
        "stochastic": Network("stochastic", f"{plan.depth} layers, stochastic", config, recipe),
    }


def runs(plan: Plan, setting: Setting) -> list[Run]:
    known = networks(plan, setting)
    found = trainings(list(known.values()), setting)
    settings = {
        "configs": [network.config.to_dict() for network in known.values()],
        "batch": plan.batch_size,
        "rounds": plan.rounds,
        "steps": plan.steps,
    }
    steps = Run(_STEPS_RUN, settings, _timer(plan, known), sum(run.cost for run in found) / 3)
    return [steps, *found, *_thousand(plan, known, setting)]


def _timer(plan: Plan, known: dict[str, Network]) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        models = [
            build(network.config, data.shape, data.classes, seed=0) for network in known.values()
        ]
        for network, model in zip(known.values(), models, strict=True):
            network.recipe.compile(model, steps_per_epoch=1000)
        measured: dict[str, list[float]] = {name: [] for name in known}
        for number in range(1, plan.rounds + 1):
            seconds = step_seconds(models, data, plan.batch_size, plan.steps)
            for name, own in zip(known, seconds, strict=True):
                # The mean: how many blocks are skipped differs from step to step.
                measured[name].append(float(np.mean(own)))
            desk.progress(number / plan.rounds, f"round {number} of {plan.rounds} timed")
        return measured

    return perform


def _thousand(plan: Plan, known: dict[str, Network], setting: Setting) -> list[Run]:
    if not plan.thousand_epochs:
        return []
    config = dataclasses.replace(SPECS["cifar_resnet1202_sd"], zero_init_residual=False)
    recipe = dataclasses.replace(known["stochastic"].recipe, epochs=plan.thousand_epochs)
    training = Training(config, recipe, seed=0)
    cost = plan.thousand_epochs * Network("", "", config, recipe).cost(setting.data).macs

    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        return dict(train(training, data, desk).curves)

    return [Run(_THOUSAND_RUN, training.settings, perform, cost)]


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    verdicts = [
        _time_verdict(plan, results[_STEPS_RUN]),
        _error_verdict(known, setting, results),
        _thousand_verdict(plan, results),
    ]
    return Report(
        tuple(verdicts),
        (_step_table(plan, known, results), table(list(known.values()), setting, results)),
        charts(list(known.values()), setting, results),
    )


def _time_verdict(plan: Plan, seconds: dict[str, list[float]]) -> Verdict:
    saved = compare(seconds["constant"], seconds["stochastic"])
    share = 1 - np.mean(seconds["stochastic"]) / np.mean(seconds["constant"])
    return Verdict(
        "Skipped blocks save training time",
        "Huang 2016, 4 and table 2: about 25 % with p_L = 0.5 on a GPU.",
        f"{100 * share:.1f} % of the {clock_name()} of a step of {plan.depth} layers are saved; "
        f"{100 * (1 - plan.survival):.1f} % of the blocks are skipped on average. A step takes "
        f"{1000 * np.mean(seconds['constant']):.3g} ms with constant depth; difference in ms "
        f"{_milliseconds(saved)}.",
        saved.exceeds(),
        f"by the 95 % interval over {plan.rounds} rounds of {plan.steps} steps that took turns",
    )


def _milliseconds(comparison: Any) -> str:
    values = (1000 * part for part in dataclasses.astuple(comparison))
    return type(comparison)(*values).told(3)


def _error_verdict(known: dict[str, Network], setting: Setting, results: Results) -> Verdict:
    errors = {
        name: last(network, setting, results, "test_error") for name, network in known.items()
    }
    difference = compare(errors["constant"].values, errors["stochastic"].values)
    return Verdict(
        "With stochastic depth the test error is lower",
        "Huang 2016, table 1: 110 layers, CIFAR-10: 5.23 % against 6.41 %, in 500 epochs.",
        f"test error, %: constant {errors['constant'].told()}, stochastic "
        f"{errors['stochastic'].told()}; difference {difference.told()}.",
        **unless_quick(setting, difference.exceeds(), "by the 95 % interval over the seeds"),
    )


def _thousand_verdict(plan: Plan, results: Results) -> Verdict:
    claim = "A network of more than a thousand layers can be trained"
    paper = "Huang 2016, 4: 1,202 layers reach 4.91 % on CIFAR-10."
    if _THOUSAND_RUN not in results:
        seen = "It was not run."
        return Verdict(claim, paper, seen, Decision.UNDECIDED, "The quick form has none.")
    errors = results[_THOUSAND_RUN]["test_error"]
    best = min(errors) / 100
    return Verdict(
        claim,
        paper,
        f"After {len(errors)} epochs, one seed: training loss "
        f"{results[_THOUSAND_RUN]['loss'][-1]:.3g}, lowest test error {100 * best:.1f} %.",
        # Of ten classes; a network that learns nothing stays there.
        Decision.SUPPORTED if best < _CHANCE / 2 else Decision.UNDECIDED,
        "supported if the test error falls below half of chance's 90 %",
    )


def _step_table(plan: Plan, known: dict[str, Network], results: Results) -> Table:
    rows = tuple(
        (
            network.label,
            Spread.of([1000 * value for value in results[_STEPS_RUN][name]]).told(),
        )
        for name, network in known.items()
    )
    return Table(
        "Time of a training step",
        ("network", "ms"),
        rows,
        f"{plan.batch_size} images, mean of {plan.steps} steps of each, which took turns, in "
        f"{clock_name()}; ± the standard deviation of {plan.rounds} rounds.",
    )


STUDY = Study(
    "stochastic-depth",
    TITLES["stochastic-depth"],
    "The same network with constant depth and with stochastic depth, one draw for each block and "
    "mini-batch, by which the conditional on the device skips the work of a block. The time is that "
    "of training steps of both that take turns.",
    "Huang et al., 2016, arXiv:1603.09382, sections 3 and 4",
    quick=Plan(depth=56, epochs=3, batch_size=64, rounds=3, steps=25, warmup_epochs=1.0),
    full=Plan(depth=110, epochs=500, batch_size=128, rounds=5, steps=60, thousand_epochs=5),
    runs=runs,
    report=report,
)
