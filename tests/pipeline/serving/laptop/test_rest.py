"""TF Serving's REST paths over a real process: answers, refusals, and what it costs to refuse."""

import base64
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.records import example_proto
from pipeline.records.examples import IMAGE
from pipeline.serving import push
from tests.pipeline import builders
from tests.pipeline.serving.laptop import running

_TOLERANCE = 1e-5
_MEGA = 1_000_000
# Above what it has when it has answered once: eight bodies, one of them as JSON, and 64 million
# pixels on their way to the network.
_MOST_MEMORY = 1200 * _MEGA
_PREDICT = "/v1/models/photos:predict"


@pytest.fixture(scope="session")
def laptop(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laptop")
    push.push(exported, folder / "served" / "photos")
    push.push(running.scaling(folder / "scaling", 2.0), folder / "served" / "scale")
    with running.serve(folder / "served", folder) as server:
        yield server


@pytest.fixture(scope="session")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


def _files(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        builders.encode(random.integers(0, 256, (20 + n, 30, 3), np.uint8)) for n in range(count)
    ]


def _b64(content):
    return {"b64": base64.b64encode(content).decode()}


def _example(encoded):
    message = example_proto.example_class()()
    message.features.feature[IMAGE].bytes_list.value.append(encoded)
    return message.SerializeToString()


def _columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def _assert_equal(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if value.dtype == tf.string:
            assert found[name] == np.char.decode(value.numpy().astype(bytes)).tolist()
        else:
            np.testing.assert_allclose(found[name], value, rtol=0, atol=_TOLERANCE)


@pytest.mark.parametrize("form", ["instances", "inputs"])
@pytest.mark.parametrize(
    "signature", ["serving_default", "features", "serve_examples", "serve_images"]
)
def test_answers_are_those_of_the_saved_model(laptop, signatures, signature, form):
    key, files = "image_bytes", [*_files(5), b"no image", b""]
    if signature == "serve_images":
        pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 9, 3), np.uint8)
        key, values, given = "images", pixels.tolist(), tf.constant(pixels)
    else:
        if signature == "serve_examples":
            key, files = "examples", [*map(_example, files), b"\xff"]
        values, given = [_b64(file) for file in files], tf.constant(files)
    if form == "instances":
        values = [{key: value} for value in values]
    found = laptop.predict("photos", {"signature_name": signature, form: values})
    _assert_equal(
        _columns(found) if form == "instances" else found, signatures[signature](**{key: given})
    )


def test_requests_that_come_together_each_have_their_own_answer(laptop, signatures):
    files = _files(24, seed=1)

    def ask(place):
        chosen = files[place : place + 1 + place % 3]
        return laptop.predict("photos", {"instances": [_b64(file) for file in chosen]})

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(20)))
    for place, rows in enumerate(found):
        chosen = files[place : place + 1 + place % 3]
        _assert_equal(_columns(rows), signatures["serving_default"](tf.constant(chosen)))


def test_a_request_larger_than_a_batch_is_answered(laptop, signatures):
    files = _files(70, seed=2)
    rows = laptop.predict("photos", {"instances": [_b64(file) for file in files]})
    _assert_equal(_columns(rows), signatures["serving_default"](tf.constant(files)))


@pytest.mark.slow
def test_odd_images_have_the_errors_that_the_saved_model_gives(laptop, signatures, real_images):
    folder = real_images / "odd_images"
    names = [row["file"] for row in json.loads((folder / "manifest.json").read_text())]
    files = [(folder / name).read_bytes() for name in names] + [b"<html></html>", b""]
    wanted = signatures["serving_default"](tf.constant(files))
    together = laptop.predict("photos", {"instances": [_b64(file) for file in files]})
    _assert_equal(_columns(together), wanted)
    errors = [row["error"] for row in together]
    assert errors[-2:] == ["not_an_image", "empty"]
    assert errors[names.index("broken.png")] == "too_many_pixels"
    alone = [laptop.predict("photos", {"instances": [_b64(file)]})[0] for file in files]
    assert [row["error"] for row in alone] == errors


