"""What most studies are: networks with names, each trained with every seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_resnet import ResNetConfig
from keras_resnet.analysis import Count, count
from keras_resnet.recipes import Recipe
from studies.data import Data
from studies.report import Chart, Line, Table
from studies.statistics import Spread
from studies.training import Trained, Training, train
from studies.work import Desk, Run, Setting

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Network:
    """A network of a study.

    Args:
        name: Of its records, such as `plain56`.
        label: On the page.
        config: What it is.
        recipe: How it is trained.
    """

    name: str
    label: str
    config: ResNetConfig
    recipe: Recipe

    def cost(self, data: Data) -> Count:
        """Returns its size and the multiplications of an image of these data."""
        return count(self.config, data.shape, classes=data.classes)

    def run_name(self, seed: int) -> str:
        return f"{self.name}-seed{seed}"


def trainings(networks: Sequence[Network], setting: Setting, after: Any = None) -> list[Run]:
    """Returns one run for each network and seed; those of a network come one after the other.

    Args:
        networks: To train.
        setting: With which seeds and images.
        after: Function of a `Trained` and the `Desk`, whose figures join the curves in the result.
    """
    runs = []
    for network in networks:
        cost = network.recipe.epochs * network.cost(setting.data).macs
        for seed in setting.seeds:
            training = Training(network.config, network.recipe, seed)
            runs.append(
                Run(network.run_name(seed), training.settings, _performer(training, after), cost)
            )
    return runs


def _performer(training: Training, after: Any) -> Any:
    def perform(data: Data, desk: Desk) -> dict[str, Any]:
        trained: Trained = train(training, data, desk)
        return {**trained.curves, **(after(trained, desk) if after else {})}

    return perform


def of_seeds(network: Network, setting: Setting, results: Results) -> list[dict[str, Any]]:
    """Returns the results of a network, one for each seed."""
    return [results[network.run_name(seed)] for seed in setting.seeds]


def last(network: Network, setting: Setting, results: Results, curve: str) -> Spread:
    """Returns where a curve ends, over the seeds."""
    return Spread.of([result[curve][-1] for result in of_seeds(network, setting, results)])


def curves(
    name: str,
    title: str,
    y_label: str,
    curve: str,
    networks: Sequence[Network],
    setting: Setting,
    results: Results,
    **options: Any,
) -> Chart:
    """Returns the chart of a curve of each network over the epochs."""
    lines = []
    for network in networks:
        seeds = [result[curve] for result in of_seeds(network, setting, results)]
        lines.append(Line(network.label, range(1, len(seeds[0]) + 1), seeds))
    return Chart(name, title, "epoch", y_label, tuple(lines), **options)


def table(networks: Sequence[Network], setting: Setting, results: Results, note: str = "") -> Table:
    """Returns size, cost and the ends of the curves of each network."""
    rows = []
    for network in networks:
        cost = network.cost(setting.data)
        ends = [last(network, setting, results, curve) for curve in ("loss", "test_error")]
        seconds = epoch_seconds(network, setting, results)
        rows.append(
            (
                network.label,
                million(cost.trainable),
                million(cost.macs),
                *(end.told() for end in ends),
                seconds.told(2),
            )
        )
    epochs = networks[0].recipe.epochs
    return Table(
        f"Trained here for {epochs} epochs",
        (
            "network",
            "parameters",
            "multiply-adds",
            "training loss",
            "test error, %",
            "seconds per epoch",
        ),
        tuple(rows),
        f"Mean ± standard deviation over {setting.seeds_told}; seconds of the clock, with the "
        f"test, median of an epoch. {note}".strip(),
    )


def epoch_seconds(network: Network, setting: Setting, results: Results) -> Spread:
    """Returns the median time of an epoch of each seed, without the first, which compiles."""
    return Spread.of(
        [
            float(np.median(result["seconds"][1:] or result["seconds"]))
            for result in of_seeds(network, setting, results)
        ]
    )


def charts(networks: Sequence[Network], setting: Setting, results: Results) -> tuple[Chart, Chart]:
    """Returns the curves of the training loss and of the test error."""
    return (
        curves(
            "loss",
            "Training loss",
            "training loss, nats",
            "loss",
            networks,
            setting,
            results,
            logarithmic=True,
        ),
        curves(
            "test_error", "Test error", "test error, %", "test_error", networks, setting, results
        ),
    )


def million(number: int) -> str:
    """Returns a number of parameters or multiplications for a person."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
