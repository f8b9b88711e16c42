import dataclasses
import inspect
import time

import keras
import numpy as np
import pytest
from keras import ops

from keras_resnet import _backend
from keras_resnet.config import ResNetConfig
from keras_resnet.factory import ResNet
from keras_resnet.layers.bottleneck_block import BottleneckBlock
from keras_resnet.layers.dropout import Dropout
from keras_resnet.layers.residual_block import ResidualBlock
from keras_resnet.layers.stochastic_depth import SCHEDULES, StochasticDepth

BACKEND = keras.config.backend()
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")


def drawn(layer, batch=1000, features=3, **arguments):
    ones = np.ones((batch, 1, 1, features), "float32")
    return ops.convert_to_numpy(layer(ones, training=True, **arguments))


def test_survivors_are_scaled_exactly_and_whole():
    inputs = np.random.default_rng(0).normal(size=(400, 2, 2, 3)).astype("float32")
    outputs = ops.convert_to_numpy(StochasticDepth(0.3, seed=1)(inputs, training=True))
    survives = outputs[:, 0, 0, 0] != 0
    np.testing.assert_array_equal(outputs[~survives], 0)
    # XLA divides by a constant through its reciprocal, which rounds once more.
    expected = inputs[survives] / np.float32(0.7)
    np.testing.assert_allclose(outputs[survives], expected, rtol=2e-7 if BACKEND == "jax" else 0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_each_sample_survives_with_its_probability(rate):
    outputs = drawn(StochasticDepth(rate, seed=2), batch=20_000)[:, 0, 0, 0]
    survivors = np.count_nonzero(outputs) / 20_000
    assert survivors == pytest.approx(1 - rate, abs=4 * np.sqrt(rate * (1 - rate) / 20_000))
    assert outputs.mean() == pytest.approx(1, abs=0.12)


def test_a_batch_lives_or_dies_together():
    layer = StochasticDepth(0.5, "batch", seed=3)
    draws = [drawn(layer, batch=4) for _ in range(60)]
    assert all(np.ptp(draw) == 0 for draw in draws)
    values = [float(draw.flat[0]) for draw in draws]
    assert set(values) == {0.0, 1.0}
    assert 15 < sum(values) < 45


def test_inference():
    inputs = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    for training in (None, False):
        same = StochasticDepth(0.25)(inputs, training=training)
        np.testing.assert_array_equal(ops.convert_to_numpy(same), inputs)
        scaled = StochasticDepth(0.25, "batch")(inputs, training=training)
        np.testing.assert_allclose(ops.convert_to_numpy(scaled), inputs * 0.75, rtol=1e-6)


@pytest.mark.parametrize("mode", ["sample", "batch"])
def test_rate_zero_is_an_identity_without_a_seed(mode):
    layer = StochasticDepth(0, mode)
    inputs = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(inputs, training=True)), inputs)
    assert layer.variables == []


def test_the_seed_decides_and_moves():
    one, same, other = (StochasticDepth(0.5, seed=seed) for seed in (7, 7, 8))
    first, second = drawn(one), drawn(one)
    np.testing.assert_array_equal(first, drawn(same))
    np.testing.assert_array_equal(second, drawn(same))
    assert (first != second).any()
    assert (first != drawn(other)).any()


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, 1.5, float("nan")])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match=r"`rate`.*\[0, 1\).*Received: rate="):
        StochasticDepth(rate)


def test_unknown_mode():
    with pytest.raises(ValueError, match=r"'sample', 'batch'.*Received: mode='row'"):
        StochasticDepth(0.1, mode="row")


def test_the_configuration_is_complete():
    layer = StochasticDepth(0.2, "batch", seed=5, name="drop", dtype="bfloat16")
    config = layer.get_config()
    arguments = set(inspect.signature(StochasticDepth.__init__).parameters)
    assert arguments - {"self", "kwargs"} <= set(config)
    assert StochasticDepth.from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    ).get_config() == (config)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("mode", ["sample", "batch"])
