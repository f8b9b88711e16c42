"""The client over gRPC, against TF Serving's own servicers over a real SavedModel."""

import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from pipeline.errors import UsageError
from pipeline.serving import Client, client_grpc, export
from pipeline.serving.answers import Tensor, VersionStatus
from pipeline.serving.attempts import ServingError
from pipeline.serving.predictor import Predictor
from tests.pipeline import builders
from tests.pipeline.serving import grpc_server, networks, rest_server, tls
from tests.pipeline.serving.grpc_server import fails

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "m"
    export.save(networks.network(), networks.CLASSES, networks.EXPECTED, folder)
    return folder


@pytest.fixture(scope="module")
def listening(exported):
    with grpc_server.Server(exported, "m", [2, 3], {"stable": 2}).running() as server:
        yield server


@pytest.fixture
def model(listening):
    """Of a server that listens otherwise."""
    return listening.again()


@pytest.fixture
def server(listening):
    for seen in (listening.faults, listening.requests, listening.metadata):
        seen.clear()
    return listening


def client(server, **options):
    address = f"127.0.0.1:{server.port}"
    return Client(address, "m", **{"timeout": 120.0, "retries": 2, **options})


def images(count):
    return [builders.encode(builders.noise(seed, 30, 20), "JPEG") for seed in range(count)]


def test_predictions_are_those_of_the_saved_model(server, exported, tmp_path):
    files = [*images(9), b"<html>", b""]
    (tmp_path / "photo.png").write_bytes(builders.encode(builders.noise(77)))
    predictor = Predictor(exported)
    wanted = predictor([*files, (tmp_path / "photo.png").read_bytes()])
    with client(server, max_batch=4) as asked:
        found = list(asked.predict([*files, tmp_path / "photo.png", tmp_path / "gone.png"]))
    assert [row.error for row in found] == [*wanted.errors, "unreadable"]
    assert [row.error for row in found[9:]] == ["not_an_image", "empty", "", "unreadable"]
    for row, names, scores, probabilities in zip(
        found, wanted.classes, wanted.scores, wanted.probabilities, strict=False
    ):
        np.testing.assert_allclose(row.probabilities, probabilities, rtol=0, atol=1e-6)
        if not row.error:
            assert list(row.classes) == names
            np.testing.assert_allclose(row.scores, scores, rtol=0, atol=1e-6)
    assert len({row.classes[0] for row in found if not row.error}) > 1
    assert found[11].path == str(tmp_path / "photo.png")
    assert sorted(len(request.inputs["image_bytes"].string_val) for request in server.requests) == [
        *(4, 4, 4)
    ]


@pytest.mark.parametrize(
    ("options", "field"), [({}, None), ({"version": 3}, "version"), ({"label": "stable"}, "label")]
)
def test_a_request_is_tf_servings_message(server, options, field):
    (file,) = images(1)
    with client(server, token="secret", headers={"X-Team": "birds"}, **options) as asked:
        list(asked.predict([file]))
    expected = predict_pb2.PredictRequest()
    expected.model_spec.name = "m"
    expected.model_spec.signature_name = "serving_default"
    if field == "version":
        expected.model_spec.version.value = 3
    elif field == "label":
        expected.model_spec.version_label = "stable"
    expected.inputs["image_bytes"].dtype = tf.string.as_datatype_enum
    expected.inputs["image_bytes"].tensor_shape.dim.add(size=1)
    expected.inputs["image_bytes"].string_val.append(file)
    assert server.requests == [expected]
    assert server.metadata[0]["authorization"] == "Bearer secret"
    assert server.metadata[0]["x-team"] == "birds"


