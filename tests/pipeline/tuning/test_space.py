"""The search space: what Keras Tuner is given, and what comes back."""

from pipeline.components.trainer import Parameters
from pipeline.tuning.dimension import Dimension
from pipeline.tuning.space import Space, apply


def test_a_trial_gets_what_the_space_says() -> None:
    space = Space(
        {
            "optimizer": [Dimension(type="choice", values=["sgd", "adamw"])],
            "momentum": [Dimension(type="float", min=0.8, max=0.9, when={"optimizer": "sgd"})],
            "model_arguments.depths": [Dimension(type="choice", values=[[1, 1, 1], [2, 2, 2]])],
        }
    )
    values = space.to_keras_tuner({"model_arguments.depths": [2, 2, 2], "momentum": 0.85}).values
    assert space.decode(values) == {
        "optimizer": "sgd",
        "momentum": 0.85,
        "model_arguments.depths": [2, 2, 2],
    }
    found = apply(Parameters(model_arguments={"se_ratio": 0.25}), space.decode(values))
    assert (found.optimizer, found.momentum) == ("sgd", 0.85)
    assert found.model_arguments == {"se_ratio": 0.25, "depths": [2, 2, 2]}
