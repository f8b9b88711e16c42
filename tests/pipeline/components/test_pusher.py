import json
from pathlib import Path

import pytest

from pipeline.components import pusher
from pipeline.errors import PipelineError, UsageError
from pipeline.serving import labels, versions
from tests.pipeline import builders
from tests.pipeline.serving.models import saved_model


@pytest.fixture
def inputs(tmp_path):
    """A model with both blessings, warmup requests and metrics."""
    model = builders.artifact(tmp_path / "model", "Model")
    saved_model(model.uri / "Format-Serving")
    infra = builders.artifact(tmp_path / "infra", "InfraBlessing", blessed=1)
    (infra.uri / "assets.extra").mkdir()
    (infra.uri / versions.WARMUP).write_bytes(b"requests")
    return {
        "model": model,
        "blessing": builders.artifact(tmp_path / "blessing", "ModelBlessing", blessed=1),
        "infra_blessing": infra,
        "evaluation": builders.artifact(tmp_path / "evaluation", accuracy=0.75),
    }


def run(inputs, tmp_path, **parameters):
    outputs = {"pushed_model": builders.artifact(tmp_path / "pushed")}
    parameters = pusher.Parameters(destination=tmp_path / "saved_models", **parameters)
    outcome = pusher.run(inputs, outputs, parameters, builders.CONTEXT)
    return outcome.result, outputs["pushed_model"]


@pytest.mark.parametrize("missing", ["blessing", "infra_blessing"])
def test_nothing_is_pushed_without_both_blessings(inputs, tmp_path, missing):
    inputs[missing].properties["blessed"] = 0
    with pytest.raises(PipelineError, match=f"nothing was pushed: .*{inputs[missing].type}"):
        run(inputs, tmp_path)
    assert not (tmp_path / "saved_models").exists()


def test_a_version_has_the_warmup_requests_and_says_where_it_comes_from(inputs, tmp_path):
    result, written = run(inputs, tmp_path)
    version = tmp_path / "saved_models" / "tiny" / "1"
    assert result == f"pushed {version} as stable"
    assert (version / versions.WARMUP).read_bytes() == b"requests"
    assert versions.digest(version) == versions.digest(inputs["model"].uri / "Format-Serving")

    record = versions.record(version)
    assert record["metrics"] == {"accuracy": 0.75}
    assert (record["name"], record["version"], record["run"]) == ("tiny", 1, "tiny")
    assert record["sources"].keys() == inputs.keys()
    assert record["blessed"] is True
    assert record["digest"] == versions.digest(version)

    assert written.properties["pushed_destination"] == str(version)
    assert json.loads((written.uri / "pushed.json").read_text()) == written.properties


def test_other_warmup_requests_make_no_other_model(inputs, tmp_path):
    run(inputs, tmp_path)
    (inputs["infra_blessing"].uri / versions.WARMUP).write_bytes(b"others")
    result, written = run(inputs, tmp_path)
    assert result.endswith("/tiny/1 holds this model already; it is stable")
    assert (written.properties["pushed"], written.properties["pushed_version"]) == (0, 1)


def test_a_canary_leaves_stable_where_it_is(inputs, tmp_path):
    run(inputs, tmp_path)
    (inputs["model"].uri / "Format-Serving" / "saved_model.pb").write_bytes(b"other")
    result, _ = run(inputs, tmp_path, label="canary")
    base = tmp_path / "saved_models" / "tiny"
    assert result == f"pushed {base / '2'} as canary"
    assert labels.load(base, [1, 2]).labels == {"stable": 1, "canary": 2}


def test_keep_last_is_said(inputs, tmp_path):
    for content in (b"1", b"2", b"3"):
        (inputs["model"].uri / "Format-Serving" / "saved_model.pb").write_bytes(content)
        result, _ = run(inputs, tmp_path, keep_last=1)
    assert result.endswith("/tiny/3 as stable, removed 1")


def test_destinations_are_paths_or_uris():
    assert pusher.Parameters(destination="models").destination == Path("models")
    assert pusher.Parameters(destination="file:///models").destination == Path("/models")
    assert pusher.Parameters(destination="gs://bucket/m/").destination == "gs://bucket/m"


def test_a_uri_that_nothing_can_write_is_wrong_use():
    with pytest.raises(UsageError, match=r"Apache Beam has no file system for gopher://"):
        pusher.check(pusher.Parameters(destination="gopher://models"))
