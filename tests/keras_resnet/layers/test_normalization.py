"""Batch normalization in one operation computes what Keras computes in ten."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_resnet
from keras_resnet import _backend, factory
from keras_resnet.layers import _composite
from keras_resnet.layers._normalization import BatchNormalization

TOLERANCES = {
    "float32": 1e-5,
    "mixed_bfloat16": 1e-2,
    "mixed_float16": 2e-3,
    "bfloat16": 1e-2,
    "float16": 2e-3,
    "float64": 1e-12,
}


def pair(dtype="float32", **arguments):
    """Returns our layer and Keras', with the same parameters."""
    made = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(momentum=0.8, epsilon=1e-3, dtype=dtype, **arguments)
        layer.build((None, None, None, 4))
        for variable, low in ((layer.gamma, 0.5), (layer.beta, -1.0)):
            if variable is not None:
                variable.assign(np.linspace(low, 2, 4))
        made.append(layer)
    return made


def learned(layer, images, weights):
    """Returns outputs, gradients and moving statistics of a step."""
    layer.moving_mean.assign(np.zeros(4))
    layer.moving_variance.assign(np.ones(4))
    inputs = ops.cast(images, layer.compute_dtype)
    outputs = layer(inputs, training=True)
    statistics = [layer.moving_mean, layer.moving_variance]

    def loss(inputs):
        return ops.sum(ops.cast(layer(inputs, training=True), "float64") * weights)

    found = [ops.cast(one, "float64") for one in (outputs, *statistics)]
    _, of_variables, of_inputs = _backend.gradients(
        loss, layer.trainable_variables, [inputs], layer.non_trainable_variables
    )
    return found + [ops.cast(one, "float64") for one in (*of_variables, *of_inputs)]


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX has no float64 here")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (2, 1, 1, 4), (1, 1, 1, 4)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_step_is_that_of_keras(dtype, shape, offset):
    random = np.random.default_rng(0)
    images = random.normal(offset, 3, shape)
    weights = random.normal(size=shape)
    ours, keras_ = (learned(layer, images, weights) for layer in pair(dtype))
    for mine, theirs in zip(ours, keras_, strict=True):
        scale = max(1.0, float(ops.max(ops.abs(theirs))))
        # Where two numbers make a batch, the difference of two roundings is divided by little.
        wide = 10 if shape[1] == 1 else 1
        np.testing.assert_allclose(
            mine, theirs, atol=wide * TOLERANCES[dtype] * scale * max(1.0, offset / 30)
        )


@pytest.mark.parametrize("arguments", [{"scale": False}, {"center": False}, {"renorm": True}])
def test_what_has_no_operation_of_its_own_is_left_to_keras(arguments):
    images = np.random.default_rng(0).normal(2, 3, (3, 5, 4, 4)).astype("float32")
    ours, keras_ = pair(**arguments)
    np.testing.assert_array_equal(ours(images, training=True), keras_(images, training=True))


@pytest.mark.parametrize(("training", "trainable"), [(False, True), (True, False), (None, True)])
def test_inference_and_a_frozen_layer_use_the_moving_statistics(training, trainable):
    images = np.random.default_rng(0).normal(2, 3, (3, 5, 4, 4)).astype("float32")
    ours, keras_ = pair()
    for layer in (ours, keras_):
        layer.trainable = trainable
    np.testing.assert_array_equal(
        ours(images, training=training), keras_(images, training=training)
    )
    np.testing.assert_array_equal(ours.moving_mean, np.zeros(4))


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the operation is TensorFlow's")
def test_training_on_tensorflow_takes_the_one_operation():
    import tensorflow as tf

    layer, _ = pair()
    traced = tf.function(lambda images: layer(images, training=True))
    graph = traced.get_concrete_function(tf.TensorSpec((None, None, None, 4))).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 1
    assert "SquaredDifference" not in kinds


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="XLA of TensorFlow")
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_step_compiled_by_xla_is_that_of_keras(dtype):
    import tensorflow as tf

    random = np.random.default_rng(0)
    images, weights = random.normal(2, 3, (2, 3, 5, 4, 4)).astype("float32")
    found = []
    for layer in pair(dtype):

        @tf.function(jit_compile=True)
        def step(images, layer=layer):
            with tf.GradientTape() as tape:
                loss = ops.sum(ops.cast(layer(images, training=True), "float32") * weights)
            return tape.gradient(loss, [layer.gamma.value, layer.beta.value])

        found.append([*step(images), layer.moving_mean, layer.moving_variance])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=10 * TOLERANCES[dtype])


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="replicas of TensorFlow")
def test_replicas_normalise_by_their_parts_as_those_of_keras_do(two_replicas):
    import tensorflow as tf

    images = np.random.default_rng(0).normal(2, 3, (6, 5, 4, 4)).astype("float32")
    with two_replicas.scope():
        layers = pair()
    parts = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(np.split(images, 2)[context.replica_id_in_sync_group])
    )
    found = []
    for layer in layers:

        @tf.function
        def step(parts, layer=layer):
            return two_replicas.run(lambda part: layer(part, training=True), (parts,))

        outputs = two_replicas.experimental_local_results(step(parts))
        found.append([*outputs, layer.moving_mean, layer.moving_variance])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    for of_part in found[0][:2]:
        mean = np.mean(of_part, (0, 1, 2))
        np.testing.assert_allclose(mean, layers[0].beta, rtol=1e-4, atol=1e-5)


def test_a_network_saved_with_the_layer_of_keras_is_loaded(tmp_path, monkeypatch):
    """Which is what networks of earlier versions hold."""
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    with monkeypatch.context() as before:
        for module in (factory, _composite):
            before.setattr(module, "BatchNormalization", keras.layers.BatchNormalization)
        model = keras_resnet.create("wrn_10_1", input_shape=(16, 16, 3), classes=3, seed=0)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.train_on_batch(images, np.array([0, 1]))
        model.save(tmp_path / "model.keras")
        expected = model.predict_on_batch(images)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(images), expected)
    assert type(model.get_layer("stage1_block1").bn1) is keras.layers.BatchNormalization
    assert type(loaded.get_layer("stage1_block1").bn1) is BatchNormalization


def test_it_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((4, 4, 4))
    model = keras.Model(inputs, BatchNormalization(momentum=0.7, name="bn")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("bn")
    assert type(loaded) is BatchNormalization
    assert loaded.momentum == 0.7
