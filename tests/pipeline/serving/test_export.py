import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from pipeline.components import infra_validator
from pipeline.errors import UsageError
from pipeline.serving import export, probe
from pipeline.serving.predictor import Predictor
from pipeline.serving.versions import resolve
from pipeline.training.preprocessing import Preprocessing, preprocess
from tests.pipeline import builders

_CLASSES = ("bird", "cat", "dog")
_EXPECTED = Preprocessing(height=8, width=8, mean=(120.0,) * 3, std=(60.0,) * 3)
_IMAGES = [builders.encode(builders.noise(n, 5 + n, 20 - n)) for n in range(6)]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    model = keras_resnet.create(
        "cifar_resnet20", depths=(1, 1, 1), input_shape=(8, 8, 3), classes=3
    )
    generator = np.random.default_rng(0)
    # Moving statistics that are not 0 and 1, so that training and inference differ.
    for variable in model.non_trainable_weights:
        variable.assign(variable + generator.uniform(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    """A Model artifact as Trainer writes it."""
    written = builders.artifact(tmp_path_factory.mktemp("model"), "Model")
    export.save(network, _CLASSES, _EXPECTED, written.uri / "Format-Serving")
    (written.uri / "Format-Keras").mkdir()
    network.save(written.uri / "Format-Keras" / "model.keras")
    written.properties["preprocessing"] = {
        "height": 8,
        "width": 8,
        "mean": [120.0] * 3,
        "std": [60.0] * 3,
    }
    return written


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


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    source = builders.image_folder(folder / "images", _CLASSES)
    written, _ = builders.examples(folder / "examples", source)
    return written


def _validate(model, examples, folder, **parameters):
    blessing = builders.artifact(folder)
    outcome = infra_validator.run(
        {"examples": examples, "model": model},
        {"blessing": blessing},
        infra_validator.Parameters(examples=3, **parameters),
        builders.CONTEXT,
    )
    (verdict,) = blessing.uri.iterdir()
    return outcome, verdict.name, json.loads(verdict.read_text()), blessing.properties["blessed"]


@pytest.mark.slow
def test_a_model_that_serves_what_keras_computes_is_blessed(model, examples, tmp_path):
    outcome, name, found, blessed = _validate(model, examples, tmp_path)
    assert (outcome.refusal, name, blessed) == (None, "INFRA_BLESSED", 1)
    assert found["backend"] == "saved_model subprocess"
    assert found["max_difference"] < 1e-5


@pytest.mark.slow
def test_a_model_that_serves_something_else_is_not_blessed(model, examples, network, tmp_path):
    other = builders.artifact(tmp_path / "model", "Model", **model.properties)
    skewed = Preprocessing(height=8, width=8, mean=(0.0,) * 3, std=(60.0,) * 3)
    export.save(network, _CLASSES, skewed, other.uri / "Format-Serving")
    (other.uri / "Format-Keras").mkdir()
    network.save(other.uri / "Format-Keras" / "model.keras")
    outcome, name, _, blessed = _validate(other, examples, tmp_path / "out")
    assert "a served probability differs from Keras'" in outcome.refusal
    assert (name, blessed) == ("INFRA_NOT_BLESSED", 0)


@pytest.mark.slow
def test_a_model_that_does_not_load_is_not_blessed(model, examples, tmp_path):
    import shutil

    root = shutil.copytree(model.uri, tmp_path / "model")
    shard = next((root / "Format-Serving" / "variables").glob("*.data-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    broken = builders.artifact(root, "Model", **model.properties)
    outcome, name, _, _ = _validate(broken, examples, tmp_path / "out")
    assert "the serving process ended with code 1" in outcome.refusal
    assert name == "INFRA_NOT_BLESSED"


def test_a_server_that_does_not_answer_in_time_is_ended(model):
    with pytest.raises(probe.ProbeError, match=r"no answer within 0.2 s"):
        probe.ask(model.uri / "Format-Serving", _IMAGES, 0.2, lambda done, total: None)


def test_names_that_belong_to_other_classes_are_noticed():
    probabilities = np.array([[0.7, 0.2, 0.1]], np.float32)
    answers = probe.Answers(probabilities, probabilities, np.array(["dog"]), probabilities[:, 0])
    reasons, _ = probe.compare(answers, probabilities, _CLASSES, 1e-4)
    assert reasons == ["the class names do not belong to the greatest probabilities"]


_GOOD = np.array([[0.7, 0.2, 0.1]], np.float32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alone": _GOOD * np.nan}, "not a finite number"),
        ({"together": _GOOD * np.nan}, "not a finite number"),
        ({"alone": _GOOD + 0.01}, "differs from Keras' by 1.00e-02"),
        ({"alone": _GOOD[:, :2]}, r"of shape (1, 2), expected (1, 3)"),
        ({"scores": np.array([0.6], np.float32)}, "the scores are not"),
    ],
)
def test_answers_that_are_wrong_in_any_part_are_noticed(changes, reason):
    good = {"together": _GOOD, "alone": _GOOD, "names": np.array(["bird"]), "scores": _GOOD[:, 0]}
    assert probe.compare(probe.Answers(**good), _GOOD, _CLASSES, 1e-4) == ([], 0.0)
    (found,), _ = probe.compare(probe.Answers(**{**good, **changes}), _GOOD, _CLASSES, 1e-4)
    assert reason in found
