"""An impossible space is refused before anything runs, with the field's name and its line."""

import dataclasses
import math
import textwrap

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_resnet import ResNetConfig
from pipeline import config
from pipeline.components.trainer import OVERRIDES
from pipeline.components.trainer import Parameters as Trainer
from pipeline.errors import UsageError
from pipeline.training import recipe
from pipeline.training.recipe import FURTHER
from pipeline.tuning import constraints, feasibility
from pipeline.tuning.configured import configured
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.space import apply

_HEAD = """\
name: trousers
example_gen: {source: digits}
trainer: {TRAINER}
tuner:
  space:
"""
_FIRST = len(_HEAD.splitlines()) + 1


def own(input_shape: tuple[int, int, int], classes: int, width: int = 4) -> None:
    """A network of a person's own that nobody builds here."""
    raise AssertionError


def _refusals(space: str, trainer: str = "", rest: str = "") -> list[str]:
    """What is said of a space, by the configuration or by the look at it before the run."""
    below = textwrap.indent(textwrap.dedent(space).strip(), "    ")
    text = f"{_HEAD.replace('TRAINER', trainer)}{below}\n{textwrap.indent(rest, '  ')}"
    try:
        found = config.check(text, "run.yaml")
    except UsageError as error:
        return str(error).splitlines()
    try:
        feasibility.check(Parameters(**vars(found.tuner), trainer=found.trainer))
    except UsageError as error:
        return str(config.located(error, found)).splitlines()
    return []


@pytest.mark.parametrize(
    ("space", "key", "said"),
    [
        ("learning_rate: {type: float, min: -1, max: 1}", "learning_rate.min", "greater than 0"),
        ("momentum: {type: float, min: 0, max: 1}", "momentum.max", "input should be less than 1"),
        ("random_rotation: {type: float, min: 0, max: 1}", "random_rotation.max", "equal to 0.5"),
        (
            "batch_size: {type: log, min: 16, max: 64}",
            "batch_size.type",
            "takes whole numbers, not 34.336; set type to int",
        ),
        (
            "batch_size: {type: float, min: 16, max: 17, step: 0.5}",
            "batch_size.step",
            "takes whole numbers, not 16.5",
        ),
        ("optimizer: {type: choice, values: [sgd, adam]}", "optimizer.values", 'found "adam"'),
        ("random_flip: {type: choice, values: [true, sometimes]}", "random_flip.values", "valid"),
        ("random_shift: {type: int, min: 0, max: 33}", "random_shift.max", "at most the image"),
        ("learning_rat: {type: log, min: 0.1, max: 1}", "learning_rat", "mean 'learning_rate'?"),
        ("trainer.mixup: {type: float, min: 0, max: 1}", "trainer.mixup", "below trainer: 'mixup'"),
        ("recipe.mixup: {type: float, min: 0, max: 1}", "recipe.mixup", "did you mean 'mixup'?"),
        ("model_arguments: {type: int, min: 0, max: 1}", "model_arguments", "model_arguments.NAME"),
        ("mixup.alpha: {type: int, min: 0, max: 1}", "mixup.alpha", "Trainer has no such field"),
        ("epochs: {type: int, min: 1, max: 9}", "epochs", "set tuner.epochs"),
        ("seed: {type: int, min: 1, max: 9}", "seed", "a seed that happens to be good"),
        (
            "recipe_arguments.mixup: {type: float, min: 0, max: 1}",
            "recipe_arguments.mixup",
            "expected 'mixup', which is a key of trainer",
        ),
        (
            "recipe_arguments.beta2: {type: float, min: 0, max: 0.9}",
            "recipe_arguments.beta2",
            "did you mean 'beta_2'?",
        ),
        (
            "recipe_arguments.beta_2: {type: float, min: 0.5, max: 1}",
            "recipe_arguments.beta_2.max",
            "`beta_2` must be a number in [0, 1)",
        ),
        (
            "model_arguments.drop_path: {type: float, min: 0.5, max: 1}",
            "model_arguments.drop_path",
            "cifar_resnet20 has no such argument; did you mean 'drop_path_rate'?",
        ),
        (
            "model_arguments.drop_path_rate: {type: float, min: 0.5, max: 1}",
            "model_arguments.drop_path_rate.max",
            "`drop_path_rate` must be a number in [0, 1)",
        ),
        (
            "model_arguments.se_ratio: {type: choice, values: [null, 0.25, 2]}",
            "model_arguments.se_ratio.values",
            "2: trainer.model 'cifar_resnet20': `se_ratio` must be",
        ),
        (
            "model_arguments.depths: {type: choice, values: [[1, 1, 1], [2, 2]]}",
            "model_arguments.depths.values",
            "[2, 2]: trainer.model 'cifar_resnet20': `widths` must have one entry",
        ),
        (
            "model_arguments.classes: {type: int, min: 2, max: 3}",
            "model_arguments.classes",
            "must not hold classes",
        ),
        (
            "model: {type: choice, values: [cifar_resnet20, cifar_resnet21]}",
            "model.values",
            "\"cifar_resnet21\": trainer.model 'cifar_resnet21'",
        ),
        (
            "image_size: {type: choice, values: [[32, 32], [2, 2]]}",
            "image_size.values",
            "[2, 2]: trainer.image_size [2, 2]: `input_shape` must have",
        ),
        (
            "schedule: {type: choice, values: [cosine, multistep]}",
            "schedule.values",
            "\"multistep\": trainer.recipe 'default': `milestones` must be shares",
        ),
        (
            "accumulate_steps: {type: choice, values: [1, 3]}",
            "accumulate_steps.values",
            "3: trainer.batch_size 128: cannot be shared out equally",
        ),
        ("mixup: {type: log, min: 0, max: 1}", "mixup", "min must be greater than 0"),
        ("mixup: {type: log, max: 1}", "mixup", "needs min and max; min is missing"),
        ("mixup: {type: logarithmic, min: 1, max: 2}", "mixup.type", "'int', 'float' or 'log'"),
        ("mixup: {type: float, mim: 0, max: 1}", "mixup.mim", "did you mean 'min'?"),
        ("mixup: {min: 0, max: 1}", "mixup.type", "missing"),
        ("mixup: 0.2", "mixup", "expected a mapping of keys to values; found 0.2"),
        ("mixup:", "mixup", "expected a mapping of keys to values; found nothing"),
    ],
    ids=str,
)
def test_a_value_that_no_trial_can_have_is_refused(space: str, key: str, said: str) -> None:
    (line,) = _refusals(space)
    assert line.startswith(f"run.yaml:{_FIRST}: ")
    assert f"tuner.space.{key}" in line
    assert said in line


