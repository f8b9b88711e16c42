"""What is served is what was trained: real photos through training, the SavedModel, the loader."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pipeline.records import example_proto, images
from pipeline.records.examples import IMAGE
from pipeline.serving import servers
from pipeline.serving.network import penultimate
from pipeline.training import preprocessing
from tests.pipeline import builders
from tests.pipeline.serving import networks

_PHOTOS = 200
_TOLERANCE = 1e-5
_EXPECTED = preprocessing.Preprocessing(height=32, width=32, mean=(120.0,) * 3, std=(60.0,) * 3)
_ODD = (
    "hopper_orientation_3.jpg",
    "hopper_orientation_6.jpg",
    "portrait_2.jpg",
    "pil_sample_cmyk.jpg",
    "hopper_bad_exif.jpg",
    "cat.jpg",
    "app13-multiple.jpg",
    "junk_jpeg_header.jpg",
)

# TensorFlow alone: neither Keras nor anything of this repository can be imported.
_ALONE = """
import importlib.machinery as machinery
import sys

class Finder(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in ("keras", "tf_keras", "keras_resnet", "pipeline")
        return None if absent else super().find_spec(name, path, target)

sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, Finder]
import numpy as np
import tensorflow as tf

model, given, found = sys.argv[1:]
signatures = tf.saved_model.load(model).signatures
files = np.load(given, allow_pickle=True)
answers = {}
for signature, name in (("serving_default", "probabilities"), ("features", "features")):
    parts = [signatures[signature](tf.constant(files[at : at + 50])) for at in range(0, len(files), 50)]
    assert not any(part["error"].numpy().any() for part in parts)
    answers[name] = np.concatenate([part[name] for part in parts])
