"""What trained networks do without some of their blocks, or with blocks that changed places."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_resnet import SPECS, recipes
from keras_resnet.analysis import LesionProbe, prune_blocks
from keras_resnet.recipes import Batches
from studies.networks import Network, Results, last, million, of_seeds, trainings
from studies.report import Chart, Line, Report, Study, Table, Verdict
from studies.statistics import Spread, compare
from studies.table import TITLES
from studies.training import Trained, shortened
from studies.work import Desk, Run, Setting

KINDS = {"plain": None, "residual": "A"}


@dataclass(frozen=True)
class Plan:
    """How large.

    Args:
        depth: Number of layers, 6 n + 2.
        epochs: Length of the training.
        batch_size: Images of a step.
        swaps: After how many exchanges of two blocks the error is measured; at most as many as
            there are disjoint pairs of blocks that can be left out.
        keep: Share of the blocks that the pruned network keeps.
        images: That the blocks are ranked by, of those trained on.
        warmup_epochs: Of the learning rate.
    """

    depth: int
    epochs: int
    batch_size: int
    swaps: tuple[int, ...]
    keep: float
    images: int
    warmup_epochs: float = 0.0


def networks(plan: Plan, setting: Setting) -> dict[str, Network]:
    recipe = shortened(
        recipes.get("he2015_cifar"),
        plan.epochs,
        setting.data,
        batch_size=plan.batch_size,
        warmup_epochs=plan.warmup_epochs,
    )
    found = {}
    for kind, shortcut in KINDS.items():
        config = dataclasses.replace(
            SPECS["cifar_resnet20"],
            depths=((plan.depth - 2) // 6,) * 3,
            shortcut=shortcut,
            zero_init_residual=False,
        )
        found[kind] = Network(kind, f"{kind}, {plan.depth} layers", config, recipe)
    return found


def runs(plan: Plan, setting: Setting) -> list[Run]:
    def after(trained: Trained, desk: Desk) -> dict[str, Any]:
        desk.progress(1.0, "trained; blocks are removed and exchanged")
        return lesions(trained.model, trained, plan)

    found = trainings(list(networks(plan, setting).values()), setting, after)
    own = {"swaps": list(plan.swaps), "keep": plan.keep, "images": plan.images}
    return [dataclasses.replace(run, settings={**run.settings, **own}) for run in found]


def lesions(model: keras.Model, trained: Trained, plan: Plan) -> dict[str, Any]:
    """Returns test errors in percent, without single blocks, with exchanged ones, and pruned."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    images, labels = _arrays(trained.evaluation)
    probe = LesionProbe(model, loss)

    def error(without: Any = ()) -> float:
        return 100 * (1 - probe(images, labels, without).accuracy)

    whole = error()
    single = {name: error([name]) for name in probe.blocks}
    ranking = trained.data.train.first(plan.images)
    ranking = trained.batches.evaluation(ranking.images, ranking.labels)
    pruning = prune_blocks(model, plan.keep, *_arrays(ranking), loss)
    pruned = [
        {"blocks": point.blocks, "macs": point.macs, "error": error(pruning.removed[:number])}
        for number, point in enumerate(pruning.curve)
    ]
    kept = [layer.get_weights() for layer in model.layers]
    shuffled = _shuffled(model, probe.blocks, plan.swaps, trained.seed, error)
    for layer, weights in zip(model.layers, kept, strict=True):
        layer.set_weights(weights)
    return {"whole": whole, "single": single, "shuffled": shuffled, "pruned": pruned}


