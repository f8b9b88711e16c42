"""The papers' networks by the papers' recipes on CIFAR-10, against the papers' errors."""

import dataclasses
from dataclasses import dataclass

from keras_resnet import recipes
from keras_resnet.recipes import Recipe
from keras_resnet.variants import find_config
from studies.networks import Network, Results, charts, last, table, trainings
from studies.report import TOO_SMALL, Report, Study, Verdict
from studies.statistics import Decision
from studies.table import TITLES
from studies.training import shortened
from studies.work import Run, Setting

# Points between the error here and the paper's.
_WITHIN = 0.5
# Of ResNet-20, whatever the paper has.
_RESNET20_ERROR = 9.0


@dataclass(frozen=True)
class Target:
    """A network and the error that its paper has for it.

    Args:
        name: As of `keras_resnet.create`.
        recipe: As of `keras_resnet.recipes.get`.
        epochs: Length of the training.
        error: Test error in percent; None for a training that is not the paper's.
        paper: Where it is from.
        warmup_epochs: Of the learning rate.
    """

    name: str
    recipe: str
    epochs: int
    error: float | None
    paper: str
    warmup_epochs: float = 0.0

    @property
    def label(self) -> str:
        name = self.name.replace("cifar_resnet", "ResNet-").replace("wrn_", "WRN-")
        name = name.replace("_sd", ", stochastic depth").replace("_", "-")
        return name if self.error is not None else f"{name}, shortened to {self.epochs} epochs"

    def network(self, setting: Setting) -> Network:
        recipe: Recipe = recipes.get(self.recipe)
        recipe = shortened(recipe, self.epochs, setting.data, warmup_epochs=self.warmup_epochs)
        config = dataclasses.replace(find_config(self.name), zero_init_residual=False)
        return Network(self.name.replace("_", "-"), self.label, config, recipe)


_HE = "He 2015, table 6"
_ZAGORUYKO = "Zagoruyko 2016, table 4"


@dataclass(frozen=True)
class Plan:
    """Which networks, in the order in which they are trained.

    Args:
        targets: The networks.
    """

    targets: tuple[Target, ...]


def runs(plan: Plan, setting: Setting) -> list[Run]:
    return trainings([target.network(setting) for target in plan.targets], setting)


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    networks = [target.network(setting) for target in plan.targets]
    verdicts = [
        _verdict(target, network, setting, results)
        for target, network in zip(plan.targets, networks, strict=True)
    ]
    return Report(
        tuple(verdicts), (table(networks, setting, results),), charts(networks, setting, results)
    )


def _verdict(target: Target, network: Network, setting: Setting, results: Results) -> Verdict:
    error = last(network, setting, results, "test_error")
    seen = f"test error after {target.epochs} epochs, %: {error.told()} ({setting.data.name})."
    if target.error is None:
        return Verdict(
            f"{target.label}: no claim", target.paper, seen, Decision.UNDECIDED, "not the paper's"
        )
    paper = f"{target.paper}: {target.error:.2f} %."
    claim = f"{target.label} reaches the paper's error within {_WITHIN} points"
    # Digits and shortened trainings say nothing of a paper on CIFAR-10.
    if setting.quick or setting.data.side != 32:
        return Verdict(claim, paper, seen, Decision.UNDECIDED, TOO_SMALL)
    most = target.error + _WITHIN
    if target.name == "cifar_resnet20":
        most = min(most, _RESNET20_ERROR)
    return Verdict(
        claim,
        paper,
        seen,
        Decision.SUPPORTED if error.mean <= most else Decision.CONTRADICTED,
        f"supported up to {most:.2f} %, the mean of {setting.seeds_told}",
    )


STUDY = Study(
    "reproduction",
    TITLES["reproduction"],
    "Networks for CIFAR-10 trained on its 50,000 images by the recipe of their paper, with the "
    "error after the last epoch on the 10,000 test images, which nothing was chosen by.",
    "He et al., 2015, arXiv:1512.03385; Zagoruyko and Komodakis, 2016, arXiv:1605.07146; Huang et "
    "al., 2016, arXiv:1603.09382",
    quick=Plan((Target("cifar_resnet20", "he2015_cifar", 5, 8.75, _HE, 1.0),)),
    full=Plan(
        (
            # 64,000 steps of 128.
            Target("cifar_resnet20", "he2015_cifar", 164, 8.75, _HE),
            Target("cifar_resnet56", "he2015_cifar", 164, 6.97, _HE),
            Target("wrn_16_4", "wrn_cifar", 200, 5.02, _ZAGORUYKO),
            Target("cifar_resnet110", "he2015_cifar", 164, 6.61, f"{_HE}, mean of 5", 1.0),
            Target("wrn_16_8", "wrn_cifar", 200, 4.27, _ZAGORUYKO),
            Target("cifar_resnet110_sd", "stochastic_depth_cifar", 164, None, "Huang 2016: 5.23 %"),
            Target("wrn_28_10", "wrn_cifar", 200, 4.00, _ZAGORUYKO),
        )
    ),
    runs=runs,
    report=report,
)
