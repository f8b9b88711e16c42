"""Preprocessing against Pillow, keras.applications and hand derivations."""

import hashlib
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_resnet
from keras_resnet import preprocessing
from keras_resnet.weights import ImageFormat, find_record, list_weights
from tests.keras_resnet.weights.server import running_hub

TV = "timm/resnet18.tv_in1k"
CAFFE = "keras/keras_resnet50.imagenet"
HALF = "keras/keras_resnet50v2.imagenet"


def pictures(*shape, seed=0):
    """Smooth pictures, which resizing does not turn into noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (shape[0] // 8 + 2, shape[1] // 8 + 2, 3), dtype="uint8")
    return np.asarray(Image.fromarray(small).resize(shape[1::-1], Image.Resampling.BICUBIC))


def array(x):
    return keras.ops.convert_to_numpy(x)


def test_white_and_black_by_hand():
    """The numbers that torchvision documents: white is (1 - mean) / std."""
    images = np.array([0, 255], "uint8")[:, None, None, None] * np.ones((2, 4, 4, 3), "uint8")
    black, white = array(keras_resnet.preprocess(images, TV, image_size=False))[:, 0, 0]
    np.testing.assert_allclose(black, [-2.1179, -2.0357, -1.8044], atol=1e-4)
    np.testing.assert_allclose(white, [2.2489, 2.4286, 2.6400], atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "peer"),
    [(CAFFE, keras.applications.resnet), (HALF, keras.applications.resnet_v2)],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_same_as_keras_applications_but_not_in_place(weights, peer, dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(dtype)
    before = images.copy()
    received = array(keras_resnet.preprocess(images, weights, image_size=False))
    np.testing.assert_array_equal(images, before)
    assert received.dtype == np.float32
    np.testing.assert_allclose(
        received, peer.preprocess_input(images.astype("float32")), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("size", [(60, 80), (81, 47), (40, 40)])
@pytest.mark.parametrize("weights", [TV, "timm/resnet18.a1_in1k"])
def test_the_centre_square_is_resized_as_pillow_does(size, weights):
    record = find_record(weights)
    picture = pictures(*size)
    side = round(record.images.crop * min(size))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    resampling = Image.Resampling[record.images.interpolation.upper()]
    expected = Image.fromarray(picture).crop((left, top, left + side, top + side))
    expected = np.asarray(expected.resize((32, 32), resampling)) / 255
    expected = (expected - record.images.mean) / record.images.std
    received = array(keras_resnet.preprocess(picture, weights, image_size=32))
    # A cubic filter is Keys' with a = -0.5 there and here; Pillow rounds to whole values.
    assert np.abs(received - expected).mean() < 0.02
    assert np.abs(received - expected).max() < 0.3


def test_without_a_crop_the_whole_picture_is_resized():
    picture = np.zeros((20, 40, 3), "uint8")
    picture[:, 20:] = 255
    received = array(keras_resnet.preprocess(picture, HALF, image_size=10))
    assert received.shape == (10, 10, 3)
    np.testing.assert_allclose(received[:, :4], -1)
    np.testing.assert_allclose(received[:, 6:], 1)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list_weights()), st.booleans())
def test_every_row_normalises_what_it_expects(weights, batch):
    """The mean goes to 0 and a standard deviation more to 1."""
    images = find_record(weights).images
    pixel = np.array(images.mean) / images.scale
    if images.channels == "bgr":
        pixel = pixel[::-1]
    shape = (1, 2, 2, 3) if batch else (2, 2, 3)
    grey = np.broadcast_to(pixel, shape).astype("float32")
    step = (np.array(images.std) / images.scale).astype("float32")
    if images.channels == "bgr":
        step = step[::-1]
    for added, expected in ((0, 0), (step, 1)):
        received = keras_resnet.preprocess(grey + added, weights, image_size=False)
        np.testing.assert_allclose(array(received), expected, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels):
    images = np.full((1, 4, 4, channels), 255, "uint8")
    received = array(keras_resnet.preprocess(images, TV, image_size=False))[0, 0, 0]
    if channels == 1:
        np.testing.assert_allclose(received, (1 - 0.449) / 0.226, rtol=1e-5)
    else:
        assert received[3] == received[0]


def test_inside_a_model_that_is_saved(tmp_path):
    config = keras_resnet.ResNetConfig(
        depths=(1,), widths=(8,), block="basic", stem_width=8, data_format="channels_last"
    )
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras_resnet.Preprocessing(TV, image_size=32)(images)
    assert x.shape == (None, 32, 32, 3)
    model = keras_resnet.ResNet(config, input_tensor=x, classes=2)
    bare = keras_resnet.ResNet(config, input_shape=(32, 32, 3), classes=2)
    bare.set_weights(model.get_weights())
    batch = pictures(40, 48)[None]
    expected = bare.predict_on_batch(array(keras_resnet.preprocess(batch, TV, 32)))
    np.testing.assert_allclose(model.predict_on_batch(batch), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict_on_batch(batch), expected, atol=1e-5)


@pytest.mark.parametrize("weights", [TV, CAFFE])
def test_in_a_dataset_of_pictures_of_all_sizes(weights):
    tf = pytest.importorskip("tensorflow")
    layer = keras_resnet.Preprocessing(weights, image_size=16)
    sizes = [(40, 60), (31, 17), (16, 16)]
    dataset = tf.data.Dataset.from_generator(
        lambda: (pictures(*size) for size in sizes),
        output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
    )
    expected = [array(keras_resnet.preprocess(pictures(*size), weights, 16)) for size in sizes]
    # Where pixels stay as large as they are for CAFFE, so do the errors of rounding.
    tolerance = {"rtol": 1e-5, "atol": 1e-5 if weights == TV else 1e-3}
    batch = next(iter(dataset.map(layer).batch(3)))
    np.testing.assert_allclose(batch, expected, **tolerance)
    function = dataset.map(lambda picture: keras_resnet.preprocess(picture, weights, 16))
    np.testing.assert_array_equal(next(iter(function.batch(3))), batch)


def test_names_of_networks_and_errors():
    assert preprocessing.image_format("wide_resnet50_2").test_image_size == 288
    own = ImageFormat(image_size=64)
    assert preprocessing.image_format(own) is own
    for arguments, message in [
        (("resnet200",), "`weights` must be one of"),
        (("imagenet",), "which ones 'imagenet' is depends on the network, so give its name"),
        ((TV, 0), "`image_size`"),
        ((TV, 32, 1.5), "`crop`"),
    ]:
        with pytest.raises(ValueError, match=message):
            keras_resnet.Preprocessing(*arguments)
    with pytest.raises(ValueError, match=r"\(N, H, W, C\) or \(H, W, C\).*shape \(8, 9\)"):
        keras_resnet.preprocess(np.zeros((8, 9), "uint8"), TV)


def test_predictions_by_name():
    predictions = np.array([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]], "float32")
    first, second = keras_resnet.decode_predictions(predictions, 2, ["cat", "dog", "emu"])
    assert [(number, name) for number, name, _ in first] == [("1", "dog"), ("2", "emu")]
    assert first[0][2] == pytest.approx(0.6)
    assert [name for _, name, _ in second] == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"of shape \(N, 1000\).*\(2, 3\)"):
        keras_resnet.decode_predictions(predictions)
    for top in (0, -1):
        with pytest.raises(ValueError, match="`top` must be an integer of at least 1"):
            keras_resnet.decode_predictions(predictions, top, ["cat", "dog", "emu"])


def test_the_names_of_imagenet_are_downloaded_once(tmp_path, monkeypatch):
    index = json.dumps({str(n): [f"n{n:08}", f"name_{n}"] for n in range(1000)}).encode()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    predictions = np.eye(1000, dtype="float32")[[7, 999]]
    with running_hub() as hub:
        hub.files["/index.json"] = index
        digest = f"md5:{hashlib.md5(index).hexdigest()}"
        source = (f"{hub.url}/index.json", "imagenet_class_index.json", digest)
        monkeypatch.setattr(preprocessing, "_CLASS_INDEX", source)
        named = keras_resnet.decode_predictions(predictions, top=1)
    assert named == [[("n00000007", "name_7", 1.0)], [("n00000999", "name_999", 1.0)]]
    assert keras_resnet.decode_predictions(predictions, top=1) == named