def test_mixed_precision(policy, mode):
    layer = StochasticDepth(0.5, mode, dtype=policy, seed=1)
    outputs = layer(np.ones((64, 2), "float32"), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    assert set(np.unique(outputs)) <= ({0.0, 2.0} if mode == "sample" else {0.0, 1.0})


def test_shapes_may_be_unknown():
    inputs = keras.Input((None, None, 8))
    assert StochasticDepth(0.5)(inputs).shape == (None, None, None, 8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0.0125, 0.025, 0.1, 0.2]),
        ("timm", [0.0, 0.2 / 15, 0.2 * 7 / 15, 0.2]),
        ("stage", [0.08, 0.08, 0.12, 0.2]),
    ],
)
def test_schedules(name, expected):
    rates = SCHEDULES[name](0.2, (3, 4, 6, 3))
    assert [len(stage) for stage in rates] == [3, 4, 6, 3]
    blocks = [rate for stage in rates for rate in stage]
    chosen = [blocks[0], blocks[1], blocks[7] if name != "stage" else rates[1][0], blocks[15]]
    assert chosen == pytest.approx(expected)


def test_schedules_of_one_block():
    one_block = {name: schedule(0.2, (1,)) for name, schedule in SCHEDULES.items()}
    assert one_block == {"linear": ((0.2,),), "timm": ((0.0,),), "stage": ((0.2,),)}


# A block that drops per batch.


def block(rate=0.5, kind=ResidualBlock, **arguments):
    layer = kind(
        4,
        drop_path_rate=rate,
        drop_path_mode="batch",
        zero_init_residual=False,
        seed=11,
        **arguments,
    )
    layer.build((None, 6, 6, 4 if kind is ResidualBlock else 16))
    return layer


def images(channels=4):
    return np.random.default_rng(1).normal(size=(8, 6, 6, channels)).astype("float32")


def statistics(layer):
    return [
        ops.convert_to_numpy(v)
        for v in layer.non_trainable_variables
        if v.path.rsplit("/")[-1].startswith("moving_")
    ]


@pytest.mark.parametrize("order", ["original", "full_preactivation", "bn_after_addition"])
def test_statistics_move_only_when_the_branch_ran(order):
    layer = block(order=order)
    inside = 1 if order == "bn_after_addition" else 2
    skipped = 0
    for _ in range(20):
        before = statistics(layer)
        outputs = ops.convert_to_numpy(layer(images(), training=True))
        moved = [(a != b).any() for a, b in zip(before, statistics(layer), strict=True)]
        if order != "bn_after_addition":
            passed = np.maximum(images(), 0) if order == "original" else images()
            skips = bool((outputs == passed).all())
            assert moved == [not skips] * 2 * inside
        else:  # The batch norm after the addition always runs.
            skips = not moved[0]
            assert moved == [not skips] * 2 + [True] * 2
        skipped += skips
    assert 3 < skipped < 17


