"""The parameters of Tuner."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.parameters import NonEmpty, NonNegative, Positive, parameters
from pipeline.tuning.dimension import Alternatives

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_COUNT = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?)")


def _counted(value: Any) -> Any:
    """Returns the number that a text such as 100M is."""
    if not isinstance(value, str):
        return value
    found = _COUNT.fullmatch(value.strip())
    if not found:
        raise ValueError("expected a number such as 1000000, 100M or 1.5G")
    return round(float(found[1]) * _UNITS[found[2].replace("K", "k")])


# Of parameters or of operations.
Count = Annotated[int, BeforeValidator(_counted), Field(ge=1)]


@parameters
class Search:
    """The space that is searched for the best values of Trainer's parameters, how, and how long.

    Without a space nothing is searched, whatever the rest says, and the run has no Tuner.

    Args:
        space: What stands below `trainer`, such as `learning_rate` or `model_arguments.depths`, to
            the values that it may have; or to a list of such, each with another `when`.
        algorithm: `"hyperband"`: many short trials, of which the best go on; `"bayesian"`: each
            trial where a Gaussian process of all before expects most; `"random"`.
        objective: What a trial is judged by, on the split `eval`; `"eval_balanced_accuracy"` is the
            mean of the classes' recall, and `"eval_macro_f1"` that of their F1.
        direction: Whether it is to be greatest (`"max"`) or least (`"min"`); None to go by its
            name.
        max_trials: The search ends after so many trials; what is rejected does not count, nor are
            final trainings among them.
        max_epochs: And when all trainings together would have more epochs than so many; None for no
            limit.
        max_minutes: And after so long; None for no limit.
        epochs: Passes over the training split of a whole trial; None for those of Trainer.
        factor: Of Hyperband: one of so many trials goes on, for so many times the epochs.
        iterations: Of Hyperband: how often it begins anew; None until the budget is spent.
        finalists: So many of the best values are trained again, with other seeds, and compared
            with those of the configuration; 0 to take the best trial as it is.
        final_seeds: With so many seeds each.
        workers: Processes that do trials at the same time.
        max_parameters: A network of more parameters is rejected before it is trained; `1.5M` and
            the like are understood. None for no limit.
        max_macs: One of more multiply-accumulate operations per image, too.
        seed: Determines what is proposed, and the trials.
    """

    space: dict[NonEmpty, Alternatives] = Field(default_factory=dict)
    algorithm: Literal["hyperband", "bayesian", "random"] = "bayesian"
    objective: Literal["eval_accuracy", "eval_loss", "eval_balanced_accuracy", "eval_macro_f1"] = (
        "eval_accuracy"
    )
    direction: Literal["min", "max"] | None = None
    max_trials: Positive = 20
    max_epochs: Positive | None = None
    max_minutes: float | None = Field(default=None, gt=0.0)
    epochs: Positive | None = None
    factor: int = Field(default=3, ge=2)
    iterations: Positive | None = None
    finalists: NonNegative = 2
    final_seeds: Positive = 2
    workers: Positive = 1
    max_parameters: Count | None = None
    max_macs: Count | None = None
    seed: NonNegative = 0


@parameters
class Parameters(Search):
    """The search, and what it is a search for.

    Args:
        trainer: What a trial trains with where the space says nothing.
    """

    trainer: TrainerParameters = Field(default_factory=TrainerParameters)
