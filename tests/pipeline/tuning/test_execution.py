"""A trial is Trainer's own training: as far, as long, and to the same last bit."""

import math

import pytest

from pipeline.components import trainer
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Context
from pipeline.tuning import execution
from pipeline.tuning.execution import RejectedError, TimeOverError
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.trial import Trial
from tests.pipeline import builders
from tests.pipeline.training import data

TRAINER = trainer.Parameters(
    model="cifar_resnet20",
    model_arguments={"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4},
    image_size=(8, 8),
    mean=(100.0,) * 3,
    std=(60.0,) * 3,
    precision="float32",
    strategy="one_device",
    batch_size=16,
    epochs=3,
    learning_rate=0.3,
    steps_per_loop=3,
)
SPACE = {"learning_rate": {"type": "log", "min": 1e-3, "max": 1.0}}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples"), train=48, eval=21)


class Reports:
    def __init__(self):
        self.epochs, self.size = {}, None

    def measured(self, parameters, macs):
        self.size = parameters, macs

    def epoch(self, epoch, figures):
        self.epochs[epoch] = figures


def run(examples, state, epochs=3, first=0, remaining=lambda: math.inf, **parameters):
    """Does a trial, and returns its figures and what was reported."""
    values = {"learning_rate": parameters.pop("learning_rate", 0.05)}
    trial = Trial("0001", "search", values, seed=3, epochs=epochs, first_epoch=first)
    reports = Reports()
    found = Parameters(space=SPACE, trainer=TRAINER, **parameters)
    figures = execution.train(
        trial, {"examples": examples, "statistics": examples}, found, state, reports, remaining
    )
    return figures, reports


@pytest.fixture(scope="module")
def whole(examples, tmp_path_factory):
    return run(examples, tmp_path_factory.mktemp("whole"))


def test_it_is_what_trainer_does_with_these_values(examples, whole, tmp_path):
    figures, reports = whole
    outputs = {key: builders.artifact(tmp_path / key) for key in trainer.OUTPUTS}
    own = {**vars(TRAINER), "learning_rate": 0.05, "seed": 3}
    trainer.run({"examples": examples}, outputs, trainer.Parameters(**own), Context("tiny"))
    trained = outputs["model_run"].properties
    by_class = {"eval_balanced_accuracy", "eval_macro_f1"}
    assert figures.keys() - trained.keys() == by_class
    assert all(0 < figures[name] <= 1 for name in by_class)
    assert {name: trained[name] for name in figures.keys() - by_class} == {
        name: value for name, value in figures.items() if name not in by_class
    }
    assert set(reports.epochs) == {1, 2, 3}
    assert reports.epochs[3] == figures
    assert reports.size[0] == outputs["model"].properties["parameters"]


def test_a_training_that_is_gone_on_with_is_the_whole_one(examples, whole, tmp_path):
    """Hyperband's short trainings are the beginning of the whole one, and lose nothing."""
    _, first = run(examples, tmp_path / "state", epochs=1)
    figures, second = run(examples, tmp_path / "state", epochs=3, first=1)
    assert figures == whole[0]
    assert {**first.epochs, **second.epochs} == whole[1].epochs
    assert (set(first.epochs), set(second.epochs)) == ({1}, {2, 3})


def test_a_constraint_rejects_before_anything_is_trained(examples, tmp_path):
    with pytest.raises(RejectedError, match=r"multiply-accumulate operations per image, and"):
        run(examples, tmp_path / "state", max_macs="1k")
    assert not (tmp_path / "state").exists()


def test_it_ends_with_the_time_of_the_search(examples, tmp_path):
    with pytest.raises(TimeOverError):
        run(examples, tmp_path / "state", remaining=lambda: -1.0)


def test_what_diverges_fails(examples, tmp_path):
    with pytest.raises(PipelineError, match=r"the loss|no finite number"):
        run(examples, tmp_path / "state", learning_rate=1e30)


def test_the_configuration_is_trained_as_it_is():
    found = execution.whole(Parameters(trainer=TRAINER, epochs=7))
    changed = {n: v for n, v in vars(found).items() if v != getattr(TRAINER, n)}
    assert changed == {"keep_last": 1, "epochs": 7}
