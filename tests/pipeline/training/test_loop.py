import itertools
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.recipes import Augmentation, Recipe
from pipeline.training import strategy
from pipeline.training.inputs import Batch, Share
from pipeline.training.loop import Loop, Objective
from pipeline.training.precision import LossScale
from pipeline.training.preprocessing import Preprocessing

_CLASSES = 3
_BATCH = 8
_EXPECTED = Preprocessing(height=8, width=8, mean=(100.0,) * 3, std=(60.0,) * 3)


def data(number=24, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, _CLASSES, number)
    pixels = generator.integers(0, 100, (number, 8, 8, 3)) + 70 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


def distributed(chosen, dataset, parts=1):
    """Shares batches out as `inputs` does: one after the other for each replica."""

    def feed(context):
        share = Share(_BATCH, context.num_replicas_in_sync, parts=parts)
        return dataset.rebatch(share.per_replica)

    return chosen.distribute_datasets_from_function(feed)


def batches(chosen, start=0, images=None, weights=None, pause=0.0, parts=1):
    images, labels = data() if images is None else images
    weights = np.ones(len(labels), np.float32) if weights is None else weights

    def batch(step):
        time.sleep(pause)
        rows = (np.arange(_BATCH) + step * _BATCH) % len(labels)
        return images[rows], labels[rows], weights[rows], np.full(_BATCH, step), np.arange(_BATCH)

    types = (images.dtype, tf.int64, tf.float32, tf.int64, tf.int64)
    shapes = ([_BATCH, 8, 8, 3], [_BATCH], [_BATCH], [_BATCH], [_BATCH])

    def call(step):
        found = tf.numpy_function(batch, [step], types, stateful=False)
        return Batch(*(tf.ensure_shape(f, s) for f, s in zip(found, shapes, strict=True)))

    return distributed(chosen, tf.data.Dataset.range(start, 1000).map(call), parts)


def make(
    name,
    precision="float32",
    learning_rate=0.05,
    synchronized=True,
    network=None,
    loop=None,
    recipe=None,
    **objective,
):
    chosen = strategy.make(name)
    keras.utils.set_random_seed(0)
    fields = {"drop_path_rate": 0.0, **(network or {})}
    with chosen.scope():
        model = keras_resnet.create(
            "cifar_resnet20",
            depths=(1, 1, 1),
            widths=(4, 4, 4),
            stem_width=4,
            input_shape=(8, 8, 3),
            classes=_CLASSES,
            classifier_activation=None,
            bn_synchronized=synchronized and chosen.num_replicas_in_sync > 1,
            dtype=precision,
            **fields,
        )
        chosen_recipe = Recipe(
            learning_rate=max(learning_rate, 1e-9),
            schedule="constant",
            nesterov=True,
            **recipe or {},
        )
        optimizer = chosen_recipe.make_optimizer(1, learning_rate=float(learning_rate))
        scale = LossScale() if precision == "mixed_float16" else None
    objective = Objective(_EXPECTED, chosen_recipe, **objective)
    return (
        Loop(chosen, model, optimizer, _BATCH, objective, loss_scale=scale, **(loop or {})),
        model,
        chosen,
    )


def values(loop):
    return {name: np.asarray(v.numpy()) for name, v in loop.variables.items()}


def train(loop, chosen, steps, steps_per_loop=2, **arguments):
    return list(loop.fit(batches(chosen, **arguments), 0, steps, steps, steps_per_loop))


def test_mirrored_means_both_devices_here():
    assert strategy.make("mirrored").num_replicas_in_sync == 2
    assert strategy.make("one_device").num_replicas_in_sync == 1
    assert strategy.workers(strategy.make("mirrored")) == 1
    # A second strategy over the same devices would reuse the numbers of collective operations.
    assert strategy.make("mirrored") is strategy.make("mirrored")


