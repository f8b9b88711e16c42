"""The client over REST, against a server that answers as the tests say."""

import base64
import gzip
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.serving import Client, client_rest
from pipeline.serving.answers import Tensor, VersionStatus
from pipeline.serving.attempts import ServingError
from tests.pipeline.serving import rest_server, tls
from tests.pipeline.serving.rest_server import Answer, error

BUSY = error(503, "no place")


@pytest.fixture(scope="module")
def listening():
    with rest_server.Server().running() as server:
        yield server


@pytest.fixture
def server(listening):
    fresh = rest_server.Server()
    listening.script, listening.requests = [], []
    listening.answer, listening.most_at_once = fresh.answer, 0
    return listening


def client(server, **options):
    return Client(server.url, "m", **{"timeout": 30.0, "retries": 2, **options})


def answers(found):
    return [(row.path, row.classes, row.error) for row in found]


def test_files_bytes_and_what_cannot_be_read_have_rows_in_order(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"four")
    images = [tmp_path / "a.jpg", b"sixsix", str(tmp_path / "gone.jpg"), tmp_path, b"", b"x"]
    with client(server, max_batch=2) as asked:
        found = list(asked.predict(images))
    assert answers(found) == [
        (str(tmp_path / "a.jpg"), ("4 bytes", "other"), ""),
        (None, ("6 bytes", "other"), ""),
        (str(tmp_path / "gone.jpg"), (), "unreadable"),
        (str(tmp_path), (), "unreadable"),
        (None, (), "empty"),
        (None, ("1 bytes", "other"), ""),
    ]
    assert found[0].scores == (0.75, 0.25)
    np.testing.assert_array_equal(found[0].probabilities, np.array([0.25, 0.75], np.float32))
    assert found[0].probabilities.dtype == np.float32
    # The two that could not be read were a batch by themselves, which nobody was asked about.
    assert len(server.requests) == 2


def test_a_request_is_what_tf_serving_documents(server):
    with client(server, token="secret", headers={"X-Team": "birds"}) as asked:
        list(asked.predict([b"\0\xff", b"b"]))
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/models/m:predict")
    assert json.loads(request.body) == {
        "signature_name": "serving_default",
        "inputs": {"image_bytes": [{"b64": "AP8="}, {"b64": "Yg=="}]},
    }
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["X-Team"] == "birds"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"version": 12}, "/v1/models/m/versions/12"),
        ({"version": 0}, "/v1/models/m/versions/0"),
        ({"label": "stable"}, "/v1/models/m/labels/stable"),
        ({"label": "a/b c"}, "/v1/models/m/labels/a%2Fb%20c"),
    ],
)
def test_versions_and_labels_are_part_of_the_path(server, options, path):
    with client(server, **options) as asked:
        list(asked.predict([b"x"]))
        asked.status()
    assert [request.path for request in server.requests] == [f"{path}:predict", path]


def test_what_a_proxy_wants_in_front_of_the_path_stays(server):
    with Client(f"{server.url}/gateway/", "m") as asked:
        list(asked.predict([b"x"]))
    assert server.requests[0].path == "/gateway/v1/models/m:predict"


