import dataclasses
import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.components import infra_validator
from pipeline.errors import DataError
from pipeline.records import tfrecord
from pipeline.serving import servers, trial
from pipeline.serving.versions import WARMUP
from pipeline.training.preprocessing import preprocess
from tests.pipeline import builders
from tests.pipeline.serving import networks


@pytest.fixture(scope="module")
def network():
    return networks.network()


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return networks.artifact(tmp_path_factory.mktemp("model"), network)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    source = builders.image_folder(folder / "images", networks.CLASSES)
    written, _ = builders.examples(folder / "examples", source)
    return written


def _validate(model, examples, folder, **parameters):
    blessing = builders.artifact(folder)
    outcome = infra_validator.run(
        {"examples": examples, "model": model},
        {"blessing": blessing},
        infra_validator.Parameters(
            **{"examples": 3, "max_batch_size": 4, "latency_requests": 3, **parameters}
        ),
        builders.CONTEXT,
    )
    (verdict,) = (path for path in blessing.uri.iterdir() if path.is_file())
    found = json.loads(verdict.read_text())
    assert blessing.properties["blessed"] == found["blessed"] == (outcome.refusal is None)
    assert verdict.name == ("INFRA_BLESSED" if found["blessed"] else "INFRA_NOT_BLESSED")
    return outcome, found


@pytest.mark.slow
def test_a_model_that_serves_what_keras_computes_is_blessed(model, examples, tmp_path):
    outcome, found = _validate(model, examples, tmp_path)
    assert outcome.refusal is None
    assert found["backend"] == "c++ loader"
    assert set(found["max_difference"]) == {
        "serving_default",
        "serve_examples",
        "serve_images",
        "features",
    }
    assert max(found["max_difference"].values()) < 1e-5
    assert set(found["latency_ms"]) == {"1", "2", "4"}
    assert all(0 < figures["p50"] <= figures["p99"] for figures in found["latency_ms"].values())
    assert found["loading_seconds"] > 0
    assert found["peak_memory_mb"] > 50 or sys.platform != "linux"

    from tensorflow_serving.apis import prediction_log_pb2

    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tfrecord.read(tmp_path / WARMUP)
    ]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.name for request in requests} == {builders.CONTEXT.name}
    sizes = [request.inputs["image_bytes"].tensor_shape.dim[0].size for request in requests]
    assert sizes == [1, 2, 4]


@pytest.mark.slow
def test_a_model_that_serves_something_else_is_not_blessed(model, examples, tmp_path):
    trained = dataclasses.asdict(networks.EXPECTED) | {"mean": (0.0,) * 3}
    other = dataclasses.replace(model, properties={"preprocessing": trained})
    outcome, found = _validate(other, examples, tmp_path)
    for signature in ("serving_default", "serve_examples", "serve_images", "features"):
        assert f"{signature}: a served number differs from Keras'" in outcome.refusal
    assert found["latency_ms"] == {}


@pytest.mark.slow
def test_limits_of_time_and_memory_are_held(model, examples, tmp_path):
    outcome, _ = _validate(model, examples, tmp_path, max_p99_ms=1e-3, max_memory_mb=1)
    assert "99 of 100 answers take up to" in outcome.refusal
    assert "MiB; allowed 1" in outcome.refusal


@pytest.mark.slow
def test_a_model_that_does_not_load_is_not_blessed(model, examples, tmp_path):
    root = shutil.copytree(model.uri, tmp_path / "model")
    graph = root / "Format-Serving" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])
    broken = builders.artifact(root, "Model", **model.properties)
    outcome, found = _validate(broken, examples, tmp_path / "out")
    assert "fit to serve: the model is not loaded: " in outcome.refusal
    assert "loading_seconds" not in found


