import json

import pytest

from pipeline import files
from pipeline.errors import DataError, UsageError
from pipeline.serving import versions
from tests.pipeline.serving.models import saved_model


def test_numbers_are_those_of_tf_serving():
    names = ("7", "0", "007", str(2**63 - 1), str(2**63), "-1", "1.5", "v2", "", "²", "٣")
    found = {name: versions.number_of(name) for name in names}
    assert {name for name, number in found.items() if number is not None} == {
        *("7", "0", "007", str(2**63 - 1))
    }
    assert found["007"] == 7


def test_the_digest_is_of_the_model_without_what_a_push_adds(tmp_path):
    model = saved_model(tmp_path / "m")
    digest = versions.digest(model)
    assert digest == files.tree_digest(model)
    (model / "assets.extra").mkdir()
    (model / versions.WARMUP).write_bytes(b"requests")
    (model / versions.RECORD).write_text("{}")
    assert versions.digest(model) == digest
    (model / "assets.extra" / "other").write_text("part of the model")
    assert versions.digest(model) != digest


def test_a_model_is_the_highest_version_that_is_complete(tmp_path):
    saved_model(tmp_path / "3")
    (tmp_path / "12").mkdir()
    assert versions.resolve(tmp_path) == tmp_path / "3"
    assert versions.resolve(tmp_path / "3") == tmp_path / "3"
    with pytest.raises(UsageError, match=r"found no saved_model.pb in it"):
        versions.resolve(tmp_path / "12")
    with pytest.raises(UsageError, match=r"no such directory"):
        versions.resolve(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["half {", "[1]"])
def test_a_damaged_record_is_named(tmp_path, text):
    assert versions.record(tmp_path) == {}
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / versions.RECORD).write_text(text)
    with pytest.raises(DataError, match=r"pushed.json: .*; expected the record of a push"):
        versions.record(tmp_path)
    (tmp_path / versions.RECORD).write_text(json.dumps({"version": 1}))
    assert versions.record(tmp_path) == {"version": 1}
