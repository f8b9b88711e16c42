import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bulk import outputs, reasons
from pipeline.records import tfrecord
from pipeline.serving import messages

VALUES = {"classes": ["a", "ü"], "scores": np.array([0.75, 1e-9], np.float32)}


def place(tmp_path, format_="jsonl"):
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return outputs.Place(tmp_path, tmp_path / "scratch", format_, 3)


@given(st.text(), st.lists(st.floats(0, 1, width=32), max_size=5))
def test_a_prediction_is_one_line_that_reads_as_what_it_was(key, numbers):
    scores = np.array(numbers, np.float32)
    encoded = outputs.as_json(key, {"classes": ["a"], "scores": scores})
    assert encoded.count(b"\n") == 1
    assert encoded.endswith(b"\n")
    row = json.loads(encoded)
    assert (row["path"], row["classes"]) == (key, ["a"])
    np.testing.assert_allclose(row["scores"], scores, rtol=1e-6, atol=1e-40)


def test_a_name_that_is_no_text_can_be_opened_by_what_is_written(tmp_path):
    path = os.fsdecode(b"caf\xe9.jpg")
    assert json.loads(outputs.as_json(path, VALUES))["path"] == path
    assert "ü".encode() in outputs.as_json("plain", VALUES)


def test_a_prediction_log_is_tf_servings_message_with_the_path_in_the_request(tmp_path):
    from tensorflow_serving.apis import prediction_log_pb2

    encode = outputs.log_encoder("birds", 7, "serving_default")
    there = place(tmp_path, "prediction_log")
    with outputs.writing(there, 1, encode) as sink:
        for number in range(3):
            sink.prediction(f"{number}.jpg", VALUES)
        sink.prediction(os.fsdecode(b"\xff.jpg"), VALUES)
    (payload, *_, last) = tfrecord.read(tmp_path / "prediction_logs-00001-of-00003")
    log = prediction_log_pb2.PredictionLog.FromString(payload).predict_log
    spec = log.request.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("birds", 7, "serving_default")
    assert log.response.model_spec == spec
    found = messages.outputs(log.response)
    assert found["classes"].tolist() == [[b"a", "ü".encode()]]
    np.testing.assert_array_equal(found["scores"], VALUES["scores"][None])
    assert found["scores"].dtype == np.float32
    assert log.request.inputs["path"].string_val == [b"0.jpg"]
    last = prediction_log_pb2.PredictionLog.FromString(last).predict_log
    assert last.request.inputs["path"].string_val == [b"\xff.jpg"]
    (written,) = outputs.whole(there, 1, 4)
    assert (written.records, written.bytes) == (4, there.predictions(1).stat().st_size)


def test_a_shard_is_whole_when_its_rows_are_all_there(tmp_path):
    there = place(tmp_path)
    assert outputs.whole(there, 0, 3) is None
    with outputs.writing(there, 0, outputs.as_json) as sink:
        sink.prediction("a.jpg", VALUES)
        sink.error("b.jpg", "empty")
        sink.error("c.jpg", "vanished")
    predictions, errors = outputs.whole(there, 0, 3)
    assert (predictions.file, predictions.records) == ("predictions-00000-of-00003.jsonl", 1)
    assert (errors.file, errors.codes) == (
        "errors-00000-of-00003.jsonl",
        {"empty": 1, "vanished": 1},
    )
    first, second = map(json.loads, there.errors(0).read_text().splitlines())
    assert first == {"path": "b.jpg", "code": "empty", "reason": "has no byte"}
    assert second["reason"].startswith("was listed, and was not there any more")
    assert outputs.whole(there, 0, 4) is None
    for path in (there.predictions(0), there.errors(0)):
        content = path.read_bytes()
        path.write_bytes(content[:-3])
        assert outputs.whole(there, 0, 3) is None
        path.write_bytes(content)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_dead_letters_of_an_attempt_that_was_killed_do_not_outlive_the_next(tmp_path):
    there = place(tmp_path)
    with outputs.writing(there, 0, outputs.as_json) as sink:
        sink.error("a.jpg", "unreadable")
    there.predictions(0).unlink()  # killed between the two
    with outputs.writing(there, 0, outputs.as_json) as sink:
        sink.prediction("a.jpg", VALUES)
    assert not there.errors(0).exists()
    assert len(outputs.whole(there, 0, 1)) == 1


@pytest.mark.parametrize("format_", outputs.FORMATS)
def test_nothing_is_left_of_a_shard_that_fails(tmp_path, format_):
    there = place(tmp_path, format_)
    with pytest.raises(KeyboardInterrupt), outputs.writing(there, 0, outputs.as_json) as sink:
        sink.prediction("a.jpg", VALUES)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]


def test_every_code_of_the_export_and_of_what_is_read_has_a_reason():
    from pipeline.serving import decoding, rows

    codes = [value for name, value in vars(decoding).items() if name.isupper() and name[0] != "_"]
    codes = [code for code in codes if isinstance(code, str)]
    assert {"empty", "too_long"} <= set(codes)
    for code in (*codes, rows.NOT_DECODABLE, rows.NO_EXAMPLE):
        assert reasons.of(code) != code.replace("_", " ")
    assert reasons.of("made_up") == "made up"