# A stand-in for TF Serving's program, with its flags and its gRPC services, on TensorFlow's
# Python: what is tested is how the validator starts, asks and ends such a server.
_STAND_IN = """#!{python}
import os, re, sys
from concurrent import futures
from pathlib import Path

flags = dict(re.fullmatch(r"--(\\w+)=(.*)", flag).groups() for flag in sys.argv[1:])
Path({record!r}).write_text(f"{{os.getpid()}} {{flags['model_base_path']}}")
if {broken}:
    sys.exit("bad flags")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2, model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc)

state = get_model_status_pb2.ModelVersionStatus
loaded = tf.saved_model.load(flags["model_base_path"] + "/1")

class Models(model_service_pb2_grpc.ModelServiceServicer):
    def GetModelStatus(self, request, context):
        assert request.model_spec.name == flags["model_name"]
        found = get_model_status_pb2.GetModelStatusResponse()
        found.model_version_status.add(version=1, state=state.AVAILABLE)
        return found

class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request, context):
        assert request.model_spec.name == flags["model_name"]
        signature = loaded.signatures[request.model_spec.signature_name]
        given = {{key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}}
        response = predict_pb2.PredictResponse()
        for key, value in signature(**given).items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

server = grpc.server(futures.ThreadPoolExecutor(2))
model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), server)
server.add_insecure_port("127.0.0.1:" + flags["port"])
server.start()
server.wait_for_termination()
"""


# A stand-in for Docker, in which the image is there and its container is the stand-in above.
_DOCKER = """#!{python}
import os, sys
with open({record!r}, "a") as record:
    print(*sys.argv[1:], file=record)
if sys.argv[1] == "run":
    given = dict(zip(sys.argv, sys.argv[1:]))
    flags = ["--port=" + given["--publish"].split(":")[1]]
    flags += ["--model_name=" + given["--env"].partition("=")[2]]
    flags += ["--model_base_path=" + given["--volume"].split(":")[0]]
    os.execv({server!r}, [{server!r}, *flags])
"""


def _program(path: Path, content: str, **values: object) -> str:
    path.parent.mkdir()
    path.write_text(content.format(python=sys.executable, **values))
    path.chmod(0o755)
    return str(path)


def _stand_in(folder: Path, monkeypatch, broken: bool = False) -> Path:
    """Puts the stand-in on PATH, and returns the file in which it says what it is."""
    program, record = folder / "bin" / "tensorflow_model_server", folder / "record"
    _program(program, _STAND_IN, record=str(record), broken=broken)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return record


@pytest.mark.slow
def test_the_program_of_tf_serving_is_used_where_it_is_on_the_path(
    model, examples, tmp_path, monkeypatch
):
    record = _stand_in(tmp_path, monkeypatch)
    outcome, found = _validate(model, examples, tmp_path / "out")
    assert (outcome.refusal, found["backend"]) == (None, "tensorflow_model_server")
    assert max(found["max_difference"].values()) < 1e-5
    process, base = record.read_text().split()
    assert not Path("/proc", process).exists()
    assert not Path(base).exists()


@pytest.mark.slow
def test_docker_is_used_where_it_has_the_image_and_leaves_no_container(
    model, network, tmp_path, monkeypatch
):
    record, commands = tmp_path / "record", tmp_path / "commands"
    server = _program(tmp_path / "server" / "started", _STAND_IN, record=str(record), broken=False)
    docker = tmp_path / "bin" / "docker"
    _program(docker, _DOCKER, record=str(commands), server=server)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/bin:/bin")
    assert servers.best() == servers.DOCKER
    image = builders.encode(builders.noise(0))
    with servers.serving(model.uri / "Format-Serving", servers.DOCKER, 60.0) as server:
        answer = server.ask("serving_default", {"image_bytes": [image]})
        assert server.peak_memory() is None
    wanted = network(preprocess(tf.constant([image]), networks.EXPECTED))
    np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-5)
    inspected, started, removed = commands.read_text().splitlines()
    assert inspected == "image inspect tensorflow/serving"
    assert removed == f"rm --force {started.split()[3]}"
    assert not Path("/proc", record.read_text().split()[0]).exists()
    docker.write_text("#!/bin/sh\nexit 1\n")
    assert servers.best() == servers.LOADER


@keras.saving.register_keras_serializable("tests of serving")
class _Known(keras.layers.ReLU):
    pass


class _Unknown(keras.layers.ReLU):
    pass