def test_a_loss_with_a_sigmoid_for_each_class():
    """RSB's: the mean over classes of the binary cross-entropies, as `recipes` has it."""
    loop, model, chosen = make("one_device", recipe={"loss": "bce"})
    images, labels = (array[:_BATCH] for array in data())
    before = model.get_weights()
    logits = model((images.astype(np.float32) - 100) / 60, training=True)
    model.set_weights(before)
    expected = tf.reduce_mean(Recipe(loss="bce").loss_per_example(tf.one_hot(labels, 3), logits))
    (progress,) = train(loop, chosen, 1)
    assert progress.loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns():
    """The same global batches, augmented, through synchronised batch normalisation, 20 steps."""
    found = {}
    for name in ("one_device", "mirrored"):
        loop, _, chosen = make(
            name,
            recipe={"weight_decay": 1e-2, "label_smoothing": 0.1},
            augmentation=Augmentation(shift=2, flip=True, rotation=0.1, zoom=0.2),
            loop={"ema_decay": 0.9},
        )
        weights = np.linspace(0.5, 1.5, 24).astype(np.float32)
        losses = [progress.loss for progress in train(loop, chosen, 20, weights=weights)]
        found[name] = losses, values(loop)
    np.testing.assert_allclose(found["mirrored"][0], found["one_device"][0], rtol=1e-3)
    one, two = found["one_device"][1], found["mirrored"][1]
    assert one.keys() == two.keys()
    greatest = max(abs(value).max() for name, value in one.items() if name.startswith("model"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-3 * greatest, err_msg=name)


def test_a_step_does_what_the_formula_says():
    """One step of SGD with weights of examples and the gradient of λ/2·‖w‖², written out."""
    decay, smoothing, rate = 0.1, 0.2, 0.05
    recipe = {"weight_decay": decay, "label_smoothing": smoothing}
    loop, model, chosen = make("one_device", recipe=recipe)
    images, labels = (array[:_BATCH] for array in data())
    weights = np.linspace(0, 2, 24).astype(np.float32)
    before = model.get_weights()
    with tf.GradientTape() as tape:
        logits = model((images.astype(np.float32) - 100) / 60, training=True)
        targets = tf.one_hot(labels, _CLASSES) * (1 - smoothing) + smoothing / _CLASSES
        entropy = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        loss = tf.reduce_mean(entropy * weights[:_BATCH])
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    expected = []
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if len(variable.shape) > 1:
            gradient = gradient + decay * variable.value
        expected.append(variable.value - rate * (gradient + 0.9 * gradient))  # Nesterov, step 1
    model.set_weights(before)

    (progress,) = train(loop, chosen, 1, weights=weights)
    assert progress.loss == pytest.approx(float(loss), rel=1e-5)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.value, value, atol=1e-5, err_msg=variable.path)


def test_progress_is_reported_per_round_and_at_the_end_of_every_epoch():
    loop, _, chosen = make("one_device")
    reported = list(loop.fit(batches(chosen), 0, 12, 5, 3))
    assert [progress.step for progress in reported] == [3, 5, 8, 10, 12]
    assert all(0 <= progress.accuracy <= 1 for progress in reported)
    assert all(progress.learning_rate == pytest.approx(0.05) for progress in reported)
    assert all(progress.images_per_second > 0 for progress in reported)
    assert not any(progress.skipped for progress in reported)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_time_that_steps_wait_for_input_is_measured(deterministic):
    def waits(pause):
        loop, _, chosen = make("one_device", loop={"deterministic": deterministic})
        rounds = train(loop, chosen, 20, 5, pause=pause)[1:]  # the first one traces
        assert all(0 <= progress.input_wait <= progress.seconds for progress in rounds)
        return [progress.input_wait / progress.seconds for progress in rounds]

    assert max(waits(pause=0.1)) > 0.5
    assert min(waits(pause=0.0)) < 0.4


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_evaluation_counts_what_has_weight(name):
    loop, model, chosen = make(name)
    images, labels = data(11)
    logits = model.predict((images.astype(np.float32) - 100) / 60, verbose=0)
    rows, weights = np.arange(16) % 11, (np.arange(16) < 11).astype(np.float32)
    filled = Batch(images[rows], labels[rows], weights, np.zeros(16, int), np.arange(16))
    dataset = tf.data.Dataset.from_tensor_slices(filled).batch(_BATCH)
    found = loop.evaluate(distributed(chosen, dataset), 2)
    assert found.accuracy == pytest.approx((logits.argmax(-1) == labels).mean())
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert found.loss == pytest.approx(float(entropy), rel=1e-5)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, logits.argmax(-1)), 1)
    np.testing.assert_array_equal(found.confusion, confusion)


