"""Where the gradient goes in plain, residual and pre-activation networks of many depths."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_resnet import SPECS, ResNetConfig, recipes
from keras_resnet.analysis import GradientFlow, GradientProbe
from studies.data import Data
from studies.networks import Results
from studies.report import Chart, Line, Report, Study, Table, Verdict
from studies.statistics import Decision, Spread, all_of, compare
from studies.table import TITLES
from studies.training import Training, build, shortened, train
from studies.work import Desk, Run, Setting

KINDS = {
    "plain": {"shortcut": None},
    "residual": {},
    "preactivation": {"order": "full_preactivation"},
}
_LABELS = {"plain": "plain", "residual": "residual", "preactivation": "pre-activation"}
# Of float32: what a gradient that is passed on unchanged may differ by.
_EXACT = 1e-4


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        depths: Numbers of layers, 6 n + 2.
        trained_depths: Those that are measured after a training, too.
        epochs: Length of it.
        batch: Images that the gradient is measured on.
    """

    depths: tuple[int, ...]
    trained_depths: tuple[int, ...]
    epochs: int
    batch: int


def network(kind: str, depth: int) -> ResNetConfig:
    """Returns a network for CIFAR as the papers had it: no gamma starts at zero."""
    return dataclasses.replace(
        SPECS["cifar_resnet20"],
        depths=((depth - 2) // 6,) * 3,
        zero_init_residual=False,
        **KINDS[kind],
    )


def _name(kind: str, depth: int, seed: int) -> str:
    return f"{kind}{depth}-seed{seed}"


def runs(plan: Plan, setting: Setting) -> list[Run]:
    recipe = shortened(
        recipes.get("he2015_cifar"), plan.epochs, setting.data, batch_size=64, warmup_epochs=1.0
    )
    found = []
    for depth in plan.depths:
        trains = depth in plan.trained_depths
        for kind in KINDS:
            for seed in setting.seeds:
                training = Training(network(kind, depth), recipe, seed)
                settings = {**training.settings, "trains": trains, "batch": plan.batch}
                cost = depth * (1.0 + 3 * plan.epochs * trains)
                perform = _performer(training, plan.batch, trains)
                found.append(Run(_name(kind, depth, seed), settings, perform, cost))
    return found


def _performer(training: Training, batch: int, trains: bool) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        model = build(training.config, data.shape, data.classes, training.seed)
        images, labels = _normalized(data, batch)
        probe = GradientProbe(model, _loss)
        result = {"start": _figures(probe(images, labels))}
        desk.progress(0.2, "measured at the start")
        if trains:
            trained = train(training, data, desk)
            probe = GradientProbe(trained.model, _loss)
            result["trained"] = _figures(probe(images, labels))
        # The last measurement, as it changes the weights.
        result["zeroed"] = zeroed(model, images)
        return result

    return perform


def _loss(labels: Any, logits: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _normalized(data: Data, batch: int) -> tuple[np.ndarray, np.ndarray]:
    images = data.train.images.astype("float32")
    mean, deviation = images.mean((0, 1, 2)), np.maximum(images.std((0, 1, 2)), 1.0)
    return (images[:batch] - mean) / deviation, data.train.labels[:batch]


def _figures(flow: GradientFlow) -> dict[str, Any]:
    return {
        "norms": [block.norm for block in flow.blocks],
        "shortcuts": [block.shortcut for block in flow.blocks],
        "shares": [block.shortcut_share for block in flow.blocks],
        "passed": _passed(flow),
    }


def _passed(flow: GradientFlow) -> list[float]:
    """What share of the gradient behind a block its identity hands on to its input.

    Behind a block is the input of the next one of the same stage. The identity hands on all of it,
    unless a ReLU comes after the addition.
    """
    return [
        block.shortcut / after.norm
        for block, after in zip(flow.blocks, flow.blocks[1:], strict=False)
        if block.stage == after.stage and after.norm and not _opens(flow, block)
    ]


def _opens(flow: GradientFlow, block: Any) -> bool:
    """Whether a block is the first of its stage, whose shortcut may be no identity."""
    return block is next(other for other in flow.blocks if other.stage == block.stage)


def zeroed(model: keras.Model, images: np.ndarray) -> dict[str, float]:
    """Sets the convolutions of the first stage to zero, and measures what then passes through.

    Returns:
        `change`: the greatest change between the input of the stage and its output, as a share of
        the greatest input; `left`: the norm of the output as a share of that of the input.
    """
    blocks = [layer for layer in model.layers if layer.name.startswith("stage1_block")]
    for block in blocks:
        for variable in block.trainable_variables:
            if variable.path.endswith("/kernel") and "/shortcut/" not in variable.path:
                variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    signal = keras.Model(model.input, [blocks[0].input, blocks[-1].output])
    before, after = (keras.ops.convert_to_numpy(x) for x in signal(images, training=True))
    return {
        "change": float(np.abs(after - before).max() / np.abs(before).max()),
        "left": float(np.linalg.norm(after) / np.linalg.norm(before)),
    }


def growth(figures: dict[str, Any]) -> float:
    """Powers of ten that the gradient grows by from the last block to the first."""
    return math.log10(figures["norms"][0] / figures["norms"][-1])


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    def of(kind: str, depth: int, when: str = "start") -> list[dict[str, Any]]:
        found = [results[_name(kind, depth, seed)] for seed in setting.seeds]
        return [result[when] for result in found]

    deepest = max(plan.depths)
    return Report(
        (
            _growth_verdict(of, deepest),
            _identity_verdict(of, deepest),
            _zero_verdict(of, deepest),
        ),
        (_table(plan, of),),
        _charts(plan, of),
    )


def _growth_verdict(of: Any, deepest: int) -> Verdict:
    powers = {kind: [abs(growth(found)) for found in of(kind, deepest)] for kind in KINDS}
    spreads = {kind: Spread.of(values) for kind, values in powers.items()}
    against = {
        kind: compare(powers["plain"], powers[kind]) for kind in ("residual", "preactivation")
    }
    return Verdict(
        "At the start of a training the gradient of a plain network changes by orders of magnitude "
        "from its last block to its first; with shortcuts it changes far less",
        "He 2016, equation 5: the gradient of a block is that of a later block plus a rest, so it "
        "is unlikely to vanish. He 2015, 4.1: batch norm keeps plain nets' gradients from "
        "vanishing. Neither gives figures.",
        f"{deepest} layers at the start: from the last block to the first the gradient changes by "
        + ", ".join(f"10^({spreads[kind].told(2)}) ({_LABELS[kind]})" for kind in KINDS)
        + ". Plain less residual, in powers of ten: "
        + f"{against['residual'].told()}; less pre-activation: {against['preactivation'].told()}.",
        all_of([comparison.exceeds() for comparison in against.values()]),
        "by the 95 % intervals of both differences over the seeds",
    )


def _identity_verdict(of: Any, deepest: int) -> Verdict:
    exact = [share for found in of("preactivation", deepest) for share in found["passed"]]
    worst = max((abs(share - 1) for share in exact), default=math.nan)
    masked = [share for found in of("residual", deepest) for share in found["passed"]]
    return Verdict(
        "dE/dx_l holds the gradient of the next block unchanged, plus the branch's part",
        "He 2016, equation 5: dE/dx_l = dE/dx_L (1 + d/dx_l Σ F); a ReLU after the addition takes "
        "the 1 away.",
        f"{deepest} layers, pre-activation: {len(exact)} identities hand on the gradient with a "
        f"relative deviation of at most {worst:.1e}. With ReLU after the addition they hand on "
        f"{100 * float(np.mean(masked)):.1f} % of its norm on average; a plain net has none.",
        Decision.SUPPORTED if worst < _EXACT else Decision.CONTRADICTED,
        f"measured in every block and seed; float32 allows {_EXACT:g}",
    )


def _zero_verdict(of: Any, deepest: int) -> Verdict:
    change = {kind: max(found["change"] for found in of(kind, deepest, "zeroed")) for kind in KINDS}
    left = max(found["left"] for found in of("plain", deepest, "zeroed"))
    unchanged = max(change["residual"], change["preactivation"]) < _EXACT
    return Verdict(
        "With all weights of its branches at zero a residual network passes the signal unchanged",
        "He 2015, 3.1: if identity is optimal, it is easy to push the residual to zero.",
        f"First stage of {deepest} layers: greatest change {change['residual']:.1e} of the signal "
        f"(residual), {change['preactivation']:.1e} (pre-activation); a plain stage leaves "
        f"{100 * left:.2g} % of it.",
        Decision.SUPPORTED if unchanged else Decision.CONTRADICTED,
        "measured in every seed",
    )


def _table(plan: Plan, of: Any) -> Table:
    rows = []
    for depth in plan.depths:
        for kind in KINDS:
            start = of(kind, depth)
            trained = of(kind, depth, "trained") if depth in plan.trained_depths else []
            shares = [
                Spread.of([np.mean(found["shares"]) for found in measured]).told(2)
                if measured and kind != "plain"
                else "–"
                for measured in (start, trained)
            ]
            rows.append(
                (
                    f"{_LABELS[kind]}-{depth}",
                    Spread.of([growth(found) for found in start]).told(2),
                    Spread.of([growth(found) for found in trained]).told(2) if trained else "–",
                    *shares,
                )
            )
    return Table(
        "The gradient at the inputs of the blocks",
        (
            "network",
            "growth at the start",
            f"after {plan.epochs} epochs",
            "shortcut's share at the start",
            "then",
        ),
        tuple(rows),
        "Growth: log10 of the norm at the first block less that at the last. Share: the shortcut's "
        "norm by the sum of the shortcut's and the branch's, mean over the blocks.",
    )


def _charts(plan: Plan, of: Any) -> tuple[Chart, ...]:
    found = []
    for when, depths in (("start", plan.depths), ("trained", plan.trained_depths)):
        for depth in depths:
            lines = [
                Line(_LABELS[kind], range(1, 1 + len(measured[0]["norms"])), seeds)
                for kind in KINDS
                if (measured := of(kind, depth, when))
                and (seeds := [result["norms"] for result in measured])
            ]
            title = "at the start" if when == "start" else f"after {plan.epochs} epochs"
            found.append(
                Chart(
                    f"{when}{depth}",
                    f"{depth} layers, {title}",
                    "block, from the input",
                    "norm of the gradient at its input",
                    tuple(lines),
                    logarithmic=True,
                )
            )
    return tuple(found)


STUDY = Study(
    "gradient-flow",
    TITLES["gradient-flow"],
    "The gradient of the loss at the input of every block, in plain networks, residual ones and "
    "residual ones with pre-activation, before and after some training; split exactly into what "
    "comes through the shortcut and what comes through the branch. All have batch norm, and no "
    "gamma starts at zero.",
    "He et al., 2015, arXiv:1512.03385, 3.1 and 4.1; He et al., 2016, arXiv:1603.05027, section 2",
    quick=Plan(depths=(20, 56, 110), trained_depths=(20, 56), epochs=2, batch=64),
    full=Plan(depths=(20, 56, 110, 200), trained_depths=(20, 56, 110), epochs=10, batch=128),
    runs=runs,
    report=report,
)
