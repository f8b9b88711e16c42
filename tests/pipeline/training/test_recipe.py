import dataclasses
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_resnet import recipes
from pipeline import config
from pipeline.components import trainer
from pipeline.components.trainer import OVERRIDES, Parameters
from pipeline.errors import UsageError
from pipeline.orchestration.artifact import Context
from pipeline.records import examples
from pipeline.training.feeding import mismatch
from pipeline.training.recipe import notices, settle
from tests.pipeline import builders
from tests.pipeline.training import data

_TINY = {
    "model": "cifar_resnet20",
    "model_arguments": {"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4},
    "image_size": (16, 16),
    "mean": (127.5,) * 3,
    "std": (127.5,) * 3,
    "precision": "float32",
    "strategy": "one_device",
    "batch_size": 16,
    "epochs": 1,
}


def test_every_override_is_a_field_of_recipes_and_of_the_parameters():
    fields = {field.name for field in dataclasses.fields(recipes.Recipe)}
    assert set(OVERRIDES) <= fields
    assert all(getattr(Parameters(), name) is None for name in OVERRIDES)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_a_recipe_that_nothing_is_changed_of_is_the_recipe(name):
    settled, recipe = settle(Parameters(recipe=name))
    assert recipe == recipes.get(name)
    assert all(getattr(settled, field) == getattr(recipe, field) for field in OVERRIDES)
    assert settle(settled) == (settled, recipe)


def test_every_other_field_of_a_recipe_can_be_set_too():
    changes = {
        "beta_1": 0.95,
        "nesterov": True,
        "crop_ratio": [0.5, 2.0],
        "rand_augment_std": 0.25,
        "minimum_learning_rate": 0.002,
        "drop_path_mode": "batch",
    }
    chosen = Parameters(
        recipe="rsb_a2", recipe_arguments=changes, learning_rate=0.01, drop_path_rate=0.1
    )
    settled, recipe = settle(chosen)
    fields = recipe.to_dict()
    assert {name: fields[name] for name in changes} == changes
    assert settled.model_arguments["drop_path_mode"] == "batch"
    assert settle(settled) == (settled, recipe)
    changed = {
        name for name, value in recipes.get("rsb_a2").to_dict().items() if fields[name] != value
    }
    assert changed == {*changes, "learning_rate", "warmup_learning_rate", "drop_path_rate"}


def test_how_the_learning_rate_follows_the_batch_can_be_set():
    arguments = {"learning_rate_scaling": "none"}
    _, recipe = settle(Parameters(recipe="rsb_a2", batch_size=512, recipe_arguments=arguments))
    assert recipe.learning_rate == recipes.get("rsb_a2").learning_rate


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"beta2": 0.9}, r"trainer.recipe_arguments.beta2: .* did you mean 'beta_2'\?"),
        ({"name": "mine"}, "trainer.recipe_arguments.name: a recipe has no such field to be set"),
        ({"beta_2": 1.5}, "trainer.recipe 'default': `beta_2` must be"),
        ({"learning_rate_scaling": "cubic"}, "`learning_rate_scaling` must be"),
        ({"nesterov": "maybe"}, "`nesterov` must be"),
    ],
    ids=str,
)
def test_what_is_no_field_or_no_value_of_a_recipe_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        settle(Parameters(recipe_arguments=arguments))


def test_a_key_of_trainer_is_no_argument_of_the_recipe():
    with pytest.raises(ValueError, match="recipe_arguments must not hold learning_rate"):
        Parameters(recipe_arguments={"learning_rate": 0.1})


def test_the_learning_rate_follows_the_batch_as_the_recipe_says():
    named = recipes.get("rsb_a2")
    _, recipe = settle(Parameters(recipe="rsb_a2", batch_size=512))
    assert recipe.learning_rate == pytest.approx(named.learning_rate / 2)  # the root of 1/4
    assert recipe.warmup_learning_rate == pytest.approx(named.warmup_learning_rate / 2)
    assert recipe.minimum_learning_rate == pytest.approx(named.minimum_learning_rate / 2)
    _, recipe = settle(Parameters(recipe="he2015_cifar", batch_size=32))
    assert recipe.learning_rate == pytest.approx(0.025)
    _, recipe = settle(Parameters(batch_size=32))
    assert recipe.learning_rate == 0.1  # the default's does not
    chosen = Parameters(recipe="he2015_cifar", batch_size=32, learning_rate=0.07)
    assert settle(chosen)[1].learning_rate == 0.07
    said = notices(Parameters(recipe="he2015_cifar", batch_size=32), recipes.get("he2015_cifar"))
    assert said[0].startswith("  recipe he2015_cifar (He et al., 2015, section 4.2")
    scaled = Parameters(recipe="he2015_cifar", batch_size=32)
    assert notices(scaled, settle(scaled)[1])[0].endswith(
        "learning rate 0.025, which is the recipe's 0.1 at batch 128 scaled to 32 (linear)"
    )
    assert notices(chosen, settle(chosen)[1])[0].endswith("learning rate 0.07 as configured")