def test_the_line_is_that_of_the_value() -> None:
    found = _refusals(
        """
        optimizer: {type: choice, values: [sgd, adamw]}
        learning_rate:
          - {type: log, min: 0.1, max: 1, when: {optimizer: sgd}}
          - type: float
            min: 0
            max: 1
            when: {optimizer: adamw}
        model_arguments.drop_path_rate:
          type: float
          min: 0
          max: 0.5
        momentum:
          type: float
          min: 0
          max: 0.9
          when: {optimiser: sgd}
        """
    )
    (line,) = found
    where = "tuner.space.momentum.when.optimiser"
    assert line == (
        f"run.yaml:{_FIRST + 15}: {where}: the space has no 'optimiser'; did you mean 'optimizer'?"
    )
    found = _refusals(
        """
        optimizer: {type: choice, values: [sgd, adamw]}
        learning_rate:
          - {type: log, min: 0.1, max: 1, when: {optimizer: sgd}}
          - type: float
            min: 0
            max: 1
            when: {optimizer: adamw}
        """
    )
    (line,) = found
    assert line.startswith(f"run.yaml:{_FIRST + 4}: tuner.space.learning_rate.1.min: ")
    found = _refusals(
        """
        model_arguments.drop_path_rate:
          type: float
          min: 0
          max: 1
        recipe_arguments.beta_1:
          type: float
          min: -1
          max: 0.5
        """
    )
    assert [line.partition(": ")[0] for line in found] == [
        f"run.yaml:{_FIRST + 3}",
        f"run.yaml:{_FIRST + 6}",
    ]


