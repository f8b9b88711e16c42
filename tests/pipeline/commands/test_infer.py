"""The command on many images, as a person types it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import PipelineError, UsageError
from pipeline.serving import export
from pipeline.training import preprocessing
from tests.pipeline.bulk import models
from tests.pipeline.serving import networks
from tests.pipeline.serving.test_parity import _REFUSED
from tests.pipeline.test_cli import environment


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.save(tmp_path_factory.mktemp("model") / "lengths")


def typed(*arguments):
    """Returns what a command prints."""
    done = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_becomes_shards_and_a_line_says_what_came_of_it(model, tmp_path):
    models.pictures(tmp_path / "photos", 9)
    command = ("infer", tmp_path / "photos", "--model", model, "--output", tmp_path / "out")
    shown = typed(*command, "--shard-size", 4, "--top", 1)
    assert f"{tmp_path}/out: 9 of 11 images predicted; 2 not (1 " in shown
    rows = [
        json.loads(line)
        for path in (tmp_path / "out").glob("predictions-*")
        for line in path.read_text().splitlines()
    ]
    assert len(rows) == 9
    assert all(len(row["classes"]) == 1 for row in rows)
    assert "all of them before" in typed(*command, "--shard-size", 4, "--top", 1)
    with pytest.raises(UsageError, match="was begun with top 1, now None"):
        typed(*command, "--shard-size", 4)
    assert "9 of 11" in typed(*command, "--restart", "--format", "prediction_log")
    assert len(list((tmp_path / "out").glob("prediction_logs-00000-of-00001"))) == 1
    assert not list((tmp_path / "out").glob("predictions-*"))


def test_not_one_image_is_a_failure_that_keeps_the_dead_letters(model, tmp_path):
    models.pictures(tmp_path / "photos", 0)
    with pytest.raises(PipelineError, match="not one image could be predicted"):
        typed("infer", tmp_path / "photos", "--model", model, "--output", tmp_path / "out")
    assert len((tmp_path / "out" / "errors-00000-of-00001.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "none"], "model 'none': no such directory"),
        (["--features", "--top", "2"], "--features: writes no classes"),
    ],
)
def test_wrong_use_is_told_at_once(tmp_path, options, message):
    models.pictures(tmp_path / "photos", 1)
    with pytest.raises(UsageError, match=message):
        typed("infer", tmp_path / "photos", "--output", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_its_help_and_wrong_use_load_no_tensorflow(tmp_path):
    program = (
        "import sys; from pipeline import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "print('HEAVY', sorted({'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)), code)\n"
    )
    models.pictures(tmp_path / "full", 1)
    given = ["infer", "photos", "--model", "none", "--output", "out"]
    for arguments, code in ((["infer", "--help"], 0), (given, 2)):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment(),
        )
        assert done.stdout.splitlines()[-1] == f"HEAVY [] {code}"


@pytest.mark.exhaustive
def test_odd_images_are_dead_letters_with_the_exports_codes(real_images, tmp_path):
    served = tmp_path / "model"
    expected = preprocessing.Preprocessing(height=32, width=32, mean=(120.0,) * 3, std=(60.0,) * 3)
    export.save(networks.network(32), networks.CLASSES, expected, served)
    typed("infer", real_images / "odd_images", "--model", served, "--output", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("errors-*")
    dead = {row["path"]: row for row in map(json.loads, path.open())}
    codes = {name.rpartition("/")[2]: row["code"] for name, row in dead.items()}
    assert codes == {name: code.decode() for name, code in _REFUSED.items()}
    assert all(row["reason"] and row["reason"] != row["code"] for row in dead.values())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"] == summary["predicted"] + len(dead)
