"""The kinds of shortcuts, and the orders of convolution, batch norm and ReLU."""

import dataclasses
from dataclasses import dataclass

from keras_resnet import SPECS, recipes
from studies.networks import Network, Results, charts, last, table, trainings
from studies.report import Report, Study, Verdict, unless_quick
from studies.statistics import Decision, all_of, compare
from studies.table import TITLES
from studies.training import shortened
from studies.work import Run, Setting

OPTIONS = {
    "A": "A: subsampled, zero channels",
    "B": "B: projections where it changes",
    "C": "C: projections everywhere",
    "D": "D: mean, then projection",
}
ORDERS = {
    "original": "original",
    "bn_after_addition": "BN after addition",
    "relu_before_addition": "ReLU before addition",
    "relu_only_preactivation": "ReLU-only pre-activation",
    "full_preactivation": "full pre-activation",
}
# The network that both comparisons share.
_BASE = "A"


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


def networks(plan: Plan, setting: Setting) -> tuple[dict[str, Network], dict[str, Network]]:
    """Returns the networks by option and by order; `"A"` and `"original"` are the same one."""
    recipe = shortened(
        recipes.get("he2015_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    base = dataclasses.replace(
        SPECS["cifar_resnet20"],
        depths=((plan.depth - 2) // 6,) * 3,
        shortcut=_BASE,
        zero_init_residual=False,
    )
    options = {
        option: Network(
            f"shortcut{option}", label, dataclasses.replace(base, shortcut=option), recipe
        )
        for option, label in OPTIONS.items()
    }
    orders = {
        order: Network(order, label, dataclasses.replace(base, order=order), recipe)
        for order, label in ORDERS.items()
    }
    shared = dataclasses.replace(options[_BASE], label=ORDERS["original"])
    return options, {**orders, "original": shared}


def runs(plan: Plan, setting: Setting) -> list[Run]:
    options, orders = networks(plan, setting)
    others = [network for order, network in orders.items() if order != "original"]
    return trainings([*options.values(), *others], setting)


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    options, orders = networks(plan, setting)
    tables = [
        dataclasses.replace(table(list(known.values()), setting, results), title=title)
        for title, known in (("Shortcuts", options), ("Orders of activation", orders))
    ]
    drawn = [
        dataclasses.replace(chart, name=f"{name}-{chart.name}", title=f"{title}: {chart.title}")
        for name, title, known in (
            ("shortcuts", "Shortcuts", options),
            ("orders", "Orders", orders),
        )
        for chart in charts(list(known.values()), setting, results)
    ]
    return Report(
        (
            _shortcut_verdict(options, setting, results),
            _order_verdict(orders, setting, results),
        ),
        tuple(tables),
        tuple(drawn),
    )


def _errors(known: dict[str, Network], setting: Setting, results: Results) -> dict[str, tuple]:
    return {
        name: last(network, setting, results, "test_error").values
        for name, network in known.items()
    }


def _told(known: dict[str, Network], setting: Setting, results: Results) -> str:
    shown = [
        f"{network.label.partition(':')[0]} {last(network, setting, results, 'test_error').told()}"
        for network in known.values()
    ]
    return ", ".join(shown)


def _shortcut_verdict(known: dict[str, Network], setting: Setting, results: Results) -> Verdict:
    errors = _errors(known, setting, results)
    steps = [compare(errors[worse], errors[better]) for worse, better in ("AB", "BC", "BD")]
    told = "; ".join(
        f"{pair} {comparison.told()}"
        for pair, comparison in zip(("A less B", "B less C", "B less D"), steps, strict=True)
    )
    return Verdict(
        "Projections are slightly better than zero channels, more of them slightly better still, "
        "and a mean before them helps",
        "He 2015, table 3, ImageNet top-1 error of 34 layers: A 25.03 %, B 24.52 %, C 24.19 %. "
        "He 2019 (bag of tricks), ResNet-50 top-1 accuracy: C 76.87 %, D 77.16 % (stems and strides "
        "alike).",
        f"test error, %: {_told(known, setting, results)}. {told}.",
        **unless_quick(
            setting,
            all_of([step.exceeds() for step in steps]),
            "by the 95 % intervals of all three differences over the seeds",
        ),
    )


def _order_verdict(known: dict[str, Network], setting: Setting, results: Results) -> Verdict:
    errors = _errors(known, setting, results)
    better = compare(errors["original"], errors["full_preactivation"])
    after = compare(errors["bn_after_addition"], errors["original"])
    decisions: list[Decision] = [better.exceeds(), after.exceeds()]
    return Verdict(
        "Full pre-activation is the best of the five orders, and batch norm after the addition is "
        "worse than the original",
        "He 2016, table 2, CIFAR-10, 110 layers: original 6.61 %, full pre-activation 6.37 %; the "
        "other orders are no better than the original.",
        f"test error, %: {_told(known, setting, results)}. Original less full pre-activation "
        f"{better.told()}; batch norm after the addition less original {after.told()}.",
        **unless_quick(
            setting, all_of(decisions), "by the 95 % intervals of both differences over the seeds"
        ),
    )


STUDY = Study(
    "shortcuts",
    TITLES["shortcuts"],
    "Four kinds of shortcuts where a block changes the number of channels or the size, and the five "
    "orders of convolution, batch norm and ReLU, in networks that are alike otherwise.",
    "He et al., 2015, arXiv:1512.03385, 4.1; He et al., 2016, arXiv:1603.05027, section 4; "
    "He et al., 2019, arXiv:1812.01187",
    quick=Plan(depth=14, epochs=5, batch_size=64, warmup_epochs=1.0),
    full=Plan(depth=110, epochs=164, warmup_epochs=1.0),
    runs=runs,
    report=report,
)