def test_what_a_recipe_has_can_be_taken_out():
    changes = {"random_crop": "none", "clip_norm": 0, "mixup": 0, "schedule": "constant"}
    settled, recipe = settle(Parameters(recipe="rsb_a3", **changes))
    assert recipe.random_crop is None and recipe.clip_norm is None and recipe.mixup == 0
    assert settle(settled)[1] == recipe
    _, recipe = settle(Parameters(recipe="he2015_cifar", schedule="cosine"))
    assert recipe.milestones == ()
    _, recipe = settle(Parameters(recipe="rsb_a3", loss="softmax"))
    assert recipe.bce_threshold is None


def test_stochastic_depth_goes_to_the_network_unless_the_user_says_otherwise():
    settled, _ = settle(Parameters(recipe="stochastic_depth_cifar"))
    assert settled.model_arguments == {
        "drop_path_rate": 0.5,
        "drop_path_mode": "batch",
        "drop_path_schedule": "linear",
    }
    own = {"drop_path_rate": 0.2, "depths": [1, 1, 1]}
    settled, _ = settle(Parameters(recipe="stochastic_depth_cifar", model_arguments=own))
    assert settled.model_arguments["drop_path_rate"] == 0.2
    chosen = Parameters(recipe="stochastic_depth_cifar", model="theirs:build")
    settled, recipe = settle(chosen)
    assert settled.model_arguments == {}
    assert "drop_path_rate are left to theirs:build" in notices(chosen, recipe)[1]
    with pytest.raises(UsageError, match=r"trainer\.drop_path_rate 0\.3: theirs:build is built by"):
        settle(Parameters(model="theirs:build", drop_path_rate=0.3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "he2015_cifr"}, "trainer.recipe 'he2015_cifr': .*perhaps 'he2015_cifar'"),
        ({"milestones": (0.5,)}, r"trainer\.milestones \[0\.5\]: the schedule is 'cosine'"),
        ({"schedule": "multistep", "milestones": (0.7, 0.5)}, "must not decrease"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        trainer.check(Parameters(**_TINY | changes))


def test_batches_that_cannot_be_shared_out_are_refused():
    recipe = recipes.Recipe(batch_size=24, accumulate_steps=3, mixup=0.1)
    assert mismatch(recipe, 2) is None
    assert "even number" in mismatch(dataclasses.replace(recipe, accumulate_steps=4), 2)
    assert "in trainer.accumulate_steps 5 parts" in mismatch(
        dataclasses.replace(recipe, accumulate_steps=5), 2
    )
    assert "among 5 replicas" in mismatch(recipe, 5)
    few = recipes.Recipe(batch_size=3, repeated_augmentation=3)
    assert "leaves one image for a batch" in mismatch(few, 1)


@pytest.mark.parametrize("name", [n for n in config.embedded() if "_" in n])
def test_the_papers_configurations_name_recipes_and_networks_that_there_are(name):
    parameters = config.load(name).trainer
    settled, recipe = settle(parameters)
    assert recipe.name == parameters.recipe
    if recipe.train_size:
        assert settled.image_size == (recipe.train_size,) * 2
    assert mismatch(recipe, 1) is None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits 0, 1 and 2: 64 to train on."""
    pixels, labels = load_digits(return_X_y=True)
    chosen = [
        examples.ImageExample(
            encoded=builders.encode(
                np.kron(np.uint8(scan.reshape(8, 8, 1) * 15), np.ones((2, 2, 3), np.uint8)), "PNG"
            ),
            format="png",
            height=16,
            width=16,
            label=int(label),
            text=data.CLASSES[label],
            filename=f"{number}.png",
        )
        for number, (scan, label) in enumerate(zip(pixels, labels, strict=True))
        if label < 3
    ]
    return data.write(tmp_path_factory.mktemp("digits"), 1, chosen, train=64, eval=16)


def run(folder, written, **changes):
    outputs = {key: builders.artifact(folder / key) for key in trainer.OUTPUTS}
    said = []
    context = Context("tiny", say=said.append)
    trainer.run({"examples": written}, outputs, Parameters(**_TINY | changes), context)
    settings = json.loads((outputs["model_run"].uri / "settings.json").read_text())
    return outputs["model_run"].properties, settings, said


# Both schedules, drop path, the average, and all augmentations but the mixing of `rsb_a2`, which is
# trained with below. The recipes' own tests train with every one of them.
_OF_EACH_KIND = ("default", "resnet_rs", "stochastic_depth_cifar", "wrn_imagenet")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _OF_EACH_KIND else pytest.mark.exhaustive)
        for name in recipes.list_recipes()
    ],
)
def test_an_epoch_of_every_recipe_on_digits(tmp_path, digits, name):
    # As if it were longer: the warm-up takes whole epochs of long trainings.
    figures, settings, said = run(tmp_path, digits, recipe=name, warmup_epochs=0.5)
    assert all(np.isfinite(value) for value in figures.values())
    assert settings["recipe"]["name"] == name
    assert settings["steps"] == 4
    assert settings["rollbacks"] == []
    assert any(line.startswith(f"  recipe {name} (") for line in said)


@pytest.mark.slow
def test_a_modern_recipe_in_parts_on_two_replicas(tmp_path, digits, two_replicas):
    figures, settings, _ = run(
        tmp_path, digits, recipe="rsb_a2", strategy="mirrored", accumulate_steps=2, ema_decay=0.9
    )
    assert np.isfinite(figures["loss"])
    assert settings["recipe"]["repeated_augmentation"] == 3
    assert settings["replicas"] == 2