@pytest.mark.parametrize("layer", [_Known, _Unknown])
def test_layers_of_other_modules_have_to_be_known_to_keras(layer, tmp_path):
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(layer()(images))
    (tmp_path / "Format-Keras").mkdir()
    keras.Model(images, pooled).save(tmp_path / "Format-Keras" / "model.keras")
    expected = dataclasses.asdict(networks.EXPECTED)
    written = builders.artifact(
        tmp_path, "Model", architecture=f"{__name__}:build", preprocessing=expected
    )
    files = [builders.encode(builders.noise(0))]
    if layer is _Known:
        assert trial.expected(written, files).probabilities.shape == (1, 3)
    else:
        with pytest.raises(DataError, match=r"locate class '_Unknown'; layers of your own"):
            trial.expected(written, files)


def test_a_server_that_ends_is_named_with_its_last_words(model, tmp_path, monkeypatch):
    _stand_in(tmp_path, monkeypatch, broken=True)
    with (
        pytest.raises(servers.ServerError, match=r"ended with code 1: bad flags"),
        servers.serving(model.uri / "Format-Serving", servers.MODEL_SERVER, 60.0),
    ):
        pass


def test_a_server_that_does_not_answer_in_time_is_ended(model):
    with (
        pytest.raises(servers.ServerError, match=r"no answer within 0.05 s"),
        servers.serving(model.uri / "Format-Serving", servers.LOADER, 0.05),
    ):
        pass


_GOOD = {
    "probabilities": np.array([[0.7, 0.2, 0.1]], np.float32),
    "classes": np.array([[b"bird", b"cat", b"dog"]], object),
    "scores": np.array([[0.7, 0.2, 0.1]], np.float32),
    "error": np.array([b""], object),
}


class _Answering:
    """Gives one answer to every question about one good image, and the right one to a bad one."""

    def __init__(self, answer, spared=True):
        self._answer, self._spared = answer, spared

    def ask(self, signature, inputs):
        if isinstance(self._answer, Exception):
            raise self._answer
        (batch,) = inputs.values()
        if len(batch) == 1:
            return self._answer
        rows = {name: np.repeat(value, 2, axis=0) for name, value in self._answer.items()}
        rows["probabilities"][0] = 0
        rows["error"] = np.array([b"not_an_image", b"" if self._spared else b"broken"], object)
        return rows


def _reasons(server, features=None):
    wanted = trial.Expected(_GOOD["probabilities"], features, [])
    trying = trial.Trial(server, [b"image"], wanted, networks.CLASSES, 1e-5)
    trying.answers(list(trial.REQUIRED), 1)
    return trying.findings.reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"probabilities": _GOOD["probabilities"] * np.nan}, "not finite"),
        ({"probabilities": _GOOD["probabilities"] + 0.01}, "differs from Keras' by 1.00e-02"),
        ({"probabilities": _GOOD["probabilities"][:, :2]}, r"shape (1, 2), expected (1, 3)"),
        ({"scores": _GOOD["scores"] / 2}, "the scores are not the greatest"),
        ({"classes": _GOOD["classes"][:, ::-1]}, "the names do not belong"),
        ({"error": np.array([b"empty"], object)}, "a good image is refused as 'empty'"),
    ],
)
def test_answers_that_are_wrong_in_any_part_are_noticed(changes, reason):
    found = _reasons(_Answering({**_GOOD, **changes}))
    assert any(reason in text for text in found), found


def test_answers_about_two_images_are_asked_for_in_one_batch():
    # The stand-in gives an error to the first of two rows, whatever it is.
    assert _reasons(_Answering(_GOOD)) == [
        "serving_default: a good image is refused as 'not_an_image'"
    ]


def test_outputs_and_signatures_that_are_missing_are_noticed():
    found = _reasons(_Answering({"probabilities": _GOOD["probabilities"]}), np.ones((1, 2)))
    assert "the signature 'features' is missing" in found
    assert "serving_default: no output 'classes'; it has ['error', 'probabilities']" in found


def test_bad_images_that_spoil_other_rows_are_noticed():
    assert any("and no other" in text for text in _reasons(_Answering(_GOOD, spared=False)))


def test_a_server_that_fails_is_noticed():
    found = _reasons(_Answering(servers.ServerError("INTERNAL: out of luck")))
    assert "serving_default: INTERNAL: out of luck" in found