def test_it_learns_in_mixed_precision_with_float32_weights():
    loop, model, chosen = make("one_device", "mixed_bfloat16")
    losses = [progress.loss for progress in train(loop, chosen, 40, 10)]
    assert losses[-1] < 0.7 * losses[0]
    assert {w.dtype for w in model.weights} == {"float32"}
    assert model.get_layer("stage1_block1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_of_every_step_its_loss_and_its_gradient_are_noted():
    loop, _, chosen = make("one_device")
    weights = np.ones(24, np.float32)
    weights[3 * _BATCH - 7] = np.nan
    rounds = list(itertools.islice(loop.fit(batches(chosen, weights=weights), 0, 6, 6, 2), 3))
    losses = np.concatenate([progress.losses for progress in rounds])
    norms = np.concatenate([progress.gradient_norms for progress in rounds])
    assert [len(progress.losses) for progress in rounds] == [2, 2, 2]
    assert rounds[0].loss == pytest.approx(losses[:2].mean())
    np.testing.assert_array_equal(np.isfinite(losses), [True, True, False, False, False, False])
    np.testing.assert_array_equal(np.isfinite(norms), np.isfinite(losses))


@pytest.mark.slow
def test_xla_computes_the_same_of_the_same_images():
    losses = []
    for jit_compile in (False, True):
        loop, _, chosen = make(
            "one_device",
            augmentation=Augmentation(shift=2, flip=True),
            loop={"jit_compile": jit_compile},
        )
        losses.append([progress.loss for progress in train(loop, chosen, 4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def per_replica(variable):
    """The values of a variable on each replica."""
    return [np.asarray(v) for v in getattr(variable.value, "values", [variable.value])]


@pytest.mark.slow
def test_an_infinite_gradient_on_one_replica_skips_the_step_on_all():
    """Keras' own scale looks at the first replica alone, and writes NaN into the weights."""
    loop, model, chosen = make("mirrored", "mixed_float16", loop={"ema_decay": 0.5})
    weights = np.ones(24, np.float32)
    weights[_BATCH + 5] = np.inf  # of step 2, in the second half of the batch
    rounds = loop.fit(batches(chosen, weights=weights), 0, 3, 3, 1)
    assert next(rounds).skipped == 0
    before = values(loop)

    skipped = next(rounds)
    assert skipped.skipped == 1
    assert np.isnan(skipped.loss)
    after = values(loop)
    assert after["loss_scale/factor"] == before["loss_scale/factor"] / 2
    assert after.pop("loss_scale/good_steps") == 0
    for name, value in after.items():
        if name != "loss_scale/factor":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    for variable in (*model.weights, *loop.variables.values()):
        first, *others = per_replica(variable) if hasattr(variable, "path") else [0]
        for other in others:
            np.testing.assert_array_equal(first, other)

    assert next(rounds).skipped == 0
    assert all(np.isfinite(value).all() for value in values(loop).values())
    assert any((values(loop)[name] != value).any() for name, value in before.items())


def test_the_loss_scale_of_float16_falls_while_nothing_helps():
    loop, _, chosen = make("one_device", "mixed_float16")
    weights = np.full(24, np.inf, np.float32)
    rounds = train(loop, chosen, 20, 10, weights=weights)
    assert [progress.loss_scale for progress in rounds] == [2.0**5, 2.0**-5]
    assert [progress.skipped for progress in rounds] == [10, 10]
    assert np.isnan(rounds[0].losses).all()


def plain(name, loop=None, precision="float32", learning_rate=0.05):
    """A loop over a network without batch normalisation."""
    chosen = strategy.make(name)
    keras.utils.set_random_seed(0)
    with chosen.scope():
        images = keras.Input((8, 8, 3))
        features = keras.layers.Conv2D(6, 3, activation="relu", dtype=precision)(images)
        pooled = keras.layers.GlobalAveragePooling2D(dtype=precision)(features)
        logits = keras.layers.Dense(_CLASSES, dtype="float32")(pooled)
        model = keras.Model(images, logits)
        optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)
        scale = LossScale() if precision == "mixed_float16" else None
    objective = Objective(_EXPECTED, augmentation=Augmentation(shift=1, flip=True))
    return Loop(chosen, model, optimizer, _BATCH, objective, loss_scale=scale, **loop or {}), chosen


@pytest.mark.parametrize("parts", [2, 8])
def test_parts_of_a_batch_make_the_step_of_the_whole(parts):
    found = []
    for accumulate in (1, parts):
        loop, chosen = plain("one_device", {"accumulate": accumulate, "ema_decay": 0.9})
        rounds = train(loop, chosen, 4, parts=accumulate)
        noted = [(p.loss, p.accuracy, *p.losses, *p.gradient_norms) for p in rounds]
        found.append((noted, values(loop)))
    (whole, one), (summed, other) = found
    np.testing.assert_allclose(summed, whole, rtol=1e-5)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_parts_on_two_replicas_in_float16_skip_a_bad_step_whole():
    """And they leave nothing of it behind for the next one."""
    weights = np.ones(24, np.float32)
    weights[_BATCH + 5] = np.inf
    found = []
    for name, accumulate in (("one_device", 1), ("mirrored", 2)):
        loop, chosen = plain(name, {"accumulate": accumulate}, "mixed_float16")
        rounds = train(loop, chosen, 3, 3, parts=accumulate, weights=weights)
        assert [progress.skipped for progress in rounds] == [1]
        found.append(values(loop))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=1e-3, err_msg=name)


def test_batch_normalisation_sees_the_parts_one_by_one():
    """Its moving mean after one step, by hand, from both halves of the first batch."""
    loop, model, chosen = make("one_device", learning_rate=0.0, loop={"accumulate": 2})
    (variable,) = (v for v in model.weights if v.path == "stem/bn1/moving_mean")
    images = (data()[0][:_BATCH].astype(np.float32) - 100) / 60
    mean = 0.0
    for half in np.split(images, 2):
        mean = 0.9 * mean + 0.1 * tf.reduce_mean(model.get_layer("stem").conv1(half), (0, 1, 2))
    train(loop, chosen, 1, 1, parts=2)
    np.testing.assert_allclose(variable.numpy(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["one_device", pytest.param("mirrored", marks=pytest.mark.slow)])
def test_a_long_gradient_is_shortened_once_the_replicas_have_summed_it(name):
    """Without momentum a step is as long as the learning rate times the limit."""
    lengths = []
    for clip in (None, 0.01, 1e6):
        loop, chosen = plain(name, {"clip_norm": clip}, learning_rate=0.5)
        before = values(loop)
        (progress,) = train(loop, chosen, 1)
        after = values(loop)
        moved = [after[k] - before[k] for k in after if k.startswith("model")]
        # Nesterov's first step is 1.9 times as long as that of plain descent.
        lengths.append(np.sqrt(sum((m**2).sum() for m in moved)) / (0.5 * 1.9))
        assert progress.gradient_norms[0] > 0.1
    free, shortened, unlimited = lengths
    assert shortened == pytest.approx(0.01, rel=1e-4)
    assert unlimited == pytest.approx(free, rel=1e-5)
    # Norms of parts are at least that of their sum.
    assert progress.gradient_norms[0] >= free * (1 - 1e-4)
    if name == "one_device":
        assert progress.gradient_norms[0] == pytest.approx(free, rel=1e-4)


@pytest.mark.slow
def test_moving_statistics_of_replicas_are_averaged_and_not_those_of_the_first():
    """A replica's own statistics after a round, by hand, from the first batch of each."""
    loop, model, chosen = make(
        "mirrored", synchronized=False, learning_rate=0.0, loop={"ema_decay": 0.9}
    )
    (variable,) = (v for v in model.weights if v.path == "stem/bn1/moving_mean")
    images = (data()[0][:_BATCH].astype(np.float32) - 100) / 60
    means = [
        tf.reduce_mean(model.get_layer("stem").conv1(half), axis=(0, 1, 2))
        for half in np.split(images, 2)
    ]
    assert np.abs(means[0] - means[1]).max() > 1e-3
    train(loop, chosen, 1, 1)
    for value in per_replica(variable):
        np.testing.assert_allclose(value, 0.1 * (means[0] + means[1]) / 2, rtol=1e-4, atol=1e-6)
    for name, averaged in loop.variables.items():
        if name.startswith("ema"):
            first, second = (np.asarray(v) for v in averaged.values)
            np.testing.assert_array_equal(first, second)


def test_the_average_of_the_weights_is_what_is_evaluated():
    loop, model, chosen = make("one_device", loop={"ema_decay": 0.99})
    start = model.get_weights()
    after = []
    for _ in loop.fit(batches(chosen), 0, 3, 3, 1):
        after.append(model.get_weights())
    expected = start
    for step, weights in enumerate(after, 1):
        keep = min(0.99, (1 + step) / (10 + step))
        expected = [keep * e + (1 - keep) * w for e, w in zip(expected, weights, strict=True)]
    own = model.get_weights()
    with loop.averaged():
        for found, value in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, value, atol=1e-6)
        averaged = model.predict((data(4)[0] - 100.0) / 60, verbose=0)
    for found, value in zip(model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(found, value)
    assert np.abs(averaged - model.predict((data(4)[0] - 100.0) / 60, verbose=0)).max() > 1e-4


def test_going_on_from_the_variables_is_as_if_nothing_had_happened():
    """Drop path draws from seed generators, which Keras itself saves nowhere."""
    make_ = {"network": {"drop_path_rate": 0.5}, "loop": {"ema_decay": 0.9}}
    loop, _, chosen = make("one_device", **make_)
    seeds = [
        name
        for name, value in values(loop).items()
        if name.startswith("model") and value.dtype == np.int64
    ]
    assert len(seeds) == 2
    train(loop, chosen, 6)
    whole = values(loop)

    loop, _, chosen = make("one_device", **make_)
    list(loop.fit(batches(chosen), 0, 4, 6, 2))
    kept = values(loop)
    loop, _, chosen = make("one_device", **make_)
    for name, variable in loop.variables.items():
        variable.assign(kept[name])
    list(loop.fit(batches(chosen, start=4), 4, 6, 6, 2))
    found = values(loop)
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
        if name in seeds:
            assert (kept[name] != value).any()
