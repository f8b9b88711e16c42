"""What a search is for, with real trainings: a learning rate that is 30 times off is mended."""

import statistics
from dataclasses import replace

import pytest

from pipeline import api, config
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.tuning import execution, outcome
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.trial import Trial
from tests.pipeline import builders

pytestmark = pytest.mark.filterwarnings("ignore:currentThread", "ignore:getName")

_RATE, _EPOCHS, _SEEDS = 0.3, 6, (100, 101, 102)


class _Silent:
    def measured(self, parameters: int, macs: int | None) -> None:
        """Notes nothing."""

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Notes nothing."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("off", [1 / 30, 1.0, 30.0])
def test_the_accuracy_is_that_of_a_good_learning_rate_wherever_it_begins(off, tmp_path):
    """Also where it begins with the good one: over three seeds it is worse by no standard error."""
    own = {**builders.TINY_RUN["trainer"], "epochs": _EPOCHS}
    found = config.validate(
        {
            **builders.TINY_RUN,
            "trainer": {**own, "learning_rate": _RATE * off},
            "tuner": {
                "space": {"learning_rate": {"type": "log", "min": 1e-3, "max": 2.0}},
                "max_trials": 10,
            },
        },
        "recovery",
    )
    done = api.run(replace(found, root=tmp_path), to="Tuner")
    best = outcome.values(done.components["Tuner"].outputs["best_hyperparameters"].uri)
    inputs = {
        "examples": done.components["ExampleGen"].outputs["examples"],
        "statistics": done.components["StatisticsGen"].outputs["statistics"],
    }

    def scores(rate: float) -> list[float]:
        parameters = Parameters(trainer=TrainerParameters(**{**own, "learning_rate": rate}))
        reached = []
        for seed in _SEEDS:
            trial = Trial("0", "default", {}, seed, _EPOCHS)
            state = tmp_path / f"{rate}-{seed}"
            figures = execution.train(trial, inputs, parameters, state, _Silent())
            reached.append(figures["eval_accuracy"])
        return reached

    good, searched = scores(_RATE), scores(best["learning_rate"])
    error = sum(statistics.variance(each) / len(each) for each in (good, searched)) ** 0.5
    assert statistics.fmean(searched) >= statistics.fmean(good) - error, (best, good, searched)
