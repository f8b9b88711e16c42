"""What a network costs before it is trained, against networks that are built."""

import keras
import pytest

import keras_resnet
from keras_resnet.analysis import count
from pipeline.components.trainer import Parameters as Trainer
from pipeline.errors import UsageError
from pipeline.tuning import constraints
from pipeline.tuning.constraints import Cost
from pipeline.tuning.parameters import Parameters

_WIDTHS = {"widths": [8, 16, 32], "stem_width": 8}


def own(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """A network of a person's own: 3·3·3·4 + 4 and 4·classes + classes weights."""
    images = keras.Input(input_shape)
    features = keras.layers.Conv2D(4, 3, padding="same")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(classes)(pooled))


def attentive(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """One with a layer whose multiplications nobody counts."""
    images = keras.Input(input_shape)
    rows = keras.layers.Reshape((-1, 3))(images)
    pooled = keras.layers.GlobalAveragePooling1D()(
        keras.layers.LSTM(4, return_sequences=True)(rows)
    )
    return keras.Model(images, keras.layers.Dense(classes)(pooled))


@pytest.mark.parametrize(
    "arguments",
    [{}, {**_WIDTHS, "depths": [1, 2, 1]}, {**_WIDTHS, "se_ratio": 0.25}, {"shortcut": "B"}],
    ids=str,
)
def test_cost_is_that_of_the_network_that_is_built(arguments: dict) -> None:
    found = constraints.measure(Trainer(model_arguments=arguments, image_size=(12, 20)), 7)
    built = keras_resnet.create("cifar_resnet20", input_shape=(12, 20, 3), classes=7, **arguments)
    assert found == Cost(built.count_params(), count(built).macs)


def test_what_the_recipe_asks_of_the_network_is_part_of_it() -> None:
    found = constraints.network(Trainer(drop_path_rate=0.25, dropout_rate=0.5))
    assert (found.drop_path_rate, found.dropout_rate) == (0.25, 0.5)


def test_a_network_of_a_persons_own_is_built_and_counted() -> None:
    found = constraints.measure(Trainer(model=f"{__name__}:own", image_size=(8, 8)), 5)
    # One product for each weight of the convolution's kernel at each of 64 places.
    assert found == Cost(27 * 4 + 4 + 4 * 5 + 5, 64 * 27 * 4 + 4 * 5)


def test_operations_that_are_not_known_are_not_guessed() -> None:
    found = constraints.measure(Trainer(model=f"{__name__}:attentive", image_size=(8, 8)), 5)
    assert found.parameters > 0
    assert found.macs is None
    assert constraints.reason(found, Parameters(max_parameters="1M")) is None
    said = constraints.reason(found, Parameters(max_macs="1M"))
    assert said == (
        "max_macs: the multiply-accumulate operations per image of this network are not known"
    )


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, None),
        ({"max_macs": "41M", "max_parameters": 271_098}, None),
        (
            {"max_macs": "40.5M"},
            "40,551,040 multiply-accumulate operations per image, and tuner.max_macs is 40,500,000",
        ),
        ({"max_parameters": "271k"}, "271,098 parameters, and tuner.max_parameters is 271,000"),
    ],
    ids=str,
)
def test_what_costs_more_is_rejected_with_the_reason(limits: dict, said: str | None) -> None:
    cost = constraints.measure(Trainer(), 10)
    assert cost == Cost(271_098, 40_551_040)
    assert constraints.reason(cost, Parameters(**limits)) == said


@pytest.mark.parametrize(
    ("text", "number"),
    [("100M", 10**8), ("1.5G", 1_500_000_000), ("20 k", 20_000), ("20K", 20_000), ("7", 7)],
)
def test_counts_are_written_as_people_write_them(text: str, number: int) -> None:
    assert Parameters(max_macs=text).max_macs == number


@pytest.mark.parametrize("text", ["100MB", "many", "-1M", "0", "0.1"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="max_macs"):
        Parameters(max_macs=text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "cifar_resnet21"}, "trainer.model 'cifar_resnet21'"),
        ({"model_arguments": {"depths": [1, 1]}}, "`widths` must have one entry for each stage"),
        ({"image_size": (2, 2)}, r"trainer.image_size \[2, 2\]"),
    ],
    ids=str,
)
def test_what_is_no_network_is_refused(arguments: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        constraints.measure(Trainer(**arguments), 10)