def test_a_netrc_does_not_overrule_the_token(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with client(server, token="secret") as asked:
        list(asked.predict([b"x"]))
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


def test_many_files_are_a_stream_of_requests_of_which_several_are_under_way(server):
    answer = server.answer

    def slowly(request):
        return Answer(answer(request).body, delay=0.05)

    server.answer = slowly
    read = []

    def images():
        for number in range(100):
            read.append(number)
            yield b"x" * (number + 1)

    with client(server, max_batch=5, in_flight=3) as asked:
        found = asked.predict(images())
        first = next(found)
        # Those under way, and one list that is being put together.
        assert len(read) <= 4 * 5 + 1
        rows = [first, *found]
    assert [row.classes[0] for row in rows] == [f"{n + 1} bytes" for n in range(100)]
    assert 2 <= server.most_at_once <= 3
    assert len(server.requests) == 20


def test_many_files_need_the_memory_of_a_few(server):
    outputs = rest_server.predictions(b'{"inputs": {"image_bytes": [{"b64": ""}]}}').body["outputs"]

    class Transport:
        def ask(self, signature, inputs, deadline):
            count = len(inputs["image_bytes"])
            return {name: client_rest._array(value * count) for name, value in outputs.items()}

        def close(self):
            pass

    def images():
        for number in range(4000):
            yield bytes([number % 256]) * 20_000

    with client(server) as asked:
        asked._transport = Transport()
        list(asked.predict([b"x"]))
        tracemalloc.start()
        count = sum(1 for _ in asked.predict(images()))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 4000
    # Four requests of 32 files, of 80 MB in all; as many that wait, and those of threads that the
    # system put to sleep on their way to the next one.
    assert peak < 12 * 32 * 20_000


def test_requests_keep_the_limit_of_bytes_and_a_larger_file_goes_alone(server):
    with client(server, max_request_bytes=100) as asked:
        list(asked.predict([b"x" * 60, b"y" * 40, b"z", b"w" * 300, b"v"]))
    sizes = sorted(
        [len(base64.b64decode(file["b64"])) for file in body["inputs"]["image_bytes"]]
        for body in (json.loads(request.body) for request in server.requests)
    )
    assert sizes == [[1], [1], [60, 40], [300]]


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_what_may_pass_is_asked_again(server, code):
    server.script = [error(code, "not now"), Answer(b"<html>bad gateway</html>", code)]
    with client(server) as asked:
        assert answers(asked.predict([b"x"])) == [(None, ("1 bytes", "other"), "")]
    assert len({request.body for request in server.requests}) == 1
    assert len(server.requests) == 3


def test_a_connection_that_breaks_in_an_answer_is_made_anew(server):
    whole = rest_server.predictions(
        b'{"inputs": {"image_bytes": [{"b64": "eA=="}, {"b64": "eA=="}]}}'
    )
    server.script = [Answer(whole.body, cut=0), Answer(whole.body, cut=30)]
    with client(server) as asked:
        assert [row.classes[0] for row in asked.predict([b"x", b"x"])] == ["1 bytes"] * 2
    assert len(server.requests) == 3


def test_retry_after_is_obeyed_as_seconds_and_as_a_date(server):
    for is_date in (False, True):
        soon = datetime.now(UTC) + timedelta(seconds=2)  # a date has whole seconds
        value = format_datetime(soon, usegmt=True) if is_date else "1"
        server.script = [error(429, "slow down", headers=(("Retry-After", value),))]
        start = time.time()
        with client(server) as asked:
            list(asked.predict([b"x"]))
        assert time.time() >= (int(soon.timestamp()) if is_date else start + 1) - 0.01


@pytest.mark.parametrize(
    "value", ["soon", "-3", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT"], ids=lambda text: text[:9]
)
def test_a_senseless_retry_after_is_passed_over(server, value):
    server.script = [error(503, "no place", headers=(("Retry-After", value),))]
    with client(server) as asked:
        assert len(list(asked.predict([b"x"]))) == 1


def test_to_be_asked_to_wait_too_long_is_an_error_at_once(server):
    server.script = [error(429, "slow down", headers=(("Retry-After", "3600"),))]
    with client(server) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict([b"x"]))
    assert "429 Too Many Requests: slow down; it asks to wait 3600 s, but" in str(raised.value)
    assert len(server.requests) == 1


def test_in_the_end_it_gives_up_and_says_how_often_it_asked(server):
    server.script = [BUSY] * 3
    with client(server) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict([b"x"]))
    assert str(raised.value) == (
        f"{server.url}/v1/models/m:predict: 503 Service Unavailable: no place (3 attempts)"
    )
    assert (raised.value.exit_code, len(server.requests)) == (1, 3)


def test_the_timeout_is_one_for_all_attempts(server):
    server.answer = lambda request: BUSY
    start = time.monotonic()
    with client(server, timeout=1.0, retries=50) as asked, pytest.raises(ServingError):
        list(asked.predict([b"x"]))
    # So many waits would take minutes.
    assert time.monotonic() - start < 20


class Oversleeping(threading.Event):
    """Wakes later than it was asked to, as a busy machine does."""

    def wait(self, timeout=None):
        time.sleep(timeout + 2.0)
        return False