@pytest.mark.parametrize(
    "space",
    [
        "learning_rate: {type: log, min: 1e-4, max: 1}",
        "drop_path_rate: {type: float, min: 0, max: 0.3, step: 0.1}",
        "model_arguments.depths: {type: choice, values: [[1, 1, 1], [3, 3, 3]]}",
        "recipe: {type: choice, values: [default, he2015_cifar, rsb_a2]}",
        "random_crop: {type: choice, values: [none, [0.25, 1]]}",
        # What does not go with the configuration goes with other values of the space.
        """
        accumulate_steps: {type: choice, values: [1, 3]}
        batch_size: {type: choice, values: [64, 96]}
        """,
        """
        schedule: {type: choice, values: [cosine, multistep]}
        milestones: {type: choice, values: [[0.5], [0.5, 0.75]], when: {schedule: multistep}}
        """,
        """
        random_shift: {type: int, min: 0, max: 40}
        image_size: {type: choice, values: [[32, 32], [48, 48]]}
        """,
        """
        model_arguments.groups: {type: choice, values: [1, 8]}
        model_arguments.block: {type: choice, values: [basic, bottleneck]}
        """,
        """
        model_arguments.depths: {type: choice, values: [[2, 2, 2], [2, 2]]}
        model_arguments.widths:
          - type: choice
            values: [[16, 32, 64], [16, 16, 16]]
            when: {model_arguments.depths: [[2, 2, 2]]}
          - type: choice
            values: [[16, 64]]
            when: {model_arguments.depths: [[2, 2]]}
        """,
    ],
    ids=str,
)
def test_what_some_trial_can_have_is_no_fault(space: str) -> None:
    assert _refusals(space) == []


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = _refusals(
        """
        learning_rate: {type: float, min: -1, max: 1}
        momentum: {type: float, min: 0, max: 0.9}
        optimizer: {type: choice, values: [sgd, adam]}
        """
    )
    assert [line.split(": ")[1] for line in found] == [
        "tuner.space.learning_rate.min",
        "tuner.space.optimizer.values",
    ]


def test_conditions_that_never_hold_together_are_refused() -> None:
    (line,) = _refusals(
        """
        optimizer: {type: choice, values: [sgd, adamw]}
        momentum:
          {type: choice, values: [0.8, 0.9], when: {optimizer: sgd}}
        ema_decay:
          {type: float, min: 0.9, max: 0.99, when: {optimizer: adamw, momentum: 0.9}}
        """
    )
    assert "tuner.space.ema_decay.when: its conditions never hold together" in line


def test_a_value_that_spoils_all_others_is_named_alone() -> None:
    """Whatever else is tried, the network has two stages and the widths of three."""
    found = _refusals(
        """
        learning_rate: {type: log, min: 0.1, max: 1}
        model_arguments.depths: {type: choice, values: [[1, 1], [2, 2]]}
        mixup: {type: float, min: 0, max: 1}
        """
    )
    (line,) = found
    assert line.startswith(f"run.yaml:{_FIRST + 1}: tuner.space.model_arguments.depths: ")


def test_what_is_wrong_without_the_space_is_not_said_of_it() -> None:
    found = _refusals("mixup: {type: float, min: 0, max: 1}", trainer="model: resnet51")
    assert len(found) == 1
    assert found[0].startswith("run.yaml:3: trainer.model 'resnet51'")


def test_what_would_have_no_effect_is_refused() -> None:
    space = "drop_path_rate: {type: float, min: 0, max: 0.5}"
    (line,) = _refusals(space, trainer="model_arguments: {drop_path_rate: 0.1}")
    assert (
        "tuner.space.drop_path_rate: trainer.model_arguments.drop_path_rate takes its place" in line
    )
    both = f"{space}\nmodel_arguments.drop_path_rate: {{type: float, min: 0, max: 0.5}}"
    (line,) = _refusals(both)
    assert "model_arguments.drop_path_rate: sets the same as 'drop_path_rate' of the space" in line


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("max_macs: 1M", "1,000,000 is less than the smallest network of the space has, "),
        ("max_parameters: 10k", "10,000 is less than the smallest network of the space has, "),
        ("max_parameters: 20k", None),
    ],
)
def test_a_limit_that_no_network_keeps_is_refused(limit: str, said: str | None) -> None:
    """The smallest has the fewest blocks and channels, neither of which is configured."""
    space = """
        model_arguments.depths: {type: choice, values: [[3, 3, 3], [2, 2, 2], [1, 1, 1]]}
        model_arguments.widths: {type: choice, values: [[16, 32, 64], [16, 16, 16]]}
        """
    found = _refusals(space, rest=limit)
    if said is None:
        assert found == []
    else:
        (line,) = found
        key = limit.partition(":")[0]
        assert line.startswith(f"run.yaml:{_FIRST + 2}: tuner.{key}: {said}")


def test_arguments_of_a_network_of_ones_own_are_those_of_its_function() -> None:
    model = f"model: '{__name__}:own'"
    assert _refusals("model_arguments.width: {type: int, min: 1, max: 8}", trainer=model) == []
    (line,) = _refusals("model_arguments.wide: {type: int, min: 1, max: 8}", trainer=model)
    assert line.endswith(f"{__name__}:own has no such argument; did you mean 'width'?")


_LIMITS = {
    # Field: least and greatest value, and whether these are values themselves.
    "learning_rate": (0.0, math.inf, False, True),
    "momentum": (0.0, 1.0, True, False),
    "random_rotation": (0.0, 0.5, True, True),
    "brightness": (0.0, 1.0, True, True),
    "stage_decay": (0.0, 1.0, False, True),
    "weight_decay": (0.0, math.inf, True, True),
}