def test_status_and_metadata_are_typed(server):
    with client(server) as asked:
        assert asked.status() == [
            VersionStatus(version, "AVAILABLE", "OK", "") for version in (2, 3)
        ]
        latest = asked.metadata()
    with client(server, version=2) as asked:
        assert [status.version for status in asked.status()] == [2]
    with client(server, label="stable") as asked:
        assert asked.metadata().version == 2
    assert (latest.model, latest.version) == ("m", 3)
    assert set(latest.signatures) == {
        *("serving_default", "serve_examples"),
        *("serve_images", "features"),
    }
    signature = latest.signatures["serving_default"]
    assert signature.inputs == {"image_bytes": Tensor("DT_STRING", (None,))}
    assert signature.outputs["probabilities"] == Tensor("DT_FLOAT", (None, 3))


def test_any_signature_may_be_asked(server, exported):
    pixels = np.stack([builders.noise(seed) for seed in range(3)])
    with client(server) as asked:
        found = asked.ask("serve_images", {"images": pixels})
        features = asked.ask("features", {"image_bytes": images(2)})["features"]
    signatures = tf.saved_model.load(str(exported)).signatures
    wanted = signatures["serve_images"](tf.constant(pixels))
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-6)
    wanted = signatures["features"](tf.constant(images(2)))["features"]
    np.testing.assert_allclose(features, wanted, atol=1e-6)
    assert features.dtype == np.float32


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_what_may_pass_is_asked_again(server, code):
    server.faults += [fails(code), fails(code)]
    with client(server) as asked:
        assert [row.error for row in asked.predict(images(1))] == [""]
    assert len(server.requests) == 3


def test_in_the_end_it_gives_up_and_says_how_often_it_asked(server):
    server.faults += [fails(Code.UNAVAILABLE, "no place")] * 3
    with client(server) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict(images(1)))
    assert str(raised.value) == (
        f"grpc://127.0.0.1:{server.port}: UNAVAILABLE: no place (3 attempts)"
    )


def test_a_slow_answer_ends_at_the_deadline(server):
    asked_enough = threading.Event()
    server.faults.append(lambda context: asked_enough.wait(60))
    start = time.monotonic()
    with client(server, timeout=0.5) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict(images(1)))
    asked_enough.set()
    assert 0.4 < time.monotonic() - start < 30
    assert f"grpc://127.0.0.1:{server.port}: no answer within 0.5 s" in str(raised.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (Code.INTERNAL, "INTERNAL: by order of the test"),
        (
            Code.UNIMPLEMENTED,
            "this is not how TF Serving answers; expected the address of its gRPC",
        ),
        (Code.UNAUTHENTICATED, "a token or metadata that it expects may be missing"),
        (Code.PERMISSION_DENIED, "a token or metadata that it expects may be missing"),
        (Code.FAILED_PRECONDITION, "FAILED_PRECONDITION: by order of the test"),
    ],
)
def test_other_failures_say_so_and_are_not_repeated(server, code, said):
    server.faults.append(fails(code))
    with client(server) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict(images(1)))
    assert said in str(raised.value)
    assert len(server.requests) == 1


def test_a_model_version_or_label_that_is_unknown_says_what_there_is(server):
    there = "of which it has 2 (AVAILABLE), 3 (AVAILABLE)"
    for options, said in (
        ({"version": 9}, f"Specific(m, 9); asked for version 9 of 'm', {there}"),
        ({"label": "new"}, f"version label: new; asked for label 'new' of 'm', {there}"),
    ):
        with client(server, **options) as asked, pytest.raises(UsageError) as raised:
            list(asked.predict(images(1)))
        assert str(raised.value).endswith(said)
    with (
        Client(f"grpc://127.0.0.1:{server.port}", "n") as asked,
        pytest.raises(UsageError, match="the server has no model 'n', or none yet"),
    ):
        list(asked.predict(images(1)))
    with client(server) as asked, pytest.raises(ServingError, match='"nope" not found'):
        asked.ask("nope", {"image_bytes": images(1)})


def test_a_message_that_is_too_large_is_halved_and_a_single_file_says_so(model):
    small = images(1)[0]
    limit = 4 * len(small)
    with model.running(limit=limit), client(model) as asked:
        found = list(asked.predict([small] * 8 + [small + b"\0" * limit]))
    assert [row.error for row in found] == [""] * 8 + ["too_many_bytes"]


