"""Fine-tuning: what is frozen stays, and each part learns at its own rate."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import (
    FineTuningAdamW,
    FineTuningLAMB,
    FineTuningSGD,
    prepare_finetuning,
    recipes,
    stage_learning_rates,
)
from keras_resnet.config import ResNetConfig

TINY = ResNetConfig(
    depths=(1, 1, 1),
    widths=(4, 6, 8),
    block="basic",
    stem="cifar",
    stem_width=4,
    stem_pool=None,
    zero_init_residual=False,
)
IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
LABELS = np.arange(8) % 3


def trained(order="original", **arguments):
    config = ResNetConfig(**{**TINY.to_dict(), "order": order})
    return keras_resnet.ResNet(config, input_shape=(8, 8, 3), classes=5, **arguments)


def values(model):
    # Copies, as JAX gives the arrays of a model away when it trains.
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights}


def moved(model, steps=2):
    """Paths of the weights that training changes, statistics included."""
    before = values(model)
    for _ in range(steps):
        model.train_on_batch(IMAGES, LABELS)
    after = values(model)
    return {path for path in before if (before[path] != after[path]).any()}


def parts(paths):
    return {path.split("_")[0].split("/")[0] for path in paths}


@pytest.mark.parametrize(
    ("freeze_stages", "learning"),
    [
        (0, {"stem", "stage1", "stage2", "stage3", "classifier"}),
        (2, {"stage3", "classifier"}),
        (3, {"classifier"}),
    ],
)
def test_frozen_stages_and_their_statistics_stay(freeze_stages, learning):
    model = prepare_finetuning(trained(), 3, freeze_stages)
    assert model.output_shape == (None, 3)
    model.compile(FineTuningSGD(0.1), "sparse_categorical_crossentropy")
    changed = moved(model)
    assert parts(changed) == learning == parts(v.path for v in model.trainable_variables)
    assert any("moving_mean" in path for path in changed) == (freeze_stages < 3)


def test_what_is_frozen_stays_frozen_in_a_file(tmp_path):
    model = prepare_finetuning(trained(), 3, freeze_stages=2)
    model.compile(FineTuningSGD(0.1, {"stage3_.*": 0.5}), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.config == TINY
    assert again.optimizer.multipliers == {"stage3_.*": 0.5}
    assert parts(moved(again)) == {"stage3", "classifier"}


def test_frozen_batch_norm_works_as_in_inference():
    """Where everything is frozen, training computes what inference does."""
    source = trained()
    for variable in source.weights:
        if "moving" in variable.path:
            variable.assign(np.random.default_rng(1).uniform(0.5, 2, variable.shape))
    model = prepare_finetuning(source, 3, freeze_stages=3)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(IMAGES, training=True)),
        keras.ops.convert_to_numpy(model(IMAGES, training=False)),
        rtol=1e-5,
    )


def test_batch_norm_can_be_frozen_in_all_stages():
    model = prepare_finetuning(trained(), 3, 1, freeze_batch_norm=True)
    model.compile(FineTuningSGD(0.1), "sparse_categorical_crossentropy")
    changed = moved(model)
    assert parts(changed) == {"stage2", "stage3", "classifier"}
    assert not any("bn" in path for path in changed)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"include_top": False}, {"include_top": False, "pooling": "avg"}],
)
@pytest.mark.parametrize("order", ["original", "full_preactivation"])
def test_the_features_are_those_of_the_trained_network(order, arguments):
    source = trained(order, **arguments)
    model = prepare_finetuning(source, 3, freeze_stages=3, classifier_activation=None)
    pooled = keras.Model(model.inputs, model.get_layer("pool").output)
    features = keras_resnet.ResNet(
        source.config, input_shape=(8, 8, 3), include_top=False, pooling="avg"
    )
    features.set_weights([keras.ops.convert_to_numpy(v) for v in model.weights[:-2]])
    np.testing.assert_allclose(
        pooled.predict_on_batch(IMAGES), features.predict_on_batch(IMAGES), rtol=1e-5, atol=1e-6
    )
    assert parts(v.path for v in model.trainable_variables) == {"classifier"}


def test_head_of_its_own_dtype_and_dropout():
    source = keras_resnet.ResNet(TINY, input_shape=(8, 8, 3), classes=5, dtype="mixed_bfloat16")
    model = prepare_finetuning(source, 3, dropout_rate=0.5)
    assert model.get_layer("classifier").compute_dtype == "float32"
    assert model.get_layer("dropout").rate == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "`classes`"),
        ({"classes": 1}, "`classes` must be at least 2 with a softmax"),
        ({"freeze_stages": 4}, "`freeze_stages` must be one of 0, 1, 2, 3"),
        ({"freeze_batch_norm": 2}, "`freeze_batch_norm`"),
        ({"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])}, "0 stems"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare_finetuning(**{"model": trained(), "classes": 3, **arguments})


def test_a_name_is_no_model():
    with pytest.raises(TypeError, match=r"`model` must be a network.*'resnet18'"):
        prepare_finetuning("resnet18", 3)


def test_one_class_may_have_a_sigmoid_or_logits():
    for activation in ("sigmoid", None):
        assert (
            prepare_finetuning(trained(), 1, classifier_activation=activation).output_shape[1] == 1
        )


def step(kind, multipliers, **arguments):
    """How far one step with gradients of 1 moves each variable of weights of 1."""
    model = prepare_finetuning(trained(), 3)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape, "float32"))
    optimizer = kind(0.5, multipliers, **arguments)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    return {v.path: 1 - keras.ops.convert_to_numpy(v) for v in variables}


@pytest.mark.parametrize("kind", [FineTuningSGD, FineTuningAdamW, FineTuningLAMB])
def test_each_part_moves_at_its_own_rate(kind):
    rates = stage_learning_rates(trained(), decay=0.5, classifier=10.0)
    expected = {"stem": 0.25, "stage1": 0.25, "stage2": 0.5, "stage3": 1.0, "classifier": 10.0}
    for path, difference in step(kind, rates).items():
        (part,) = parts([path])
        np.testing.assert_allclose(difference, 0.5 * expected[part], rtol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("wrn_cifar", FineTuningSGD),
        ("rsb_a3", FineTuningLAMB),
    ],
)
def test_a_recipe_with_rates_of_its_own(recipe, kind):
    found = recipes.get(recipe)
    rates = stage_learning_rates(trained(), classifier=10.0)
    optimizer = found.make_optimizer(10, multipliers=rates)
    assert type(optimizer) is kind
    plain = found.make_optimizer(10)
    assert not isinstance(plain, kind)
    expected = {**plain.get_config(), "name": optimizer.name, "multipliers": rates}
    assert optimizer.get_config() == expected


@pytest.mark.parametrize("form", ["l2", "decoupled"])
def test_no_weight_decay_on_batch_norm_and_biases_and_elsewhere_at_its_rate(form):
    difference = step(FineTuningSGD, {"stage3_.*": 0.1}, decay=0.2, form=form)
    np.testing.assert_allclose(difference["stage3_block1/bn1/gamma"], 0.05, rtol=1e-5)
    np.testing.assert_allclose(difference["stage3_block1/conv1/kernel"], 0.05 * 1.2, rtol=1e-5)
    np.testing.assert_allclose(difference["stage2_block1/conv1/kernel"], 0.5 * 1.2, rtol=1e-5)
    np.testing.assert_allclose(difference["classifier/bias"], 0.5, rtol=1e-5)


def test_patterns_that_overlap_and_rates_out_of_range():
    with pytest.raises(ValueError, match=r"'stage1_\.\*' and '\.\*kernel' match 'stage1_block1"):
        step(FineTuningSGD, {"stage1_.*": 0.1, ".*kernel": 0.2})
    with pytest.raises(ValueError, match="multipliers"):
        FineTuningSGD(0.1, {"stem/.*": 0.0})
    with pytest.raises(ValueError, match="`decay`"):
        stage_learning_rates(trained(), decay=0)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="a strategy of TensorFlow")
def test_rates_hold_on_two_replicas(two_replicas):
    import tensorflow as tf

    with two_replicas.scope():
        model = prepare_finetuning(trained(), 3, 2)
        optimizer = FineTuningSGD(0.5, {"stage3_.*": 0.1})
        optimizer.build(model.trainable_variables)
        before = values(model)

    @tf.function
    def run():
        def replica():
            variables = model.trainable_variables
            optimizer.apply([tf.ones(v.shape) for v in variables], variables)

        two_replicas.run(replica)

    run()
    # Gradients are summed up over the replicas.
    after = values(model)
    path = "stage3_block1/conv1/kernel"
    np.testing.assert_allclose(before[path] - after[path], 0.1, rtol=1e-3)
    path = "classifier/bias"
    np.testing.assert_allclose(before[path] - after[path], 1.0, rtol=1e-3)
