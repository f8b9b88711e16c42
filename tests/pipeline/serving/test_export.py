import tempfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_resnet
from pipeline.errors import UsageError
from pipeline.serving import export
from pipeline.serving.predictor import Predictor
from pipeline.serving.versions import resolve
from pipeline.training.preprocessing import preprocess
from tests.pipeline import builders
from tests.pipeline.serving import networks

_CLASSES, _EXPECTED = networks.CLASSES, networks.EXPECTED
_IMAGES = [builders.encode(builders.noise(n, 5 + n, 20 - n)) for n in range(6)]


@pytest.fixture(scope="module")
def network():
    return networks.network()


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return networks.artifact(tmp_path_factory.mktemp("model"), network)


def test_the_signature_is_the_documented_one(model):
    loaded = tf.saved_model.load(str(model.uri / "Format-Serving"))
    signature = loaded.signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert (spec.name, spec.dtype, spec.shape.as_list()) == ("image_bytes", tf.string, [None])
    outputs = {
        name: (tensor.dtype, tensor.shape.as_list())
        for name, tensor in signature.structured_outputs.items()
    }
    assert outputs == {
        "probabilities": (tf.float32, [None, 3]),
        "classes": (tf.string, [None, 3]),
        "scores": (tf.float32, [None, 3]),
        "error": (tf.string, [None]),
    }


def test_what_is_served_is_what_keras_computes(model, network):
    predictor = Predictor(model.uri / "Format-Serving")
    expected = network.predict(preprocess(tf.constant(_IMAGES), _EXPECTED), verbose=0)
    assert np.ptp(expected, axis=0).max() > 0.01  # the answers depend on the images
    together = predictor(_IMAGES)
    np.testing.assert_allclose(together.probabilities, expected, atol=1e-5)
    parts = list(predictor.in_batches(_IMAGES, 4))
    assert [len(part.probabilities) for part in parts] == [4, 2]
    np.testing.assert_allclose(
        np.concatenate([part.probabilities for part in parts]), expected, atol=1e-5
    )
    order = np.argsort(-expected, axis=1)
    assert together.classes == [[_CLASSES[index] for index in row] for row in order]
    np.testing.assert_allclose(together.scores, np.take_along_axis(expected, order, 1), atol=1e-5)


def test_without_a_layer_that_classifies_the_features_are_left_out_and_it_is_said(tmp_path):
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(images))
    model = keras.Model(images, keras.ops.softmax(pooled))
    said = []
    found = export.save(model, _CLASSES, _EXPECTED, tmp_path, said.append)
    loaded = tf.saved_model.load(str(tmp_path))
    assert set(found.signatures) == set(loaded.signatures)
    assert found.signatures == ("serving_default", "serve_examples", "serve_images")
    assert said == list(found.notices)
    assert "the signature 'features' is left out" in said[0]
    wanted = model.predict(preprocess(tf.constant(_IMAGES), _EXPECTED), verbose=0)
    np.testing.assert_allclose(Predictor(tmp_path)(_IMAGES).probabilities, wanted, atol=1e-5)


def test_the_graph_says_nothing_of_the_machine_and_the_table_is_named_by_its_classes(tmp_path):
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(images))
    model = keras.Model(images, keras.ops.softmax(pooled))

    def tables(name, classes):
        export.save(model, classes, _EXPECTED, tmp_path / name)
        content = (tmp_path / name / "saved_model.pb").read_bytes()
        assert tempfile.gettempdir().encode() not in content
        graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        return {n.attr["shared_name"].s for n in nodes if n.op == "HashTableV2"}

    assert len(tables("one", ["a", "b", "c"])) == 1
    assert tables("two", ["a", "b", "c"]) == tables("one again", ["a", "b", "c"])
    assert tables("other", ["x", "y", "z"]) != tables("two again", ["a", "b", "c"])
    both = [Predictor(tmp_path / name) for name in ("one", "other")]
    assert [set(each(_IMAGES).classes[0]) for each in both] == [set("abc"), set("xyz")]


def test_every_weight_is_stored_once(tmp_path):
    model = keras_resnet.create(
        "cifar_resnet20", widths=(32, 64, 512), depths=(1, 1, 2), input_shape=(8, 8, 3), classes=3
    )
    export.save(model, _CLASSES, _EXPECTED, tmp_path / "ours")
    model.export(tmp_path / "keras", verbose=False)
    ours, kerass = (
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in ("ours", "keras")
    )
    weights = 4 * model.count_params()
    graphs = 1 << 20  # of all signatures, whatever the size of the network
    assert weights < ours < weights + graphs
    assert kerass > 2 * weights > 20 * graphs


def test_bad_images_spoil_their_own_rows_alone(model):
    predictor = Predictor(model.uri / "Format-Serving")
    cut = builders.encode(builders.noise(0, 40, 40), "JPEG")[:-200]
    bad = {1: (b"", "empty"), 2: (b"<html>", "not_an_image"), 4: (cut, "not_decodable")}
    files = list(_IMAGES)
    for row, (file, _) in bad.items():
        files[row] = file
    found, alone = predictor(files), predictor(_IMAGES)
    for row in range(len(files)):
        if row in bad:
            assert found.errors[row] == bad[row][1]
            assert found.classes[row] == [""] * 3
            assert not found.probabilities[row].any() and not found.scores[row].any()
        else:
            assert found.errors[row] == ""
            assert found.classes[row] == alone.classes[row]
            np.testing.assert_array_equal(found.probabilities[row], alone.probabilities[row])


def test_requests_at_the_same_time_have_their_own_answers(model):
    predictor = Predictor(model.uri / "Format-Serving")
    batches = [[*_IMAGES[place:], b"", *_IMAGES[:place]] for place in range(6)] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, batches))
    wanted = predictor(_IMAGES).probabilities
    for number, answer in enumerate(found):
        place = number % 6
        assert [bool(error) for error in answer.errors] == [row == 6 - place for row in range(7)]
        rows = np.delete(answer.probabilities, 6 - place, axis=0)
        np.testing.assert_allclose(rows, np.roll(wanted, -place, axis=0), atol=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_no_images_and_images_without_pixels_are_answered(model, count):
    signatures = tf.saved_model.load(str(model.uri / "Format-Serving")).signatures
    for shape in ((count, 0, 4, 3), (count, 4, 0, 3), (0, 4, 4, 3)):
        found = signatures["serve_images"](tf.zeros(shape, tf.uint8))
        assert found["error"].numpy().tolist() == [b"empty"] * shape[0]
        assert found["probabilities"].shape == (shape[0], 3)
        assert not found["probabilities"].numpy().any()
    for name, key in (
        ("serving_default", "image_bytes"),
        ("serve_examples", "examples"),
        ("features", "image_bytes"),
    ):
        found = signatures[name](**{key: tf.constant([b""] * count, tf.string)})
        assert {len(value) for value in found.values()} == {count}


def test_the_newest_complete_version_is_taken(model, tmp_path):
    import shutil

    for version in ("2", "10", "9"):
        shutil.copytree(model.uri / "Format-Serving", tmp_path / "m" / version)
    (tmp_path / "m" / "11").mkdir()
    assert resolve(tmp_path / "m") == tmp_path / "m" / "10"
    assert resolve(tmp_path / "m" / "9") == tmp_path / "m" / "9"


def test_models_that_are_none_are_named(tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        resolve(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"found no saved_model.pb"):
        resolve(tmp_path)

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x}

    other = Other()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.serve})
    with pytest.raises(UsageError, match=r"maps \['x'\] to \['y'\]; expected image_bytes"):
        Predictor(tmp_path / "other")