def test_statuses_metadata_and_health_are_those_of_tf_serving(laptop):
    available = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for part in ("", "/versions/1", "/labels/stable"):
        found = laptop.ask(f"/v1/models/scale{part}")
        assert (found.status, found.json) == (200, {"model_version_status": [available]})
    found = laptop.ask("/v1/models/scale/metadata").json
    assert found["model_spec"] == {"name": "scale", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert laptop.ask("/health").json == {"status": "ok", "models": ["photos", "scale"]}
    listed = {model["name"]: model for model in laptop.ask("/models").json["models"]}
    assert listed["photos"]["takes_files"]
    assert not listed["scale"]["takes_files"]
    assert listed["scale"]["labels"] == {"stable": 1}


def test_any_saved_model_is_served(laptop):
    for path in ("scale", "scale/versions/1", "scale/labels/stable"):
        found = laptop.ask(f"/v1/models/{path}:predict", {"inputs": {"x": [1, 2.5]}})
        assert found.json == {"outputs": {"factor": [2, 2], "y": [2, 5]}}
        assert found.headers["model-version"] == "1"
    mean = {"signature_name": "mean", "inputs": [1, 3]}
    assert laptop.predict("scale", mean) == 2
    assert laptop.predict("scale", {"signature_name": "root", "instances": [4, 9]}) == [2, 3]
    # A number that is none is written as TF Serving writes it.
    negative = laptop.ask("/v1/models/scale:predict", {"signature_name": "root", "inputs": [-1]})
    assert negative.content == b'{"outputs": [NaN]}'


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/models/no", None, 404, "Could not find any versions of model no"),
        ("/v1/models/no:predict", {"instances": [1]}, 404, "served: photos, scale"),
        ("/v1/models/scale/versions/7", None, 404, "Could not find version 7"),
        ("/v1/models/scale/versions/7:predict", {"instances": [1]}, 404, "loaded: 1"),
        ("/v1/models/scale/labels/no:predict", {"instances": [1]}, 400, "version label: no"),
        ("/v1/models/scale/versions/x:predict", {"instances": [1]}, 404, "nothing is at"),
        (f"/v1/models/scale/versions/{'9' * 5000}", None, 404, "nothing is at"),
        ("/v1/models/scale:classify", {"examples": []}, 501, "predict alone"),
        ("/v1/models/scale:predict", None, 405, "expected POST"),
        ("/v1/models/scale", {}, 405, "expected GET"),
        ("/nowhere", None, 404, "/health"),
        ("/v1/models/a%2Fb", None, 404, "nothing is at"),
        (_PREDICT, b"<html>", 400, "not JSON"),
        (_PREDICT, b'{"instances": [NaN]}', 400, "NaN"),
        (_PREDICT, b"[" * 100_000, 400, "nested too deep"),
        (_PREDICT, {"instances": [_b64(b"x")] * 257}, 400, "at most 256"),
        ("/v1/models/scale:predict", {"signature_name": "mean", "instances": [1]}, 400, "'inputs'"),
        (
            "/v1/models/scale:predict",
            {"signature_name": "parse", "instances": ["x"]},
            400,
            "StringToNumberOp could not correctly convert string: x",
        ),
    ],
)
def test_refusals_say_what_was_found_and_what_was_expected(laptop, path, body, status, said):
    found = laptop.ask(path, body)
    assert found.status == status
    assert said in found.error
    assert "Traceback" not in found.error


def test_a_request_that_tensorflow_refuses_spoils_no_other(laptop):
    def ask(text):
        body = {"signature_name": "parse", "instances": [text]}
        return laptop.ask("/v1/models/scale:predict", body).status

    with ThreadPoolExecutor(8) as threads:
        texts = ["1", "x", "2", "3"] * 10
        assert list(threads.map(ask, texts)) == [400 if text == "x" else 200 for text in texts]


def test_pages_of_others_and_other_names_are_refused(laptop):
    for path in ("/", "/models", "/v1/models/scale"):
        assert laptop.ask(path, Host="evil.example").status == 403
        assert laptop.ask(path, Host=f"localhost:{laptop.port}").status == 200
    body = {"instances": [1]}
    foreign = laptop.ask("/v1/models/scale:predict", body, Origin="https://evil.example")
    assert (foreign.status, "only pages of" in foreign.error) == (403, True)
    own = laptop.ask("/v1/models/scale:predict", body, Origin=laptop.url)
    assert own.status == 200
    assert not [name for name in own.headers if name.startswith("access-control")]
    asked = laptop.ask("/v1/models/scale:predict", method="OPTIONS", Origin="https://evil.example")
    assert asked.status in (403, 405)


def test_what_is_too_large_is_refused_without_being_read(laptop):
    announced = socket.create_connection(("127.0.0.1", laptop.port), timeout=60)
    with announced:
        announced.sendall(
            f"POST {_PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n".encode()
        )
        assert b" 413 " in announced.recv(1000)  # what waits for a body in vain is 408
    whole = laptop.ask(_PREDICT, b"x" * 50 * _MEGA)
    chunked = laptop.ask(_PREDICT, iter([b"x" * _MEGA] * 50))
    for found in (whole, chunked):
        assert found.status == 413
        assert "at most 32,000,000" in found.error
    assert laptop.ask(_PREDICT, b"x", Content_Encoding="gzip").status == 415