def _arrays(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """All images, normalized, and their class numbers."""
    parts = [batches[number] for number in range(len(batches))]
    images = np.concatenate([images for images, _ in parts])
    return images, np.concatenate([targets.argmax(axis=-1) for _, targets in parts])


def _shuffled(
    model: keras.Model, blocks: tuple[str, ...], swaps: tuple[int, ...], seed: int, error: Any
) -> list[float]:
    """Exchanges pairs of alike blocks, one after the other, and measures on the way.

    No block is exchanged twice: a second exchange could undo the first.
    """
    random = np.random.default_rng(seed)
    stages: dict[str, list[str]] = {}
    for name in blocks:
        stages.setdefault(name.partition("_")[0], []).append(name)
    pairs: list[Any] = []
    for names in stages.values():
        chosen = random.permutation(names)
        pairs += zip(chosen[::2], chosen[1::2], strict=False)
    measured = []
    for number, place in enumerate(random.permutation(len(pairs))[: max(swaps)], start=1):
        first, second = (model.get_layer(str(name)) for name in pairs[place])
        weights = first.get_weights()
        first.set_weights(second.get_weights())
        second.set_weights(weights)
        if number in swaps:
            measured.append(error())
    return measured


def report(plan: Plan, setting: Setting, results: Results) -> Report:
    known = networks(plan, setting)
    own = {kind: of_seeds(network, setting, results) for kind, network in known.items()}
    return Report(
        (_removal_verdict(own, known), _shuffle_verdict(own, plan, known)),
        (_table(plan, known, own, setting, results), _pruning_table(own["residual"])),
        _charts(plan, own),
    )


def _harm(result: dict[str, Any]) -> float:
    """Points that the error rises by without a block, mean over the blocks."""
    return float(np.mean(list(result["single"].values()))) - result["whole"]


def _verdict(claim: str, paper: str, how: str, harms: dict[str, list[float]]) -> Verdict:
    spreads = {kind: Spread.of(values) for kind, values in harms.items()}
    difference = compare(harms["plain"], harms["residual"])
    return Verdict(
        claim,
        paper,
        f"points of test error more {how}: plain {spreads['plain'].told()}, residual "
        f"{spreads['residual'].told()}; difference {difference.told()}.",
        difference.exceeds(),
        "by the 95 % interval over the seeds",
    )


def _removal_verdict(own: dict[str, Any], known: dict[str, Network]) -> Verdict:
    return _verdict(
        "Without one of its blocks a residual network loses far less than a plain one",
        "Veit 2016, 4.1 and figure 3: without one of its layers VGG falls to chance, while almost "
        "any block of ResNet-110 can go and the error hardly changes.",
        "without one block, mean over all that can go",
        {kind: [_harm(result) for result in own[kind]] for kind in known},
    )


def _shuffle_verdict(own: dict[str, Any], plan: Plan, known: dict[str, Network]) -> Verdict:
    return _verdict(
        "Blocks that change places harm a residual network far less than a plain one",
        "Veit 2016, 4.3 and figure 5: the error of ResNet-110 rises smoothly with the number of "
        "blocks that changed places; there is no figure of a plain network.",
        f"after {plan.swaps[0]} exchange{'s' if plan.swaps[0] > 1 else ''} of two blocks",
        {kind: [result["shuffled"][0] - result["whole"] for result in own[kind]] for kind in known},
    )


def _table(
    plan: Plan, known: dict[str, Network], own: dict[str, Any], setting: Setting, results: Results
) -> Table:
    rows = []
    for kind, network in known.items():
        single = [list(result["single"].values()) for result in own[kind]]
        rows.append(
            (
                network.label,
                last(network, setting, results, "loss").told(),
                Spread.of([result["whole"] for result in own[kind]]).told(),
                Spread.of([np.mean(values) for values in single]).told(),
                Spread.of([np.max(values) for values in single]).told(),
                *(
                    Spread.of([result["shuffled"][place] for result in own[kind]]).told()
                    for place in range(len(plan.swaps))
                ),
            )
        )
    return Table(
        "Test error, %",
        (
            "network",
            "training loss",
            "whole",
            "without a block",
            "without the worst",
            *(f"{number} exchanged" for number in plan.swaps),
        ),
        tuple(rows),
        f"Mean ± standard deviation over {setting.seeds_told}. Blocks that change the number "
        "of channels or the size stay.",
    )


def _pruning_table(own: list[dict[str, Any]]) -> Table:
    rows = []
    for place, point in enumerate(own[0]["pruned"]):
        macs = Spread.of([result["pruned"][place]["macs"] for result in own])
        errors = Spread.of([result["pruned"][place]["error"] for result in own])
        rows.append((str(point["blocks"]), million(round(macs.mean)), errors.told()))
    return Table(
        "The residual network pruned by prune_blocks, without any training afterwards",
        ("blocks", "multiply-adds", "test error, %"),
        tuple(rows),
        "The blocks are ranked by the loss on training images; which go differs between the seeds, "
        "and so do the multiply-adds, of which this is the mean.",
    )


def _charts(plan: Plan, own: dict[str, Any]) -> tuple[Chart, ...]:
    kinds = list(enumerate(own.items()))
    return (
        Chart(
            "single",
            "Without one block",
            "block, of those that can go",
            "test error, %",
            tuple(
                Line(
                    kind,
                    range(1, 1 + len(found[0]["single"])),
                    [list(result["single"].values()) for result in found],
                    color=number,
                )
                for number, (kind, found) in kinds
            ),
            points=True,
        ),
        Chart(
            "shuffled",
            "With blocks exchanged",
            "exchanges of two blocks of a stage",
            "test error, %",
            tuple(
                Line(
                    kind,
                    (0, *plan.swaps),
                    [[result["whole"], *result["shuffled"]] for result in found],
                    color=number,
                )
                for number, (kind, found) in kinds
            ),
            points=True,
        ),
        Chart(
            "pruned",
            "Pruned: error against cost",
            "multiply-adds of an image, millions",
            "test error, %",
            tuple(
                Line(
                    f"residual, seed {number}",
                    [point["macs"] / 1e6 for point in result["pruned"]],
                    [[point["error"] for point in result["pruned"]]],
                    color=number,
                )
                for number, result in enumerate(own["residual"])
            ),
            points=True,
        ),
    )


STUDY = Study(
    "lesion",
    TITLES["lesion"],
    "A plain and a residual network are trained alike; at test time single blocks are left out, "
    "pairs of blocks of a stage are exchanged, and the blocks that matter least are removed by "
    "keras_resnet.analysis.prune_blocks. Nothing is trained afterwards.",
    "Veit et al., 2016, arXiv:1605.06431, section 4",
    quick=Plan(
        depth=20, epochs=8, batch_size=64, swaps=(1, 2, 3), keep=0.5, images=512, warmup_epochs=1.0
    ),
    full=Plan(depth=110, epochs=164, batch_size=128, swaps=(1, 2, 4, 8, 16), keep=0.4, images=5000),
    runs=runs,
    report=report,
)
