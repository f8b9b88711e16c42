"""What happens between reading and writing; that whole jobs are right is in `tests.pipeline.bulk`."""

import threading
import time
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from pipeline.beam import inference
from pipeline.beam.reporter import Reporter
from pipeline.bulk import inputs, outputs
from pipeline.bulk.inputs import Row
from pipeline.errors import PipelineError, UsageError
from tests.pipeline.bulk import models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.save(tmp_path_factory.mktemp("model") / "lengths")


@pytest.fixture
def question(model, tmp_path):
    (tmp_path / "out").mkdir()
    return inference.Question(
        model=str(model / "1"),
        name="lengths",
        version=1,
        listing=tmp_path / "listing",
        place=outputs.Place(tmp_path / "out", tmp_path, "jsonl", 3),
        batch_size=4,
        top=None,
        probabilities=False,
        features=False,
    )


@given(st.lists(st.integers(0, 9)), st.integers(1, 6), st.integers(1, 20))
def test_batches_keep_the_order_and_both_bounds(sizes, count, most):
    rows = [Row(str(number), b"x" * size) for number, size in enumerate(sizes)]
    batches = list(inference.cut(rows, count, most))
    assert [row for batch in batches for row in batch] == rows
    for number, batch in enumerate(batches):
        total = sum(len(row.image) for row in batch)
        assert 1 <= len(batch) <= count
        assert total - len(batch[-1].image) < most
        assert len(batch) == count or total >= most or number == len(batches) - 1


def test_what_is_read_ahead_is_bounded_and_errors_come_at_their_place():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number
        raise OSError("the line is dead")

    reading = inference.ahead(items(), 2)
    found = []
    with pytest.raises(OSError, match="the line is dead"):
        for item in reading:
            time.sleep(0.005)
            found.append(item)
            assert len(made) <= item + 4
    assert found == list(range(10))
    made.clear()
    reading = inference.ahead(items(), 2)
    assert next(reading) == 0
    reading.close()
    time.sleep(0.02)
    assert len(made) <= 3
    assert not [thread for thread in threading.enumerate() if "reading ahead" in thread.name]


def test_answers_come_in_order_with_no_more_at_once_than_allowed():
    running, most = [], []

    def slow(item):
        running.append(item)
        most.append(len(running))
        time.sleep(0.01 * (item % 2))
        running.remove(item)
        return -item

    assert list(inference.mapped(slow, iter(range(9)), 2)) == [-n for n in range(9)]
    assert max(most) <= 2


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
def test_shards_become_files_under_any_bundling(question, tmp_path, runner):
    models.pictures(tmp_path / "photos", 10)
    with question.listing.open("wb") as file:
        listing = inputs.write(str(tmp_path / "photos"), 5, file)
    with test_pipeline.TestPipeline(runner=runner) as pipeline:
        done = (
            pipeline
            # One of them twice, as a runner does that is not sure of the first attempt.
            | beam.Create([*listing.shards, listing.shards[0]])
            | RunInference(inference.Handler(question, Reporter()))
        )
        assert_that(done, equal_to([5, 5, 5, 2]))
    for shard in listing.shards:
        assert outputs.whole(question.place, shard.number, shard.rows)
    assert not list(tmp_path.glob("*.part"))


def test_a_batch_that_memory_does_not_hold_is_asked_in_halves(question, monkeypatch):
    asked = inference.Asked(question)
    sizes = []
    whole = asked._answers

    def small(images):
        sizes.append(len(images))
        if len(images) > 3:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return whole(images)

    rows = [Row(str(number), b"x" * number) for number in range(1, 11)]
    expected = asked(rows)
    monkeypatch.setattr(asked, "_answers", small)
    for one, other in zip(asked(rows), expected, strict=True):
        assert one["classes"] == other["classes"]
        np.testing.assert_array_equal(one["scores"], other["scores"])
    assert sizes == [10, 5, 2, 3, 5, 2, 3]

    def none(images):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(asked, "_answers", none)
    with pytest.raises(PipelineError, match="does not suffice for a batch of one image"):
        asked(rows)


def test_rows_without_bytes_are_not_asked_about(question):
    asked = inference.Asked(question)
    found = asked([Row("a", b"", "vanished"), Row("b", b"xx"), Row("c", b""), Row("d", b"x" * 77)])
    assert [row if isinstance(row, str) else "good" for row in found] == [
        "vanished",
        "good",
        "empty",
        "not_finite",
    ]
    assert asked([Row("a", b"", "vanished")]) == ["vanished"]


def test_a_model_that_cannot_be_asked_this_is_refused_before_anything_is_read(question, tmp_path):
    with pytest.raises(UsageError, match="top 4: the model names the 3 most probable classes"):
        inference.Asked(replace(question, top=4))
    poor = models.save(tmp_path / "poor", features=False) / "1"
    with pytest.raises(UsageError, match="no signature 'features'; it has"):
        inference.Asked(replace(question, model=str(poor), features=True))