def test_a_deadline_that_passes_in_a_wait_names_what_was_waited_for(server):
    server.answer = lambda request: BUSY
    with client(server, timeout=2.0) as asked, pytest.raises(ServingError) as raised:
        asked._closed = Oversleeping()
        list(asked.predict([b"x"]))
    assert ":predict: no answer within 2 s" in str(raised.value)
    assert str(raised.value).endswith("503 Service Unavailable: no place")
    assert len(server.requests) == 1


@pytest.mark.parametrize("slow", [{"delay": 30.0}, {"drip": 0.1}])
def test_a_server_that_answers_slowly_is_waited_for_no_longer_than_the_timeout(server, slow):
    """Also one that sends a byte at a time, which is never silent for long."""
    server.script = [Answer({"outputs": {"y": [1.0] * 100}}, **slow)]
    start = time.monotonic()
    with client(server, timeout=0.5) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict([b"x"]))
    assert 0.4 < time.monotonic() - start < 15
    assert f"{server.url}/v1/models/m:predict: no answer within 0.5 s" in str(raised.value)


def test_a_closed_client_stops_waiting(server):
    server.answer = lambda request: error(503, "no", headers=(("Retry-After", "30"),))
    asked = client(server, timeout=60.0)
    threading.Timer(0.3, asked.close).start()
    start = time.monotonic()
    with pytest.raises(ServingError):
        list(asked.predict([b"x"]))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>welcome</html>"),
        Answer(b""),
        Answer(b"[" * 200_000),
        Answer([1, 2]),
        Answer({"outputs": None}),
        Answer({"outputs": {"y": [[1], [2, 3]]}}),
        Answer({"outputs": {"y": [{"b64": "?"}]}}),
        Answer({"outputs": {"y": [{"text": "x"}]}}),
        Answer({"outputs": {"y": ["\ud800"]}}),
        Answer({"predictions": [1]}),
        Answer(b"<html>nothing here</html>", 404),
        Answer(b"", 301, headers=(("Location", "https://elsewhere"),)),
        Answer(b'{"x": NaN', 200),
    ],
    ids=lambda answer: repr(answer.content()[:20]),
)
def test_what_is_not_tf_serving_is_named(server, answer):
    server.script = [answer]
    with client(server) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict([b"x"]))
    message = str(raised.value)
    assert message.startswith(f"{server.url}/v1/models/m:predict: this is not how TF Serving")
    assert "expected the address of its REST port, such as http://localhost:8501" in message
    assert len(message) < 500
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "outputs",
    [
        {"classes": [["a"]], "scores": [[1.0]], "probabilities": [[1.0]], "error": []},
        {"classes": [["a"]], "scores": [[1.0, 2.0]], "probabilities": [[1.0]], "error": [""]},
        {"classes": [[1]], "scores": [[1.0]], "probabilities": [[1.0]], "error": [""]},
        {"classes": [["a"]], "scores": [["x"]], "probabilities": [[1.0]], "error": [""]},
        {"classes": 1, "scores": 1, "probabilities": 1, "error": 1},
    ],
    ids=range(5),
)
def test_outputs_that_do_not_fit_are_an_error(server, outputs):
    server.script = [Answer({"outputs": outputs})]
    with client(server) as asked, pytest.raises(ServingError, match="does not fit"):
        list(asked.predict([b"x"]))


def test_another_kind_of_model_is_named(server):
    server.script = [Answer({"outputs": {"y": [1.0], "z": [2.0]}})]
    with client(server) as asked, pytest.raises(UsageError) as raised:
        list(asked.predict([b"x"]))
    assert "serving_default of model 'm' gives y, z and not classes, error, " in str(raised.value)


def test_a_model_that_is_unknown_says_what_there_is(server):
    def answer(request):
        if request.path == "/v1/models/m":
            return Answer(rest_server.STATUS)
        return error(404, "Servable not found for request: Specific(m, 9)")

    server.answer = answer
    with client(server, version=9) as asked, pytest.raises(UsageError) as raised:
        list(asked.predict([b"x"]))
    assert str(raised.value) == (
        f"{server.url}/v1/models/m/versions/9:predict: 404 Not Found: Servable not found for "
        "request: Specific(m, 9); asked for version 9 of 'm', of which it has 3 (AVAILABLE)"
    )
    server.answer = lambda request: error(404, "Could not find any versions of model m")
    with client(server) as asked, pytest.raises(UsageError) as raised:
        asked.status()
    assert "the server has no model 'm', or none yet; its models.config says" in str(raised.value)
    # What TF Serving says of a label is a bad request.
    server.answer = lambda request: (
        Answer(rest_server.STATUS)
        if request.path == "/v1/models/m"
        else error(400, "Unrecognized servable version label: new")
    )
    with client(server, label="new") as asked, pytest.raises(UsageError, match="label 'new' of"):
        list(asked.predict([b"x"]))


