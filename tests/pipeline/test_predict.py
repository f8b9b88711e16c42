"""`predict` on this machine, over REST and over gRPC: the same lines, whoever answers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import predict
from pipeline.errors import UsageError
from pipeline.serving import Client, export, push
from pipeline.serving.attempts import ServingError
from pipeline.serving.predictor import Predictor
from tests.pipeline import builders
from tests.pipeline.serving import grpc_server, networks, rest_server
from tests.pipeline.test_cli import call, environment


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """Two versions of a model that answer alike; the first is stable."""
    folder = tmp_path_factory.mktemp("pushed")
    export.save(networks.network(), networks.CLASSES, networks.EXPECTED, folder / "model")
    push.push(folder / "model", folder / "saved_models" / "tiny")
    (folder / "model" / "assets" / "another.txt").touch()
    push.push(folder / "model", folder / "saved_models" / "tiny", label="canary")
    return folder / "saved_models"


@pytest.fixture(scope="module")
def laptop(pushed):
    """`python -m pipeline serve`, on a port of its own."""
    command = [*builders.PYTHON, "serve", str(pushed), "--port", "0", "--max-body", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            (url,) = re.findall(r"serving on (http://[\d.:]+)/", process.stdout.readline())
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures, a bad one and a text among them."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep").mkdir()
    for seed, name in enumerate(("a.png", "deep/b.PNG", "deep/c with spaces.png")):
        (folder / name).write_bytes(builders.encode(builders.noise(seed, 20, 30)))
    (folder / "bad.jpg").write_bytes(b"<html>")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.slow
def test_a_machine_rest_and_grpc_print_the_same(pushed, laptop, photos):
    arguments = ("predict", "a.png", "bad.jpg", ".", "--top", "2")
    here = call(*arguments, "--model", str(pushed / "tiny" / "1"), cwd=photos)
    assert here.returncode == 1
    assert here.stderr == "bad.jpg: not an image that can be decoded (not_an_image)\n" * 2
    found = re.findall(r"^(\S.*?\S) +\w+ [\d.]+%  \w+ [\d.]+%$", here.stdout, re.MULTILINE)
    assert found == ["a.png", "a.png", "deep/b.PNG", "deep/c with spaces.png"]

    server = grpc_server.Server(pushed / "tiny" / "1", "tiny", [1], {"stable": 1})
    with server.running():
        for url in (laptop, f"grpc://127.0.0.1:{server.port}"):
            options = ("--server", url, "--model", "tiny", "--label", "stable")
            there = call(*arguments, *options, cwd=photos)
            assert (there.returncode, there.stderr) == (1, here.stderr)
            assert there.stdout == here.stdout


@pytest.mark.slow
def test_the_client_and_the_laptop_server_agree_with_the_saved_model(pushed, laptop, photos):
    files = [(photos / "a.png").read_bytes(), b"<html>", (photos / "deep/b.PNG").read_bytes()]
    wanted = Predictor(pushed / "tiny")(files)
    for options, version in (({}, 2), ({"label": "stable"}, 1), ({"version": 2}, 2)):
        with Client(laptop, "tiny", **options) as asked:
            found = list(asked.predict(files))
            assert asked.metadata().version == version
        for row, error, names, probabilities in zip(
            found, wanted.errors, wanted.classes, wanted.probabilities, strict=True
        ):
            assert row.error == error
            assert list(row.classes) == ([] if error else names)
            np.testing.assert_allclose(row.probabilities, probabilities, rtol=0, atol=1e-5)
    pixels = np.stack([builders.noise(seed) for seed in range(2)])
    with Client(laptop, "tiny") as asked:
        assert [status.version for status in asked.status() if status.is_available] == [1, 2]
        assert set(asked.metadata().signatures) == {
            *("serving_default", "serve_examples", "serve_images", "features")
        }
        assert asked.ask("serve_images", {"images": pixels})["probabilities"].shape == (2, 3)
        assert asked.ask("features", {"image_bytes": files})["features"].shape == (3, 64)


@pytest.mark.slow
def test_the_client_names_what_the_laptop_server_has_not(laptop):
    for options, said in (
        ({"version": 9}, "asked for version 9 of 'tiny', of which it has 1 (AVAILABLE), 2 (AVAIL"),
        ({"label": "new"}, "asked for label 'new' of 'tiny', of which it has 1 (AVAILABLE), 2 (A"),
    ):
        with Client(laptop, "tiny", **options) as asked, pytest.raises(UsageError) as raised:
            list(asked.predict([b"x"]))
        assert said in str(raised.value)
    with Client(laptop, "huge") as asked, pytest.raises(UsageError, match="no model 'huge'"):
        list(asked.predict([b"x"]))
    with Client(laptop, "tiny") as asked, pytest.raises(ServingError, match="400"):
        asked.ask("nope", {"image_bytes": [b"x"]})


@pytest.mark.slow
def test_a_file_that_the_laptop_server_does_not_take_spoils_no_other(laptop, photos):
    """Its limit of the tests is 1 MB for a request."""
    good = (photos / "a.png").read_bytes()
    files = [good, good + bytes(2_000_000), good, *[good + bytes(400_000)] * 4]
    with Client(laptop, "tiny") as asked:
        found = [row.error for row in asked.predict(files)]
    assert found == ["", "too_many_bytes", *[""] * 5]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.png", "--version", "3"], 2, "--version 3: for --server alone; a version on this"),
        (["a.png", "--label", "x"], 2, "--label x: for --server alone"),
        (["."], 2, "folder '.': no images; expected names in .jpg, .jpeg"),
        (["a.png", "--server", "here"], 2, "server 'here': no address of a server"),
        (["gone.png", "--server", "http://h"], 2, "image 'gone.png': no such file"),
        (["a.png", "--server", "http://h", "--model", "x/y"], 2, "model 'x/y': expected a name"),
        (
            ["a.png", "--server", "http://127.0.0.1:1", "--timeout", "1"],
            1,
            "Connection refused; is the server runn",
        ),
    ],
)
def test_wrong_use_and_a_server_that_is_gone_are_one_line(tmp_path, arguments, code, message):
    (tmp_path / "file").write_text("no image")
    if "." not in arguments and "gone.png" not in arguments:
        (tmp_path / "a.png").write_text("no image")
    done = call("predict", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_read_and_what_is_no_picture_have_lines_of_their_own():
    images = [Path("a.png"), Path("longer.png"), Path("c.png")]
    answers = iter(
        [
            predict.Answer((), (), "unreadable"),
            predict.Answer((), (), "too_many_bytes"),
            predict.Answer(("cat", "dog"), (0.75, 0.25), ""),
        ]
    )
    assert list(predict.lines(images, answers, 1)) == [
        ("a.png: cannot be read", False),
        ("longer.png: not an image that can be decoded (too_many_bytes)", False),
        ("c.png       cat 75.00%", True),
    ]


def test_a_server_answers_without_tensorflow_being_loaded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"four")
    (tmp_path / "long name.png").write_bytes(b"")
    program = (
        "import sys; from pipeline import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "print(sorted({'tensorflow', 'keras', 'apache_beam', 'grpc'} & set(sys.modules)), code)\n"
    )
    with rest_server.Server().running() as server:
        command = [
            sys.executable,
            "-c",
            program,
            "predict",
            ".",
            "--top",
            "2",
            "--server",
            server.url,
        ]
        command += ["--model", "m", "--version", "7"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment(), "SERVING_TOKEN": "secret"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "a.png          4 bytes 75.00%  other 25.00%\n[] 1\n"
        assert done.stderr == "long name.png: not an image that can be decoded (empty)\n"
        assert server.requests[0].path == "/v1/models/m/versions/7:predict"
        assert server.requests[0].headers["Authorization"] == "Bearer secret"

        done = call("predict", "a.png", "--top", "3", "--server", server.url, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: --top 3: the model names the 2 most probable classes\n"
        assert server.requests[-1].path == "/v1/models/digits:predict"
