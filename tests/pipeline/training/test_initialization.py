"""Trainings that begin with trained weights, in files that the test makes."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import weights
from pipeline.components import trainer
from pipeline.components.trainer import Parameters
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.training import initialization
from tests.pipeline import builders
from tests.pipeline.training import data

_ARGUMENTS = {"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4}
_TINY = {
    "model": "cifar_resnet20",
    "model_arguments": _ARGUMENTS,
    "image_size": (8, 8),
    "mean": (100.0,) * 3,
    "std": (60.0,) * 3,
    "precision": "float32",
    "strategy": "one_device",
    "batch_size": 12,
    "epochs": 1,
    "learning_rate": 0.05,
}


@pytest.fixture(scope="module")
def trained():
    """A network with other classes, and moving statistics that are not those of the start."""
    model = keras_resnet.create(
        "cifar_resnet20", **_ARGUMENTS, input_shape=(8, 8, 3), classes=7, seed=1
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    weights.save(trained, path)
    return path


def values(model):
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}


def test_frozen_stages_come_out_as_they_were_and_the_others_have_learnt(file, trained, tmp_path):
    examples = data.write(tmp_path / "examples", train=24, eval=6)
    outputs = {key: builders.artifact(tmp_path / key) for key in trainer.OUTPUTS}
    # The gradient is measured too, as in any long training.
    changes = {"init_from": str(file), "freeze_stages": 1, "insight_every": 1}
    # So little that the second stage moves by nothing, its statistics apart.
    changes |= {"stage_decay": 1e-12, "head_learning_rate": 10.0}
    parameters = Parameters(**_TINY | changes)
    trainer.run({"examples": examples}, outputs, parameters, Context("tiny"))
    exported = keras.models.load_model(outputs["model"].uri / "Format-Keras" / "model.keras")
    assert exported.output_shape == (None, len(data.CLASSES))
    before, after = values(trained), values(exported)
    found = json.loads((outputs["model_run"].uri / "settings.json").read_text())
    assert found["begins_with"] == f"{file}, the stem and stage 1 frozen"
    for path, value in after.items():
        frozen = path.startswith(("stem", "stage1")) or (
            path.startswith("stage2") and "moving" not in path
        )
        if not path.startswith("classifier"):
            assert (value == before[path]).all() == frozen, path


def test_a_training_that_goes_on_needs_no_file(trained):
    model = keras_resnet.create("cifar_resnet20", **_ARGUMENTS, input_shape=(8, 8, 3), classes=7)
    parameters = Parameters(**_TINY, init_from="gone.safetensors", freeze_stages=1)
    before = {path: np.array(value) for path, value in values(model).items()}
    initialization.prepare(model, parameters, resumed=True)
    assert all((value == before[path]).all() for path, value in values(model).items())
    assert not model.get_layer("stem").trainable


def test_what_the_weights_expect_of_their_input():
    def expected(model, init_from):
        changes = {"model": model, "model_arguments": {}, "init_from": init_from}
        return initialization.expected(Parameters(**_TINY | changes))

    tv = expected("resnet18", "timm/resnet18.tv_in1k")
    np.testing.assert_allclose(tv.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(tv.std, [58.395, 57.12, 57.375])
    assert tv.interpolation == "bilinear"
    assert expected("resnet18", "timm/resnet18.a1_in1k").interpolation == "bicubic"
    assert (tv.height, tv.width) == (8, 8)
    caffe = expected("keras_resnet50", "imagenet")
    assert caffe.mean == (123.68, 116.779, 103.939)
    assert caffe.std == (1.0, 1.0, 1.0)
    assert expected("resnet18", None) is None


def test_it_is_the_network_and_not_its_name_that_the_weights_are_of():
    """ResNet-50 of keras.applications in other words: what its weights expect is what they get."""
    theirs, ours = (
        dataclasses.asdict(keras_resnet.SPECS[n]) for n in ("keras_resnet50", "resnet50")
    )
    changes = {name: value for name, value in theirs.items() if value != ours[name]}
    named = Parameters(
        **_TINY | {"model": "resnet50", "model_arguments": changes, "init_from": "imagenet"}
    )
    by_name = dataclasses.replace(named, model="keras_resnet50", model_arguments={})
    assert initialization.expected(named) == initialization.expected(by_name)
    assert initialization.described(named) == initialization.described(by_name)
    assert initialization.whereabouts(named) == initialization.whereabouts(by_name)


def test_weights_for_turned_channels_take_red_green_and_blue(file, monkeypatch):
    caffe = weights.find_record("keras/keras_resnet50.imagenet")
    monkeypatch.setattr(initialization, "resolve", lambda config, name: caffe)
    monkeypatch.setattr(
        initialization, "load_pretrained", lambda model, source: weights.load(model, file)
    )
    turned, plain = (
        keras_resnet.create("cifar_resnet20", **_ARGUMENTS, input_shape=(8, 8, 3), classes=7)
        for _ in range(2)
    )
    weights.load(plain, file)
    initialization.prepare(turned, Parameters(**_TINY, init_from="keras/any"), resumed=False)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(turned(images), plain(images[..., ::-1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "gone.safetensors"}, r"trainer\.init_from 'gone\.safetensors'.*that exists"),
        ({"init_from": "timm/resnet18.tv_in1k"}, "these are of resnet18, and the network is"),
        ({"init_from": "imagenet"}, "nobody is known to have trained"),
        ({"freeze_stages": 4}, r"trainer\.freeze_stages: .* one of 0, 1, 2, 3"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(changes, message):
    with pytest.raises(UsageError, match=message):
        trainer.check(Parameters(**_TINY | changes))


def own_network(input_shape, classes):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init_from", "imagenet"),
        ("freeze_stages", 1),
        ("stage_decay", 0.5),
        ("head_learning_rate", 10.0),
    ],
)
def test_a_network_of_ones_own_has_no_stages_that_are_known(name, value):
    changes = {"model": f"{__name__}:own_network", "model_arguments": {}, name: value}
    with pytest.raises(UsageError, match=rf"trainer\.{name} .*own_network is built by its own"):
        trainer.check(Parameters(**_TINY | changes))


def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name = "timm/resnet18.a1_in1k"
    model = keras_resnet.create("resnet18", input_shape=(32, 32, 3), kernel_initializer="zeros")
    with pytest.raises(PipelineError, match=r"put it there as .*resnet18\.a1_in1k\.safetensors"):
        initialization.prepare(model, Parameters(model="resnet18", init_from=name), resumed=False)


def test_a_file_of_another_network_says_which_one_is_asked_for(file):
    model = keras_resnet.create("resnet18", input_shape=(32, 32, 3), kernel_initializer="zeros")
    parameters = Parameters(init_from=str(file), model="resnet18")
    with pytest.raises(
        UsageError, match=r"(?s)Missing .*\nThe network is trainer\.model 'resnet18'; name that"
    ):
        initialization.prepare(model, parameters, resumed=False)


def test_named_weights_come_from_the_cache_with_their_preprocessing(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = weights.cache_path(weights.default_record("resnet18"))
    path.parent.mkdir(parents=True)
    there = keras_resnet.create("resnet18", input_shape=(32, 32, 3), seed=1)
    weights.to_timm(there, path)
    changes = {"model": "resnet18", "model_arguments": {}, "mean": None, "std": None}
    parameters = Parameters(**_TINY | changes, init_from="imagenet")
    model = keras_resnet.create("resnet18", input_shape=(32, 32, 3), classes=6, seed=2)
    initialization.prepare(model, parameters, resumed=False)
    before, after = values(there), values(model)
    for name, value in after.items():
        assert name.startswith("classifier") or (value == before[name]).all(), name
    # No statistics of the images are asked for.
    preprocessing = trainer.preprocessing(parameters, {})
    assert preprocessing == initialization.expected(parameters)
    assert preprocessing.interpolation == "bicubic"
    own = Parameters(**_TINY | changes | {"interpolation": "bilinear", "std": (1.0,) * 3})
    own = trainer.preprocessing(dataclasses.replace(own, init_from="imagenet"), {})
    assert (own.interpolation, own.std, own.mean) == ("bilinear", (1.0,) * 3, preprocessing.mean)


def test_another_file_of_the_same_name_is_another_training(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"one")
    parameters = Parameters(**_TINY, init_from=str(path))
    first = trainer.external(parameters)
    path.write_bytes(b"two")
    assert trainer.external(parameters) != first
    assert trainer.external(Parameters(**_TINY)) is None