def test_bad_requests_tokens_and_failures_say_so_and_are_not_repeated(server):
    for code, text, said in (
        (400, "Serving signature name not found", "400 Bad Request: Serving signature name not"),
        (401, "who?", "401 Unauthorized: who?; a token or a header that it expects may be"),
        (403, "not you", "403 Forbidden: not you; a token"),
        (500, "Out of memory", "500 Internal Server Error: Out of memory"),
    ):
        server.script = [error(code, text)]
        server.requests.clear()
        with client(server) as asked, pytest.raises(ServingError) as raised:
            list(asked.predict([b"x"]))
        assert said in str(raised.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        error(413, "too large"),
        Answer(b"<html>413</html>", 413),
        error(400, "Task size 6 is larger than maximum input batch size 4"),
    ],
    ids=["own", "proxy", "batch"],
)
def test_a_request_that_is_too_large_is_halved_and_a_single_file_says_so(server, refusal):
    answer = server.answer

    def limited(request):
        files = json.loads(request.body)["inputs"]["image_bytes"]
        large = len(files) > 4 or any(len(file["b64"]) > 100 for file in files)
        return refusal if large else answer(request)

    server.answer = limited
    images = [b"a", b"bb", b"c" * 1000, b"dddd", b"e", b"f"]
    with client(server) as asked:
        found = answers(asked.predict(images))
    assert [row[2] for row in found] == ["", "", "too_many_bytes", "", "", ""]
    assert [row[1][:1] for row in found if row[1]] == [(f"{n} bytes",) for n in (1, 2, 4, 1, 1)]


def test_an_answer_that_is_too_large_is_not_read_to_its_end(server, monkeypatch):
    monkeypatch.setattr(client_rest, "_MOST_ANSWER_BYTES", 1 << 20)
    server.script = [Answer(b" " * (8 << 20))]
    with client(server) as asked, pytest.raises(ServingError, match="more than 1 MiB"):
        list(asked.predict([b"x"]))


def test_a_compressed_answer_is_read(server):
    plain = rest_server.predictions(b'{"inputs": {"image_bytes": [{"b64": "eA=="}]}}').content()
    packed = gzip.compress(plain)
    server.script = [Answer(packed, headers=(("Content-Encoding", "gzip"),))]
    with client(server) as asked:
        assert answers(asked.predict([b"x"])) == [(None, ("1 bytes", "other"), "")]