np.savez(found, **answers)
assert not {"keras", "keras_resnet", "pipeline"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def network():
    return networks.network(32)


@pytest.fixture(scope="module")
def served(network, tmp_path_factory):
    """The SavedModel of a network whose answers differ from photo to photo."""
    folder = tmp_path_factory.mktemp("served")
    return networks.artifact(folder, network, _EXPECTED).uri / "Format-Serving"


@pytest.fixture(scope="module")
def photos(real_images):
    """Photos as people send them, turned, grey and for print among them."""
    plain = sorted((real_images / "photos").rglob("*.jpg"))
    found = [(real_images / "odd_images" / name).read_bytes() for name in _ODD]
    for number, path in enumerate(plain[:: len(plain) // _PHOTOS][: _PHOTOS - len(found)]):
        file = path.read_bytes()
        if number % 10 == 0:
            with Image.open(path) as picture:
                file = _altered(picture, number // 10)
        found.append(file)
    assert len(found) == _PHOTOS
    return found


def _altered(picture, number):
    """Encodes a photo with one of the orientations, in grey, or for print."""
    exif = Image.Exif()
    if number < 8:
        exif[0x0112] = number + 1
        exif.endian = "<>"[number % 2]
    elif number % 2:
        picture = picture.convert("L")
    else:
        picture = picture.convert("CMYK")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def _by_keras(network, files):
    batch = preprocessing.preprocess(tf.constant(files), _EXPECTED)
    import keras

    both = keras.Model(network.inputs[0], [network.outputs[0], penultimate(network)])
    probabilities, features = both.predict(batch, verbose=0)
    return {"probabilities": probabilities, "features": features}


def _upright(file):
    """What training would see of a file if ingest stored the decoder's pixels without loss."""
    with Image.open(io.BytesIO(file)) as picture:
        orientation = picture.getexif().get(0x0112, 1)
    decoded = Image.fromarray(preprocessing.decode(tf.constant(file)).numpy())
    decoded.getexif()[0x0112] = orientation
    return builders.encode(np.asarray(ImageOps.exif_transpose(decoded)))


def _assert_equal(found, wanted):
    for name, values in wanted.items():
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(found[name] / scale, values / scale, rtol=0, atol=_TOLERANCE)


@pytest.mark.slow
def test_200_photos_have_the_same_answers_in_training_and_wherever_they_are_served(
    network, served, photos, tmp_path
):
    ingested = [images.normalize(file) for file in photos]
    # As ingest stores them; and as they are sent, where ingest would store something else.
    sent = [file for file, image in zip(photos, ingested, strict=True) if image.converted]
    assert len(sent) >= 20
    files = [image.encoded for image in ingested] + sent
    wanted = _by_keras(network, files[:_PHOTOS] + [_upright(file) for file in sent])
    assert np.ptp(wanted["probabilities"], axis=0).max() > 0.1

    given, found = tmp_path / "files.npy", tmp_path / "found.npz"
    np.save(given, np.array(files, object), allow_pickle=True)
    command = [sys.executable, "-I", "-c", _ALONE, str(served), str(given), str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _assert_equal(np.load(found), wanted)

    batches = [files[at : at + 50] for at in range(0, len(files), 50)]
    with servers.serving(served, servers.LOADER, 120.0) as loader:
        for signature, name in (("serving_default", "probabilities"), ("features", "features")):
            parts = [loader.ask(signature, {"image_bytes": batch}) for batch in batches]
            joined = np.concatenate([part[name] for part in parts])
            _assert_equal({name: joined}, {name: wanted[name]})
        parts = [
            loader.ask("serve_examples", {"examples": [_example(file) for file in batch]})
            for batch in batches
        ]
        joined = np.concatenate([part["probabilities"] for part in parts])
        _assert_equal({"probabilities": joined}, {"probabilities": wanted["probabilities"]})


def _example(encoded):
    message = example_proto.example_class()()
    message.features.feature[IMAGE].bytes_list.value.append(encoded)
    return message.SerializeToString()


# Why the odd images cannot be served; all the others can.
_REFUSED = {
    "ultrahdr.jpg": b"not_decodable",
    "broken.png": b"too_many_pixels",
    "zero_width.gif": b"not_decodable",
    "hopper_rle8.bmp": b"not_decodable",
    "l2rgb_read.bmp": b"too_many_pixels",
    "badcrc.png": b"not_decodable",
    "huge_IDAT.png": b"not_decodable",
    "zero_bytes.jpg": b"empty",
    "flower_cut_half.jpg": b"not_decodable",
}


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["serving_default", "features", "serve_examples"])
def test_odd_images_have_an_error_in_their_row_and_harm_no_other(served, real_images, signature):
    folder = real_images / "odd_images"
    names = [row["file"] for row in json.loads((folder / "manifest.json").read_text())]
    files = [(folder / name).read_bytes() for name in names]
    key, inputs = "image_bytes", files
    if signature == "serve_examples":
        key, inputs = "examples", [*map(_example, files), b"no example", b""]
        names += ["garbage", "nothing"]
    refused = _REFUSED | {"garbage": b"not_an_example", "nothing": b"not_an_example"}
    signatures = tf.saved_model.load(str(served)).signatures
    ask = signatures[signature]
    found = {name: value.numpy() for name, value in ask(**{key: tf.constant(inputs)}).items()}
    assert dict(zip(names, found.pop("error"), strict=True)) == {
        name: refused.get(name, b"") for name in names
    }
    good = [place for place, name in enumerate(names) if name not in refused]
    bad = [place for place, name in enumerate(names) if name in refused]
    alone = ask(**{key: tf.constant([inputs[place] for place in good])})
    for name, values in found.items():
        assert not values[bad].astype(bool).any(), name
        if values.dtype == object:
            np.testing.assert_array_equal(values[good], alone[name])
        else:
            np.testing.assert_allclose(values[good], alone[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_odd_images_are_served_as_pixels(served, real_images):
    signatures = tf.saved_model.load(str(served)).signatures
    for row in json.loads((real_images / "odd_images" / "manifest.json").read_text()):
        try:
            image = images.normalize((real_images / "odd_images" / row["file"]).read_bytes())
        except images.BadImageError:
            continue
        stored = tf.constant(image.encoded)
        found = signatures["serve_images"](preprocessing.decode(stored)[None])
        wanted = signatures["serving_default"](stored[None])
        for name, value in wanted.items():
            if value.dtype == tf.string:
                np.testing.assert_array_equal(found[name], value)
            else:
                np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6)