def test_a_batch_that_is_too_large_is_halved(server):
    text = "Task size 8 is larger than maximum input batch size 4"
    server.faults.append(fails(Code.INVALID_ARGUMENT, text))
    with client(server) as asked:
        assert [row.error for row in asked.predict(images(1) * 8)] == [""] * 8
    sizes = [len(request.inputs["image_bytes"].string_val) for request in server.requests]
    assert sizes == [8, 4, 4]


def test_an_answer_that_is_too_large_is_an_error(server, monkeypatch):
    small = tuple(
        (name, 100 if name == "grpc.max_receive_message_length" else value)
        for name, value in client_grpc._OPTIONS
    )
    monkeypatch.setattr(client_grpc, "_OPTIONS", small)
    with client(server) as asked, pytest.raises(ServingError, match="an answer of more than"):
        list(asked.predict(images(2)))
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_and_comes_is_found(model):
    with socket.socket() as held:  # bound and not listening: nobody else gets it
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        start = time.monotonic()
        with (
            Client(f"127.0.0.1:{port}", "m", retries=1) as asked,
            pytest.raises(ServingError) as raised,
        ):
            list(asked.predict(images(1)))
        assert time.monotonic() - start < 30  # the timeout is 60 s
        assert f"grpc://127.0.0.1:{port}: UNAVAILABLE: " in str(raised.value)
        assert "Connection refused; is the server running? (2 attempts)" in str(raised.value)
    with Client(f"127.0.0.1:{port}", "m", retries=20, timeout=30) as asked:
        rows = asked.predict(images(1) * 2)
        with pytest.raises(ServingError), Client(f"127.0.0.1:{port}", "m", retries=0) as other:
            other.status()
        with model.running(port=port):
            assert [row.error for row in rows] == ["", ""]


def test_the_wrong_port_of_the_two_is_recognised(server):
    with (
        Client(f"http://127.0.0.1:{server.port}", "m", retries=0) as asked,
        pytest.raises(ServingError, match="perhaps TF Serving's gRPC port"),
    ):
        list(asked.predict(images(1)))
    with (
        rest_server.Server().running() as other,
        Client(other.url.replace("http:", "grpc:"), "m", retries=0) as asked,
        pytest.raises(ServingError, match="perhaps TF Serving's REST port, http://127"),
    ):
        list(asked.predict(images(1)))


def test_tls_is_spoken_with_those_whose_authority_is_known(model, tmp_path):
    certificate, key = tls.certificate(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    with model.running(credentials):
        url = f"grpcs://localhost:{model.port}"
        with Client(url, "m", certificate=certificate) as asked:
            assert [row.error for row in asked.predict(images(1))] == [""]
        with Client(url, "m", retries=0) as asked, pytest.raises(ServingError, match="grpcs://loc"):
            asked.status()
    with pytest.raises(UsageError, match=r"certificate 'gone.pem': cannot be read"):
        Client("grpcs://localhost", "m", certificate="gone.pem")


def test_requests_go_to_all_addresses_of_a_name(model):
    """As a headless Service of Kubernetes has them."""
    other = model.again()
    with model.running(), other.running():
        target = f"ipv4:127.0.0.1:{model.port},127.0.0.1:{other.port}"
        transport = client_grpc.Grpc(
            target, "m", None, None, token=None, headers={}, certificate=None, is_secure=False
        )
        with client(model) as asked:
            asked._transport = transport
            end = time.monotonic() + 30  # the second is asked from when it is connected, too
            while time.monotonic() < end and not (model.requests and other.requests):
                list(asked.predict(images(1)))
            for seen in (model.requests, other.requests):
                seen.clear()
            for image in images(10):
                list(asked.predict([image]))
    assert min(len(model.requests), len(other.requests)) >= 3