def test_the_branch_is_what_it_is_without_stochastic_depth():
    dropping, plain = block(kind=BottleneckBlock), block(rate=0, kind=BottleneckBlock)
    for target, source in zip(plain.weights, dropping.weights, strict=True):
        target.assign(source)
    expected = ops.convert_to_numpy(plain(images(16), training=True))
    for _ in range(10):
        outputs = ops.convert_to_numpy(dropping(images(16), training=True))
        if (outputs != np.maximum(images(16), 0)).any():
            break
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for ours, theirs in zip(statistics(dropping), statistics(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("groups", "data_format"),
    [(1, "channels_last"), (2, "channels_last"), (1, "channels_first")],
)
def test_gradients_are_those_of_the_plain_block_or_zero(groups, data_format):
    """On JAX the convolutions inside the conditional have gradients of our own."""
    shape = (None, 7, 8, 8) if data_format == "channels_last" else (None, 8, 7, 8)
    inputs = np.random.default_rng(2).normal(size=(4, *shape[1:])).astype("float32")

    def build(rate):
        layer = BottleneckBlock(
            4,
            strides=2,
            shortcut="projection",
            groups=groups,
            se_ratio=0.5,
            drop_path_rate=rate,
            drop_path_mode="batch",
            zero_init_residual=False,
            seed=4,
            data_format=data_format,
        )
        layer.build(shape)
        return layer

    dropping, plain = build(0.5), build(0.0)
    for target, source in zip(plain.weights, dropping.weights, strict=True):
        target.assign(source)

    def gradients(layer):
        return _backend.gradients(
            lambda x: ops.sum(ops.square(layer(x, training=True))),
            layer.trainable_variables,
            [inputs],
        )

    _, expected, (expected_of_inputs,) = gradients(plain)
    expected = {
        variable.path: ops.convert_to_numpy(gradient)
        for variable, gradient in zip(plain.trainable_variables, expected, strict=True)
        if "shortcut" not in variable.path
    }
    for survives, seed in seeds_by_fate(dropping.drop_path).items():
        dropping.drop_path.seed_generator.state.assign([seed, 0])
        _, actual, (of_inputs,) = gradients(dropping)
        assert ops.convert_to_numpy(of_inputs).any()
        for variable, gradient in zip(dropping.trainable_variables, actual, strict=True):
            if variable.path not in expected:
                continue
            ours, theirs = ops.convert_to_numpy(gradient), expected[variable.path]
            assert ours.any() == survives, variable.path
            if survives:
                error = np.abs(ours - theirs).max() / np.abs(theirs).max()
                assert error < 1e-4, variable.path
        if survives:
            np.testing.assert_allclose(
                ops.convert_to_numpy(of_inputs),
                ops.convert_to_numpy(expected_of_inputs),
                atol=1e-4 * float(ops.max(ops.abs(expected_of_inputs))),
            )


def seeds_by_fate(layer):
    """A seed with which the next branch survives, and one with which it is dropped."""
    found = {}
    for seed in range(50):
        layer.seed_generator.state.assign([seed, 0])
        found.setdefault(bool(drawn(layer, batch=1).any()), seed)
    assert set(found) == {True, False}
    return found


@pytest.mark.skipif(BACKEND != "jax", reason="XLA's CPU compiler")
@pytest.mark.parametrize(
    ("kernel", "strides", "dilation", "groups", "padding"),
    [
        (3, 1, 1, 1, "same"),
        (3, 2, 1, 1, "valid"),
        (5, 3, 1, 2, "same"),
        (1, 2, 1, 1, "same"),
        (3, 1, 2, 4, "same"),
        (3, 1, 3, 1, "valid"),
    ],
)
def test_convolutions_in_a_conditional_have_the_stock_gradients(
    kernel, strides, dilation, groups, padding
):
    import jax

    layer = keras.layers.Conv2D(
        12, kernel, strides, padding=padding, dilation_rate=dilation, groups=groups
    )
    inputs = np.random.default_rng(0).normal(size=(3, 9, 12, 8)).astype("float32")
    layer.build(inputs.shape)
    arguments = ops.convert_to_tensor(inputs), layer.kernel.value

    @jax.jit
    def stock(*arguments):
        outputs, pull_back = jax.vjp(layer.convolution_op, *arguments)
        return outputs, *pull_back(jax.numpy.sin(outputs))

    @jax.jit
    def ours(*arguments):
        with _backend._inside_conditional():
            outputs, pull_back = jax.vjp(
                lambda x, k: _backend.conditional_convolution(layer, x, k), *arguments
            )
        return outputs, *pull_back(jax.numpy.sin(outputs))

    for actual, expected in zip(ours(*arguments), stock(*arguments), strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=2e-6 * float(abs(expected).max()))


def test_synchronized_batch_norm_is_refused():
    with pytest.raises(ValueError, match="`bn_synchronized` must be False"):
        block(bn_synchronized=True)
    with pytest.raises(ValueError, match="`bn_synchronized` must be False"):
        ResNetConfig(
            depths=(1,),
            widths=(8,),
            drop_path_rate=0.5,
            drop_path_mode="batch",
            bn_synchronized=True,
        )
    if BACKEND == "tensorflow":  # Keras has it nowhere else.
        block(rate=0, bn_synchronized=True)


# Whole networks.


def network(**fields):
    fields = {"drop_path_mode": "batch", "drop_path_schedule": "linear", **fields}
    config = ResNetConfig(
        depths=(2, 1),
        widths=(8, 16),
        block="basic",
        stem="cifar",
        stem_width=8,
        stem_pool=None,
        drop_path_rate=0.5,
        image_size=8,
        default_classes=3,
        **fields,
    )
    return ResNet(config, seed=5)


def data(samples=32):
    random = np.random.default_rng(0)
    return random.normal(size=(samples, 8, 8, 3)).astype("float32"), np.arange(samples) % 3


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mode", ["sample", "batch"])
def test_fit(mode, jit_compile):
    model = network(drop_path_mode=mode)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=jit_compile)
    history = model.fit(*data(), batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    counters = [v for v in model.variables if "seed_generator_state" in v.path]
    assert [int(ops.convert_to_numpy(v)[1]) for v in counters] == [8] * 3


@pytest.mark.skipif(keras.config.backend() == "torch", reason="XLA is not torch's compiler")
def test_what_xla_makes_slow_is_not_compiled_unasked():
    compiles = _backend.compiles_conditionals_well()
    assert StochasticDepth(0.5, "batch").supports_jit == compiles
    assert StochasticDepth(0.5, "sample").supports_jit
    assert StochasticDepth(0.0, "batch").supports_jit
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.jit_compile == compiles


def test_a_dropped_branch_takes_no_time():
    """CPU time, with a wide margin; `python -m benchmarks stochastic_depth` measures it."""
    config = ResNetConfig(
        depths=(4,),
        widths=(16,),
        block="basic",
        stem="cifar",
        stem_width=16,
        stem_pool=None,
        drop_path_mode="batch",
        drop_path_schedule="stage",
        image_size=32,
        default_classes=3,
    )
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(64, 32, 32, 3)).astype("float32"), np.arange(64) % 3

    def seconds(rate):
        model = ResNet(dataclasses.replace(config, drop_path_rate=rate), seed=1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.train_on_batch(images, labels)
        times = []
        for _ in range(5):
            start = time.process_time()
            model.train_on_batch(images, labels)
            times.append(time.process_time() - start)
        return min(times)

    always, never = 1 - 1e-7, 1e-7
    assert seconds(always) < 0.6 * seconds(never)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_fit_in_mixed_precision(policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = network(block_dropout_rate=0.1, order="full_preactivation", se_ratio=0.25)
    finally:
        keras.config.set_dtype_policy(previous)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.fit(*data(), batch_size=8, verbose=0).history["loss"]).all()


def test_a_saved_network_predicts_the_same(tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inputs, _ = data(4)
    np.testing.assert_array_equal(model.predict_on_batch(inputs), again.predict_on_batch(inputs))
    assert again.get_layer("stage2_block1").drop_path.rate == 0.5


@only_tensorflow
class TestReplicas:
    @pytest.mark.parametrize("mode", ["sample", "batch"])
    def test_each_draws_its_own_masks(self, two_replicas, mode):
        import tensorflow as tf

        with two_replicas.scope():
            layer = StochasticDepth(0.5, mode, seed=1)

        @tf.function
        def draw():
            return two_replicas.run(lambda: layer(tf.ones((64, 1)), training=True))

        draws = [two_replicas.experimental_local_results(draw()) for _ in range(12)]
        assert any((a.numpy() != b.numpy()).any() for a, b in draws)
        assert int(layer.seed_generator.state.value[1]) == 12

    def test_dropout_draws_its_own_masks_as_well(self, two_replicas):
        import tensorflow as tf

        with two_replicas.scope():
            layer = Dropout(0.5, seed=1)
        draw = tf.function(lambda: two_replicas.run(lambda: layer(tf.ones((4, 64)), training=True)))
        first, second = two_replicas.experimental_local_results(draw())
        assert (first.numpy() != second.numpy()).any()
        assert set(np.unique(first)) == {0.0, 2.0}

    def test_training_skips_on_each_replica_by_itself(self, two_replicas):
        import tensorflow as tf

        with two_replicas.scope():
            model = network()
            optimizer = keras.optimizers.SGD(0.01)
            optimizer.build(model.trainable_variables)
        inputs, labels = data(8)

        def replica_step():
            with tf.GradientTape() as tape:
                outputs = model(inputs, training=True)
                loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, outputs))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        step = tf.function(lambda: two_replicas.run(replica_step))
        moving = model.get_layer("stage2_block1").bn1.moving_mean.value
        before, patterns = None, set()
        for _ in range(16):
            losses = two_replicas.experimental_local_results(step())
            now = [value.numpy() for value in two_replicas.experimental_local_results(moving)]
            if before is not None:
                patterns.add(tuple((a != b).any() for a, b in zip(before, now, strict=True)))
            before = now
        assert np.isfinite([float(loss) for loss in losses]).all()
        assert len(patterns & {(True, False), (False, True)}) > 0