@given(
    key=st.sampled_from(sorted(_LIMITS)),
    ends=st.lists(
        st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(-2, 2)),
        min_size=2,
        max_size=2,
        unique=True,
    ).map(sorted),
    share=st.sampled_from([None, 1.0, 0.5, 0.25]),
)
def test_a_range_is_refused_just_where_an_end_is_beyond_the_limits_of_its_field(
    key: str, ends: list[float], share: float | None
) -> None:
    least, greatest, with_least, with_greatest = _LIMITS[key]
    low, high = ends
    allowed = (
        low >= least
        and high <= greatest
        and (with_least or low != least)
        and (with_greatest or high != greatest)
    )
    step = None if share is None else max(share * (high - low), 1e-3 * (high - low))
    assume(step is None or step > 0)
    found = feasibility.complaints(
        Parameters(space={key: {"type": "float", "min": low, "max": high, "step": step}}), Trainer()
    )
    assert (found == []) == allowed
    assert all(wrong.path[0] == key for wrong in found)


def test_every_field_of_network_and_recipe_can_be_searched() -> None:
    """Each with the value that it has, and all of them at once."""
    own = {"bn_synchronized", "default_classes", "image_size", "data_format"}
    network = {field.name for field in dataclasses.fields(ResNetConfig)} - own
    keys = [
        *(key for key in OVERRIDES if key not in ("epochs", "drop_path_rate", "dropout_rate")),
        *(f"model_arguments.{name}" for name in sorted(network)),
        *(f"recipe_arguments.{name}" for name in FURTHER),
    ]
    assert len(keys) >= 75
    trainer = Trainer(recipe="rsb_a2")
    usual = configured(trainer, keys)
    assert set(usual) == set(keys)
    space = {key: {"type": "choice", "values": [value]} for key, value in usual.items()}
    feasibility.check(Parameters(space=space, trainer=trainer))
    before, after = recipe.settle(trainer), recipe.settle(apply(trainer, usual))
    assert after[1] == before[1]
    assert constraints.network(after[0]) == constraints.network(before[0])


def test_options_reach_the_keys_of_a_space_though_these_have_dots(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    space = "model_arguments.drop_path_rate: {type: float, min: 0, max: 0.5}"
    path.write_text(f"{_HEAD.replace('TRAINER', '')}    {space}\n")
    key = "tuner.space.model_arguments.drop_path_rate"
    found = config.load(path, [f"{key}.max=0.25"]).tuner.space
    assert found["model_arguments.drop_path_rate"][0].max == 0.25
    whole = config.load(path, [f"{key}={{type: choice, values: [0.1]}}"]).tuner.space
    assert whole["model_arguments.drop_path_rate"][0].values == (0.1,)
    assert config.load(path, ["tuner.space={}"]).tuner.space == {}
    with pytest.raises(UsageError, match=rf"^--set {key}\.max=-1: tuner\.space\.model_arguments"):
        config.load(path, [f"{key}.max=-1"])


def test_what_is_configured_is_found_wherever_it_is_said() -> None:
    trainer = Trainer(
        recipe="rsb_a2",
        learning_rate=0.01,
        batch_size=512,
        model_arguments={"depths": (1, 2, 1)},
        recipe_arguments={"beta_1": 0.8},
    )
    keys = (
        *("learning_rate", "batch_size", "optimizer", "clip_norm", "mixup", "init_from"),
        *("model_arguments.depths", "model_arguments.widths", "model_arguments.drop_path_rate"),
        *("recipe_arguments.beta_1", "recipe_arguments.beta_2", "head_learning_rate"),
    )
    assert configured(trainer, keys) == {
        "learning_rate": 0.01,
        "batch_size": 512,
        "optimizer": "lamb",
        "clip_norm": 1.0,
        "mixup": 0.1,
        "init_from": None,
        "model_arguments.depths": [1, 2, 1],
        "model_arguments.widths": [16, 32, 64],
        "model_arguments.drop_path_rate": 0.05,
        "recipe_arguments.beta_1": 0.8,
        "recipe_arguments.beta_2": 0.999,
        "head_learning_rate": 1.0,
    }
    assert configured(Trainer(), ["clip_norm", "random_crop"]) == {
        "clip_norm": 0.0,
        "random_crop": "none",
    }
    mine = Trainer(model=f"{__name__}:own")
    assert configured(mine, ["model_arguments.width"]) == {"model_arguments.width": 4}
