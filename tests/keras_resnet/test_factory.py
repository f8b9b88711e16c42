"""The factory: its arguments, the names it gives, what it refuses."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetConfig

CIFAR = ResNetConfig(
    depths=(1, 2, 1),
    widths=(4, 6, 8),
    block="basic",
    stem="cifar",
    stem_width=4,
    stem_pool=None,
    image_size=32,
    default_classes=3,
)
IMAGENET = ResNetConfig(depths=(2, 1, 2, 1), widths=(8, 8, 8, 8), stem_width=8, default_classes=3)


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_variables_have_readable_paths():
    config = dataclasses.replace(IMAGENET, se_ratio=0.5, order="full_preactivation")
    paths = [variable.path for variable in keras_resnet.ResNet(config).variables]
    assert paths[0] == "stem/conv1/kernel"
    assert paths[-1] == "classifier/bias"
    assert len(set(paths)) == len(paths)
    assert {
        *("stage1_block2/bn3/moving_mean", "stage3_block2/conv1/kernel", "head_bn/gamma"),
        *("stage2_block1/shortcut/conv/kernel", "stage4_block1/se/reduce/bias"),
    } <= set(paths)


def test_images_of_any_size_go_in():
    model = keras_resnet.ResNet(IMAGENET, input_shape=(None, None, 3))
    for size in (33, 64):
        probabilities = numpy(model(images(2, size, size + 3, 3)))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_arguments_mean_what_they_mean_in_keras_applications():
    def shape(config=IMAGENET, **arguments):
        return keras_resnet.ResNet(config, **arguments).output_shape

    assert shape() == (None, 3)
    assert shape(classes=7) == (None, 7)
    assert shape(include_top=False) == (None, None, None, 32)
    assert shape(include_top=False, input_shape=(65, 64, 1)) == (None, 3, 2, 32)
    assert shape(include_top=False, pooling="avg") == (None, 32)
    assert shape(include_top=False, pooling="max") == (None, 32)
    assert keras_resnet.ResNet(IMAGENET).input_shape == (None, 224, 224, 3)
    assert keras_resnet.ResNet(CIFAR).input_shape == (None, 32, 32, 3)
    first = dataclasses.replace(CIFAR, data_format="channels_first")
    assert shape(first, include_top=False, input_shape=(3, 8, 12)) == (None, 8, 2, 3)


def test_input_tensor_joins_the_graph():
    inputs = keras.Input((16, 16, 3))
    rescaled = keras.layers.Rescaling(2.0)(inputs)
    model = keras_resnet.ResNet(CIFAR, input_tensor=rescaled, classifier_activation=None)
    plain = keras_resnet.ResNet(CIFAR, classifier_activation=None, input_shape=(16, 16, 3))
    plain.set_weights(model.get_weights())
    x = images(2, 16, 16, 3)
    np.testing.assert_allclose(numpy(model(x)), numpy(plain(2 * x)), rtol=1e-5)


def test_classifier_activation():
    softmax = keras_resnet.ResNet(CIFAR, input_shape=(8, 8, 3))
    logits = keras_resnet.ResNet(CIFAR, input_shape=(8, 8, 3), classifier_activation=None)
    logits.set_weights(softmax.get_weights())
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(numpy(softmax(x)), numpy(keras.ops.softmax(logits(x))), rtol=1e-5)


def test_batch_norm_is_what_the_configuration_says():
    model = keras_resnet.ResNet(
        dataclasses.replace(
            IMAGENET,
            order="full_preactivation",
            stem="deep",
            bn_epsilon=1.001e-5,
            bn_momentum=0.99,
            bn_synchronized=keras.config.backend() != "torch",  # which Keras refuses
        )
    )
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(layers) == 2 + 6 * 3 + 1
    # On JAX batch norm is synchronised without being asked, and refuses to be asked.
    expected = {(1.001e-5, 0.99, keras.config.backend() == "tensorflow")}
    assert {(bn.epsilon, bn.momentum, bn.synchronized) for bn in layers} == expected


def test_drop_rates_grow_with_the_block():
    config = dataclasses.replace(CIFAR, drop_path_rate=0.4, drop_path_schedule="linear")
    model = keras_resnet.ResNet(config)
    rates = [layer.drop_path_rate for layer in model.layers if "block" in layer.name]
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4])


def test_a_seed_repeats_what_is_dropped():
    config = dataclasses.replace(
        CIFAR, drop_path_rate=0.5, block_dropout_rate=0.3, dropout_rate=0.3
    )
    x = images(8, 8, 8, 3)

    def drawn(seed):
        keras.utils.set_random_seed(0)
        return numpy(
            keras_resnet.ResNet(config, seed=seed, input_shape=(8, 8, 3))(x, training=True)
        )

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_ends_in_float32(dtype, tmp_path):
    model = keras_resnet.ResNet(CIFAR, dtype=dtype, input_shape=(8, 8, 3))
    exact = keras_resnet.ResNet(CIFAR, dtype="float32", input_shape=(8, 8, 3))
    exact.set_weights(model.get_weights())
    x = images(2, 8, 8, 3)
    assert keras.backend.standardize_dtype(model(x).dtype) == "float32"
    np.testing.assert_allclose(numpy(model(x)), numpy(exact(x)), atol=0.02)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("classifier").compute_dtype == "float32"
    assert loaded.get_layer("stem").compute_dtype == dtype.removeprefix("mixed_")


# Uncompiled, JAX traces every step anew; that `fit` works so is tested in test_stochastic_depth.
@pytest.mark.parametrize(
    "jit_compile",
    [
        pytest.param(
            False, marks=pytest.mark.exhaustive if keras.config.backend() == "jax" else ()
        ),
        True,
    ],
)
def test_learns(jit_compile):
    keras.utils.set_random_seed(0)
    model = keras_resnet.ResNet(CIFAR, input_shape=(8, 8, 3))
    optimizer = keras.optimizers.Adam(0.02)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile)
    x, y = images(12, 8, 8, 3), np.arange(12) % 3
    losses = model.fit(x, y, batch_size=6, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_the_configuration_is_known_after_a_file(tmp_path):
    model = keras_resnet.ResNet(CIFAR)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").config == CIFAR
    assert keras.models.clone_model(model).output_shape == model.output_shape


def test_weights_files(tmp_path):
    model = keras_resnet.ResNet(CIFAR)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    again = keras_resnet.ResNet(CIFAR, weights=path)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    larger = dataclasses.replace(CIFAR, depths=(2, 1, 1))
    with pytest.raises(ValueError, match=r"`weights` must come from the same network.*'resnet'"):
        keras_resnet.ResNet(larger, weights=path)
    with pytest.raises(ValueError, match=r"`weights` must be None or a file for this network"):
        keras_resnet.ResNet(CIFAR, weights="imagenet")


FEATURES = [
    (IMAGENET, {"C2": (16, 32), "C3": (8, 32), "C4": (4, 32), "C5": (2, 32)}),
    (CIFAR, {"C0": (64, 4), "C1": (32, 6), "C2": (16, 8)}),
    (
        dataclasses.replace(IMAGENET, output_stride=16),
        {"C2": (16, 32), "C3": (8, 32), "C4": (4, 32), "C5": (4, 32)},
    ),
    (
        dataclasses.replace(IMAGENET, output_stride=8),
        {"C2": (16, 32), "C3": (8, 32), "C4": (8, 32), "C5": (8, 32)},
    ),
    (  # the stride of a stage is in its last block: the block before is the last at its stride
        dataclasses.replace(IMAGENET, stride_in="last", depths=(2, 2, 2, 2)),
        {"C2": (16, 32), "C3": (8, 32), "C4": (4, 32), "C5": (2, 32)},
    ),
]


@pytest.mark.parametrize(("config", "expected"), FEATURES)
def test_features(config, expected):
    model = keras_resnet.ResNet(config, input_shape=(64, 64, 3))
    outputs = keras_resnet.features(model)
    shapes = {level: (tensor.shape[1], tensor.shape[3]) for level, tensor in outputs.items()}
    assert shapes == expected
    pyramid = keras.Model(model.inputs, outputs)
    assert set(pyramid(images(1, 64, 64, 3))) == set(expected)


def test_features_of_another_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`model` must be a network.*0 stems and 0 blocks"):
        keras_resnet.features(model)


def test_dilation_takes_the_place_of_the_stride():
    """The same weights see the same: at stride 8, every second pixel is what stride 16 gives."""
    config = dataclasses.replace(IMAGENET, depths=(1, 1, 1), widths=(8, 8, 8))
    strided = keras_resnet.ResNet(config, include_top=False)
    dilated = keras_resnet.ResNet(dataclasses.replace(config, output_stride=8), include_top=False)
    dilated.set_weights(strided.get_weights())
    x = images(1, 64, 64, 3)
    np.testing.assert_allclose(
        numpy(dilated(x))[:, ::2, ::2], numpy(strided(x)), rtol=1e-4, atol=1e-5
    )
    blocks = [layer for layer in dilated.layers if "block" in layer.name]
    assert [(block.first_dilation, block.dilation) for block in blocks] == [(1, 1), (1, 1), (1, 2)]


BAD_ARGUMENTS = [
    ({"input_shape": (16, 64, 3)}, r"`input_shape` must have a height.*32 pixels.*\(16, 64, 3\)"),
    ({"input_shape": (64, 64)}, r"`input_shape` must have three entries.*\(64, 64\)"),
    ({"input_shape": (64, 64, None)}, r"`input_shape` must state the number of channels"),
    ({"classes": 0}, r"`classes` must be an integer of at least 1.*classes=0"),
    ({"pooling": "mean"}, r"`pooling` must be one of 'avg', 'max', None.*pooling='mean'"),
    ({"include_top": "yes"}, r"`include_top` must be one of True, False.*'yes'"),
    ({"input_tensor": np.zeros((1, 64, 64, 3))}, r"`input_tensor` must be a Keras tensor"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_resnet.ResNet(IMAGENET, **arguments)


def test_unknown_names_and_arguments():
    with pytest.raises(ValueError, match=r"`name` must be one of.*perhaps 'resnet50'.*'resnet5'"):
        keras_resnet.create("resnet5")
    with pytest.raises(TypeError, match=r"unexpected argument 'clases', perhaps 'classes'"):
        keras_resnet.create("resnet50", clases=10)
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        keras_resnet.ResNet50(depth=3)
    with pytest.raises(TypeError, match="`config` must be a ResNetConfig"):
        keras_resnet.ResNet("resnet50")


def test_create_takes_fields_and_arguments():
    model = keras_resnet.create("cifar_resnet20", shortcut="B", classes=7)
    assert (model.name, model.output_shape) == ("cifar_resnet20", (None, 7))
    assert model.config == dataclasses.replace(keras_resnet.SPECS["cifar_resnet20"], shortcut="B")
    assert keras_resnet.create("wrn_10_1").config == keras_resnet.WideResNet(10, 1).config


def test_wide_networks_drop_out_inside_their_blocks():
    model = keras_resnet.WideResNet(10, 1, dropout_rate=0.3, classes=5)
    assert (model.name, model.output_shape) == ("wrn_10_1", (None, 5))
    assert {layer.dropout.rate for layer in model.layers if "block" in layer.name} == {0.3}


def test_list_models():
    assert keras_resnet.list_models("wide*") == ["wide_resnet101_2", "wide_resnet50_2"]
    assert set(keras_resnet.list_models()) == set(keras_resnet.SPECS)
    assert keras_resnet.list_models("vgg*") == []