def _png(height, width):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.mark.slow
def test_memory_stays_bounded_whatever_comes(laptop):
    laptop.predict("photos", {"instances": [_b64(file) for file in _files(32)]})
    before = laptop.memory()
    large = _png(7900, 8000)
    hostile = [
        b"x" * 50 * _MEGA,
        b"[" * 30 * _MEGA,
        b'{"instances": [' + b"[]," * 10 * _MEGA + b"[]]}",
        b'{"instances": [' + b"[]," * 600_000 + b"[]]}",
        b'{"instances": [{"b64": "' + b"A" * 31 * _MEGA + b'"}]}',
        json.dumps({"instances": ["\u00e9" * 5 * _MEGA]}).encode(),
        # Few bytes that are many pixels, one of them more than are decoded.
        json.dumps({"instances": [_b64(large)] * 2 + [_b64(_png(8001, 8000))]}).encode(),
        json.dumps({"signature_name": "serve_examples", "instances": [_b64(_example(large))]}),
    ]

    def ask(place):
        found = laptop.ask(_PREDICT, hostile[place % len(hostile)], method="POST")
        return found.status, found.content

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(2 * len(hostile))))
    statuses = [status for status, _ in found]
    for first, second in zip(statuses[:8], statuses[8:], strict=True):
        assert {first, second} <= {200, 400, 413, 503, 504}, statuses
    assert statuses[:4] == [413, 400, 400, 400]
    rows = [json.loads(content).get("predictions", []) for _, content in found if _ == 200]
    assert any([row["error"] for row in answer][2:] == ["too_many_pixels"] for answer in rows)
    assert laptop.memory("VmHWM") - before < _MOST_MEMORY
    assert laptop.ask("/health").status == 200


def test_slow_clients_block_nobody(laptop):
    head = f"POST {_PREDICT} HTTP/1.1\r\nHost: localhost\r\n".encode()
    beginnings = [
        b"",
        b"POST /v1/mod",
        head,
        head + b"Content-Length: 30000000\r\n\r\n" + b"x" * 100_000,
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ]
    slow = []
    try:
        for place in range(100):
            slow.append(socket.create_connection(("127.0.0.1", laptop.port)))
            slow[-1].sendall(beginnings[place % len(beginnings)])
        started = time.monotonic()
        for _ in range(20):
            assert laptop.predict("scale", {"instances": [1]}) == [{"factor": 2, "y": 2}]
        assert time.monotonic() - started < 15  # the least that the server waits for one of them
    finally:
        for one in slow:
            one.close()


def test_a_connection_is_used_again_also_after_a_refusal(laptop):
    connection = http.client.HTTPConnection("127.0.0.1", laptop.port, timeout=30)
    path = "/v1/models/scale:predict"
    for _ in range(3):
        assert running.ask(connection, path, {"instances": [1]}).status == 200
        assert running.ask(connection, path, b"{").status == 400
        assert running.ask(connection, path, b"x" * 40 * _MEGA).status == 413
    connection.close()


def test_clients_that_leave_are_forgotten(laptop):
    body = json.dumps({"instances": [_b64(file) for file in _files(64)]}).encode()
    head = f"POST {_PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    for sent in (body, body[: len(body) // 2]):
        with socket.create_connection(("127.0.0.1", laptop.port)) as leaving:
            leaving.sendall(head.encode() + sent)
    assert laptop.predict("scale", {"instances": [1]}) == [{"factor": 2, "y": 2}]
    assert "Traceback" not in laptop.errors.read_text()


@pytest.mark.slow
def test_no_request_is_dropped_while_versions_are_pushed_and_rolled_back(tmp_path):
    """Eight clients ask without a pause, by no version and by label, on connections they keep."""
    base = tmp_path / "served" / "scale"
    factors = {1: 2.0}
    models = {factor: running.scaling(tmp_path / str(factor), factor) for factor in (2.0, 3.0, 5.0)}
    push.push(models[2.0], base)
    done = threading.Event()

    with running.serve(tmp_path / "served", tmp_path) as server:

        def hammer(label):
            found, connection = [], http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            while not done.is_set():
                answer = running.ask(
                    connection, f"/v1/models/scale{label}:predict", {"instances": [1, 2]}
                )
                found.append((answer.status, answer.headers.get("model-version"), answer.content))
            connection.close()
            return found

        def served(label):
            answer = server.ask(f"/v1/models/scale/labels/{label}/metadata")
            # A label that is new is unknown until the disk has been looked at.
            return answer.json["model_spec"]["version"] if answer.status == 200 else None

        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(hammer, label) for label in ("", "/labels/stable") * 4]
            try:
                for factor, label in ((3.0, "stable"), (5.0, "canary"), (2.0, "stable")):
                    number = push.push(models[factor], base, label=label, keep_last=2).number
                    factors[number] = factor
                    running.until(lambda n=number, label=label: served(label) == str(n))
                pushed, target = push.rollback(base)
                factors[pushed.number] = factors[target]
                running.until(lambda: served("stable") == str(pushed.number))
                running.until(lambda: "END" in json.dumps(server.ask("/v1/models/scale").json))
                time.sleep(0.5)
            finally:
                done.set()
            found = [answer for one in asked for answer in one.result()]
        assert "cannot" not in server.errors.read_text()
    assert {status for status, _, _ in found} == {200}
    assert {int(number) for _, number, _ in found} == set(factors)
    for _, number, content in found:
        factor = factors[int(number)]
        assert json.loads(content)["predictions"] == [
            {"factor": factor, "y": factor},
            {"factor": factor, "y": 2 * factor},
        ]