def test_tls_is_spoken_with_those_whose_authority_is_known(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    other, _ = tls.certificate(tmp_path / "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    certificate, key = tls.certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with rest_server.Server().running(context) as server:
        with client(server, certificate=certificate) as asked:
            assert answers(asked.predict([b"x"])) == [(None, ("1 bytes", "other"), "")]
        with client(server) as asked, pytest.raises(ServingError) as raised:
            asked.status()
        assert f"{server.url}/v1/models/m: no secure connection: " in str(raised.value)
        assert "certificate verify failed" in str(raised.value)
        missing = tmp_path / "gone.pem"
        with (
            client(server, certificate=missing) as asked,
            pytest.raises(ServingError, match="gone"),
        ):
            asked.status()


def test_a_server_that_is_not_there_is_named_soon(unused_port):
    start = time.monotonic()
    url = f"http://127.0.0.1:{unused_port}"
    with Client(url, "m", retries=1) as asked, pytest.raises(ServingError) as raised:
        list(asked.predict([b"x"]))
    assert time.monotonic() - start < 20  # the timeout is 60 s
    assert str(raised.value).startswith(f"{url}/v1/models/m:predict: no answer: Failed to est")
    assert str(raised.value).endswith("Connection refused; is the server running? (2 attempts)")


@pytest.fixture
def unused_port():
    with socket.socket() as held:  # bound and not listening: nobody else gets it
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_server_that_comes_back_is_found(unused_port, server):
    """The first attempts meet nobody."""
    with client(server, retries=50) as asked:
        url = asked._transport._url
        asked._transport._url = f"http://127.0.0.1:{unused_port}"
        threading.Timer(0.2, setattr, (asked._transport, "_url", url)).start()
        assert len(list(asked.predict([b"x"]))) == 1


def test_status_and_metadata_are_typed(server):
    server.script = [
        Answer(
            {
                "model_version_status": [
                    {
                        "version": "2",
                        "state": "END",
                        "status": {"error_code": "NOT_FOUND", "error_message": "gone"},
                    },
                    {"version": "3", "state": "AVAILABLE"},
                ]
            }
        ),
        Answer(
            {
                "model_spec": {"name": "m", "signature_name": "", "version": "3"},
                "metadata": {
                    "signature_def": {
                        "signature_def": {
                            "serving_default": {
                                "inputs": {
                                    "x": {
                                        "dtype": "DT_STRING",
                                        "tensor_shape": {
                                            "dim": [{"size": "-1", "name": ""}],
                                            "unknown_rank": False,
                                        },
                                        "name": "x:0",
                                    }
                                },
                                "outputs": {
                                    "y": {
                                        "dtype": "DT_FLOAT",
                                        "tensor_shape": {"dim": [], "unknown_rank": True},
                                        "name": "y:0",
                                    }
                                },
                                "method_name": "tensorflow/serving/predict",
                            },
                            "__saved_model_init_op": {"inputs": {}, "outputs": {}},
                        }
                    }
                },
            }
        ),
    ]
    with client(server) as asked:
        old, new = asked.status()
        described = asked.metadata()
    assert old == VersionStatus(2, "END", "NOT_FOUND", "gone")
    assert (old.is_available, new.is_available) == (False, True)
    assert (described.model, described.version) == ("m", 3)
    (signature,) = described.signatures.values()
    assert signature.inputs == {"x": Tensor("DT_STRING", (None,))}
    assert signature.outputs == {"y": Tensor("DT_FLOAT", None)}
    assert [request.path for request in server.requests] == [
        "/v1/models/m",
        "/v1/models/m/metadata",
    ]


@pytest.mark.parametrize("body", [{}, {"model_version_status": [{}]}, {"model_version_status": 3}])
def test_a_status_of_another_form_is_an_error(server, body):
    server.script = [Answer(body)] * 2
    with client(server) as asked:
        with pytest.raises(ServingError, match="status of another form than TF Serving's"):
            asked.status()
        with pytest.raises(ServingError, match="metadata of another form than TF Serving's"):
            asked.metadata()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(
    outputs=st.dictionaries(
        st.sampled_from(["classes", "scores", "probabilities", "error", "x"]), JSON_VALUES
    )
)
def test_no_answer_makes_another_error_than_those_that_are_documented(server, outputs):
    server.script = [Answer({"outputs": outputs})]
    with client(server) as asked:
        try:
            (row,) = asked.predict([b"x"])
            assert isinstance(row.error, str)
        except (ServingError, UsageError) as raised:
            assert server.url in str(raised)


def test_any_signature_may_be_asked_with_numbers_and_strings(server):
    given_back = {
        "numbers": [[1, 2], [3, 4]],
        "half": [0.5, float("nan")],
        "text_bytes": [{"b64": "AP8="}, {"b64": ""}],
        "text": ["ä", ""],
    }
    server.script = [Answer({"outputs": given_back}), Answer({"outputs": [[1.5], [2.5]]})]
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 1, 3)
    with client(server) as asked:
        found = asked.ask("serve_images", {"images": pixels, "names": [b"a", b"b"]})
        (only,) = asked.ask("one", {"x": np.ones(2)}).values()
    sent = json.loads(server.requests[0].body)
    assert sent["signature_name"] == "serve_images"
    assert sent["inputs"] == {
        "images": pixels.tolist(),
        "names": [{"b64": "YQ=="}, {"b64": "Yg=="}],
    }
    np.testing.assert_array_equal(found["numbers"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["half"], [0.5, np.nan])
    assert found["text_bytes"].tolist() == [b"\0\xff", b""]
    assert found["text"].tolist() == ["ä".encode(), b""]
    np.testing.assert_array_equal(only, [[1.5], [2.5]])


def test_strings_that_are_no_text_arrive_as_they_were_sent(server):
    """TF Serving writes them into its JSON as they are."""
    server.script = [Answer(b'{"outputs": {"names": ["\xff\xfe", "b"]}}')]
    with client(server) as asked:
        assert asked.ask("names", {"x": np.zeros(1)})["names"].tolist() == [b"\xff\xfe", b"b"]


@pytest.mark.parametrize(
    ("server_", "options", "message"),
    [
        ("localhost", {}, "server 'localhost': no address of a server; expected http://host"),
        ("ftp://host:1", {}, "server 'ftp://host:1': no address of a server"),
        ("http://", {}, "no address of a server"),
        ("host:port", {}, "server 'host:port': "),
        ("host:99999", {}, "server 'host:99999': "),
        ("http://[::1", {}, "server 'http://[::1': "),
        ("http://host?x=1", {}, "no address of a server"),
        ("grpc://host/path", {}, "gRPC knows no path"),
        ("http://me:secret@host", {}, "server http://…@host: passwords have no place in an"),
        ("http://h", {"model": ""}, "model '': expected a name"),
        ("http://h", {"model": "saved_models/m"}, "model 'saved_models/m': expected a name, such"),
        ("http://h", {"version": -1}, "version -1: expected a whole number"),
        ("http://h", {"version": 1, "label": "x"}, "label 'x': expected no label beside a version"),
        ("http://h", {"label": ""}, "label '': expected a name"),
        ("http://h", {"timeout": 0}, "timeout 0: expected seconds"),
        ("http://h", {"timeout": float("inf")}, "timeout inf: expected seconds, more than 0 and"),
        ("http://h", {"timeout": float("nan")}, "timeout nan: expected seconds"),
        ("http://h", {"token": "secret\n"}, "token: empty, or with what no header can carry"),
        ("h:1", {"token": "secret→"}, "token: empty, or with what no header can carry"),
        ("http://h", {"token": ""}, "token: empty, "),
        ("http://h", {"headers": {"X": "secret\r\nY: 1"}}, "header 'X': no value that can be"),
        ("h:1", {"headers": {"X Y": "secret"}}, "header 'X Y': expected a name"),
        ("http://h", {"retries": -1}, "retries -1: expected at least 0"),
        ("http://h", {"max_batch": 0}, "max_batch 0: expected at least 1"),
        ("http://h", {"in_flight": 0}, "in_flight 0: expected at least 1"),
        ("http://h", {"max_request_bytes": 0}, "max_request_bytes 0: expected 1 to"),
        ("http://h", {"max_request_bytes": 2 << 30}, "expected 1 to 1073741824"),
    ],
)
def test_wrong_use_says_what_was_expected(server_, options, message):
    with pytest.raises(UsageError) as raised:
        Client(server_, **{"model": "m", **options})
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


_FRESH = """
import resource, sys
from pipeline.serving import Client
with Client(sys.argv[1], "m") as client:
    (row,) = client.predict([b"abc"])
    assert row.classes[0] == "3 bytes", row
heavy = {"tensorflow", "keras", "apache_beam", "grpc", "tensorflow_serving"} & set(sys.modules)
used = resource.getrusage(resource.RUSAGE_SELF)
# A third of a second where nothing else runs; TensorFlow alone would take several.
print(sorted(heavy), used.ru_utime + used.ru_stime < 2.0)
"""


def test_rest_needs_no_tensorflow_and_starts_soon(server):
    done = subprocess.run(
        [sys.executable, "-c", _FRESH, server.url], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[] True\n", "")


_INTERRUPTED = """
import signal, sys
from pipeline.serving import Client
signal.signal(signal.SIGINT, signal.default_int_handler)
with Client(sys.argv[1], "m") as client:
    try:
        list(client.predict([b"abc"] * 100))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_does_not_wait_for_requests_under_way(server):
    server.answer = lambda request: Answer({}, delay=60.0)
    command = [sys.executable, "-c", _INTERRUPTED, server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not server.requests and process.poll() is None:
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
    assert process.returncode == 0
    assert time.monotonic() - start < 30
