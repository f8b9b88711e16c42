import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from pipeline.training import strategy
from pipeline.training.loop import Loop

_CLASSES = 3
_BATCH = 8


def data(number=24, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, _CLASSES, number)
    images = generator.normal(size=(number, 8, 8, 3)).astype(np.float32)
    return images + labels[:, None, None, None], labels


def batches(seed=0):
    images, labels = data(seed=seed)
    return tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(_BATCH)


def make(name, precision="float32", learning_rate=0.05, **arguments):
    chosen = strategy.make(name)
    keras.utils.set_random_seed(0)
    with chosen.scope():
        model = keras_resnet.create(
            "cifar_resnet20",
            depths=(1, 1, 1),
            widths=(4, 4, 4),
            stem_width=4,
            input_shape=(8, 8, 3),
            classes=_CLASSES,
            classifier_activation=None,
            bn_synchronized=chosen.num_replicas_in_sync > 1,
            dtype=precision,
        )
        optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)
    return Loop(chosen, model, optimizer, _BATCH, **arguments), model


def test_mirrored_means_both_devices_here():
    assert strategy.make("mirrored").num_replicas_in_sync == 2
    assert strategy.make("one_device").num_replicas_in_sync == 1
    # A second strategy over the same devices would reuse the numbers of collective operations.
    assert strategy.make("mirrored") is strategy.make("mirrored")


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns():
    found = {}
    for name in ("one_device", "mirrored"):
        loop, model = make(name, weight_decay=1e-2, label_smoothing=0.1)
        losses = [progress.loss for progress in loop.fit(batches(), 6, 6, 2)]
        found[name] = losses, model.get_weights()
    np.testing.assert_allclose(found["mirrored"][0], found["one_device"][0], rtol=1e-4)
    for one, two in zip(found["one_device"][1], found["mirrored"][1], strict=True):
        np.testing.assert_allclose(two, one, atol=2e-4 * max(1.0, abs(one).max()))


def test_a_step_does_what_the_formula_says():
    """One step of SGD with the penalty λ/2·‖w‖² against the same step written out."""
    decay, smoothing, rate = 0.1, 0.2, 0.05
    loop, model = make("one_device", weight_decay=decay, label_smoothing=smoothing)
    images, labels = next(iter(batches()))
    before = model.get_weights()
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        targets = tf.one_hot(labels, _CLASSES) * (1 - smoothing) + smoothing / _CLASSES
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    expected = []
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if len(variable.shape) > 1:
            gradient = gradient + decay * variable.value
        expected.append(variable.value - rate * (gradient + 0.9 * gradient))  # Nesterov, step 1
    model.set_weights(before)

    for _ in loop.fit(batches(), 1, 1, 1):
        pass
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.value, value, atol=1e-5, err_msg=variable.path)


def test_progress_is_reported_per_round_and_at_the_end_of_every_epoch():
    loop, _ = make("one_device")
    reported = list(loop.fit(batches(), 10, 5, 3))
    assert [progress.step for progress in reported] == [3, 5, 8, 10]
    assert all(0 <= progress.accuracy <= 1 for progress in reported)
    assert all(progress.learning_rate == pytest.approx(0.05) for progress in reported)
    assert all(progress.images_per_second > 0 for progress in reported)


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_evaluation_counts_what_has_weight(name):
    loop, model = make(name)
    images, labels = data(11)
    logits = model.predict(images, verbose=0)
    weights = np.ones(16, np.float32)
    weights[11:] = 0
    filled = images[np.arange(16) % 11], labels[np.arange(16) % 11], weights
    found = loop.evaluate(tf.data.Dataset.from_tensor_slices(filled).batch(_BATCH))
    assert found.accuracy == pytest.approx((logits.argmax(-1) == labels).mean())
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert found.loss == pytest.approx(float(entropy), rel=1e-5)


def test_it_learns_in_mixed_precision_with_float32_weights():
    loop, model = make("one_device", "mixed_bfloat16")
    losses = [progress.loss for progress in loop.fit(batches(), 40, 40, 10)]
    assert losses[-1] < 0.7 * losses[0]
    assert {w.dtype for w in model.weights} == {"float32"}
    assert model.get_layer("stage1_block1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_a_loss_that_is_not_finite_names_the_steps():
    loop, _ = make("one_device")
    images, labels = data()
    images[17] = np.nan
    bad = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(_BATCH)
    with pytest.raises(FloatingPointError, match="the loss is nan in steps 3 to 4"):
        list(itertools.islice(loop.fit(bad, 6, 6, 2), 3))
