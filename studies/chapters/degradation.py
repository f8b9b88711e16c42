"""Deeper plain networks train worse, and the shortcut repairs it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_resnet import SPECS, ResNetConfig, recipes
from studies.networks import Network, Results, curves, last, million, trainings
from studies.report import Report, Study, Table, Verdict, unless_quick
from studies.statistics import Decision, compare
from studies.table import TITLES
from studies.training import shortened
from studies.work import Run, Setting

_PAPERS = {
    "cifar": "He 2015, figure 6 and table 6: on CIFAR-10 plain-56 has a higher training and test "
    "error than plain-20; ResNet-20 has 8.75 % test error, ResNet-56 6.97 %.",
    "imagenet": "He 2015, table 2, ImageNet top-1 error: plain-18 27.94 %, plain-34 28.54 %; "
    "ResNet-18 27.88 %, ResNet-34 25.03 %.",
}


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        depths: The lesser and the greater number of layers, 6 n + 2.
        epochs: Length of the training.
        batch_size: Images of a step.
        warmup_epochs: Of the learning rate.
        imagenet: Whether 18 and 34 layers of ImageNet's shape are trained, too.
    """

    depths: tuple[int, int]
    epochs: int
    batch_size: int = 128
    warmup_epochs: float = 0.0
    imagenet: bool = False


def _configs(plan: Plan) -> dict[str, ResNetConfig]:
    found = {}
    for kind, shortcut in (("plain", None), ("resnet", "A")):
        for depth in plan.depths:
            found[f"{kind}{depth}"] = dataclasses.replace(
                SPECS["cifar_resnet20"],
                depths=((depth - 2) // 6,) * 3,
                shortcut=shortcut,
                zero_init_residual=False,
            )
    if plan.imagenet:
        for kind, shortcut in (("plain", None), ("resnet", "B")):
            for depth in (18, 34):
                # Four stages as for ImageNet, behind a stem that leaves small images their size.
                found[f"{kind}{depth}"] = dataclasses.replace(
                    SPECS[f"resnet{depth}"],
                    shortcut=shortcut,
                    stem="cifar",
                    stem_pool=None,
                    zero_init_residual=False,
                )
    return found


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("he2015_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    return {
        name: Network(
            name, name.replace("plain", "plain-").replace("resnet", "ResNet-"), own, recipe
        )
        for name, own in _configs(plan).items()
    }


def runs(plan: Plan, setting: Setting) -> list[Run]:
    return trainings(list(networks(plan, setting).values()), setting)


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    pairs = [(plan.depths, "cifar")] + [((18, 34), "imagenet")] * plan.imagenet
    verdicts: list[Verdict] = []
    for (shallow, deep), paper in pairs:
        verdicts += _verdicts(known, shallow, deep, _PAPERS[paper], setting, results)
    rows = tuple(
        (
            network.label,
            million(network.cost(setting.data).trainable),
            *(
                last(network, setting, results, curve).told()
                for curve in ("loss", "error", "test_error")
            ),
        )
        for network in known.values()
    )
    table = Table(
        f"After {plan.epochs} epochs",
        ("network", "parameters", "training loss", "training error, %", "test error, %"),
        rows,
        f"Mean ± standard deviation over {setting.seeds_told}.",
    )
    charts = []
    for (shallow, deep), _ in pairs:
        for kind in ("plain", "resnet"):
            pair = [known[f"{kind}{depth}"] for depth in (shallow, deep)]
            for curve, label in (("loss", "training loss, nats"), ("test_error", "test error, %")):
                title = f"{pair[0].label} and {pair[1].label}: {label.partition(',')[0]}"
                name = f"{kind}{shallow}-{deep}-{curve}"
                log = curve == "loss"
                charts.append(
                    curves(name, title, label, curve, pair, setting, results, logarithmic=log)
                )
    return Report(tuple(verdicts), (table,), tuple(charts))


def _verdicts(
    known: dict[str, Network],
    shallow: int,
    deep: int,
    paper: str,
    setting: Setting,
    results: Results,
) -> list[Verdict]:
    def ends(kind: str, depth: int, curve: str) -> np.ndarray:
        return np.array(last(known[f"{kind}{depth}"], setting, results, curve).values)

    def told(kind: str, curve: str) -> str:
        shown = [
            f"{known[f'{kind}{depth}'].label} "
            f"{last(known[f'{kind}{depth}'], setting, results, curve).told()}"
            for depth in (shallow, deep)
        ]
        return ", ".join(shown)

    plain = compare(ends("plain", deep, "loss"), ends("plain", shallow, "loss"))
    gaps = {
        kind: ends(kind, deep, "loss") - ends(kind, shallow, "loss") for kind in ("plain", "resnet")
    }
    repaired = compare(gaps["plain"], gaps["resnet"])
    residual = compare(ends("resnet", shallow, "loss"), ends("resnet", deep, "loss"))
    tested = {
        "plain": compare(ends("plain", deep, "test_error"), ends("plain", shallow, "test_error")),
        "resnet": compare(
            ends("resnet", shallow, "test_error"), ends("resnet", deep, "test_error")
        ),
    }
    both = [tested["plain"].exceeds(), tested["resnet"].exceeds()]
    error_decision = (
        Decision.SUPPORTED
        if set(both) == {Decision.SUPPORTED}
        else Decision.CONTRADICTED
        if Decision.CONTRADICTED in both
        else Decision.UNDECIDED
    )
    by_interval = "by the 95 % interval over the seeds"
    return [
        Verdict(
            f"A plain network of {deep} layers trains worse than one of {shallow}",
            paper,
            f"training loss: {told('plain', 'loss')}; difference {plain.told()}.",
            plain.exceeds(),
            by_interval,
        ),
        Verdict(
            f"Shortcuts repair it: {deep} layers lose less against {shallow} than without",
            paper,
            f"training loss of {deep} layers less that of {shallow}: plain {gaps['plain'].mean():.3g}, "
            f"residual {gaps['resnet'].mean():.3g}; difference {repaired.told()}.",
            repaired.exceeds(),
            by_interval,
        ),
        Verdict(
            f"A residual network of {deep} layers trains better than one of {shallow}",
            paper,
            f"training loss: {told('resnet', 'loss')}; {shallow} less {deep} layers "
            f"{residual.told()}.",
            **unless_quick(setting, residual.exceeds(), by_interval),
        ),
        Verdict(
            "The test errors are in the same order",
            paper,
            f"test error, %: {told('plain', 'test_error')}; {told('resnet', 'test_error')}.",
            **unless_quick(setting, error_decision, "by both 95 % intervals over the seeds"),
        ),
    ]


STUDY = Study(
    "degradation",
    TITLES["degradation"],
    "Plain networks and residual networks of two depths, of the same widths and trained alike, with "
    "batch norm throughout. What is looked at first is the training loss: that the deeper plain "
    "network has a higher one cannot be overfitting.",
    "He et al., 2015, arXiv:1512.03385, sections 1, 4.1 and 4.2",
    quick=Plan(depths=(20, 56), epochs=8, batch_size=64, warmup_epochs=1.0),
    # 64,000 steps of 128 on 50,000 images.
    full=Plan(depths=(20, 56), epochs=164, imagenet=True),
    runs=runs,
    report=report,
)
