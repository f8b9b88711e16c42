import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.bulk import job, outputs
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.records import tfrecord
from pipeline.serving import messages
from pipeline.serving.predictor import Predictor
from tests.pipeline.bulk import models


@pytest.fixture
def request_(model, tmp_path):
    data = models.pictures(tmp_path / "photos", 21)
    return job.Request(str(data), model / "1", "lengths", shard_size=5, batch_size=2)


def content(directory):
    """Returns name to bytes of all but the summary, which has times in it."""
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name != job.SUMMARY}


def rows(directory, pattern="predictions-*"):
    lines = [line for path in sorted(directory.glob(pattern)) for line in path.open()]
    return {row["path"]: row for row in map(json.loads, lines)}


class KilledError(BaseException):
    pass


def run(request, directory, said=None, **options):
    said = [] if said is None else said
    return job.run(request, directory, Context("test", say=said.append), **options)


def test_every_image_has_the_models_own_answer_or_a_dead_letter(request_, tmp_path):
    account = run(request_, tmp_path / "out")
    found, dead = rows(tmp_path / "out"), rows(tmp_path / "out", "errors-*")
    paths = {str(path): path for path in (tmp_path / "photos").rglob("*.*g")}
    assert sorted((*found, *dead)) == sorted(paths)
    good = sorted(found)
    wanted = Predictor(request_.model)([paths[name].read_bytes() for name in good])
    for name, classes, scores in zip(good, wanted.classes, wanted.scores, strict=True):
        assert found[name]["classes"] == classes
        np.testing.assert_allclose(found[name]["scores"], scores, rtol=1e-6)
        assert set(found[name]) == {"path", "classes", "scores"}
    assert {name.rpartition("/")[2]: row["code"] for name, row in dead.items()} == {
        "empty.png": "empty",
        "page.jpg": "not_an_image",
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == account.summary
    assert (summary["images"], summary["predicted"], summary["not_predicted"]) == (23, 21, 2)
    assert summary["codes"] == {"empty": 1, "not_an_image": 1}
    assert sum(file["records"] for file in summary["files"]) == 23
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {file["file"] for file in summary["files"]} | {"summary.json"}
    assert len(list((tmp_path / "out").glob("predictions-0000?-of-00005.jsonl"))) == 5
    assert "21 of 23 images predicted; 2 not (" in account.line


def test_probabilities_fewer_classes_and_features(request_, tmp_path):
    run(replace(request_, top=1, probabilities=True), tmp_path / "probabilities")
    run(replace(request_, features=True), tmp_path / "features")
    predictor = Predictor(request_.model)
    for name, row in rows(tmp_path / "probabilities").items():
        (wanted,) = predictor([Path(name).read_bytes()]).probabilities
        np.testing.assert_allclose(row["probabilities"], wanted, rtol=1e-6)
        assert row["classes"] == [models.CLASSES[wanted.argmax()]]
        assert row["scores"] == [max(row["probabilities"])]
    for name, row in rows(tmp_path / "features").items():
        assert set(row) == {"path", "features"}
        assert row["features"] == [Path(name).stat().st_size + n for n in range(models.WIDTH)]


def test_prediction_logs_say_what_the_lines_say(request_, tmp_path):
    from tensorflow_serving.apis import prediction_log_pb2

    run(request_, tmp_path / "lines")
    run(replace(request_, format="prediction_log"), tmp_path / "logs")
    found = rows(tmp_path / "lines")
    paths = sorted((tmp_path / "logs").glob("prediction_logs-0000?-of-00005"))
    payloads = [payload for path in paths for payload in tfrecord.read(path)]
    assert len(payloads) == len(found) == 21
    for payload in payloads:
        log = prediction_log_pb2.PredictionLog.FromString(payload).predict_log
        row = found[log.request.inputs["path"].string_val[0].decode()]
        answer = messages.outputs(log.response)
        assert [name.decode() for name in answer["classes"][0]] == row["classes"]
        np.testing.assert_allclose(answer["scores"][0], row["scores"], rtol=1e-6)
    assert rows(tmp_path / "logs", "errors-*") == rows(tmp_path / "lines", "errors-*")


def test_it_goes_on_with_what_is_missing_and_touches_nothing_else(request_, tmp_path, monkeypatch):
    run(request_, tmp_path / "undisturbed")
    wanted = content(tmp_path / "undisturbed")

    def killed(*arguments):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(job.files, "write_json", until_summary(killed))
        with pytest.raises(KilledError):
            run(request_, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
    there = tmp_path / "out" / "predictions-00000-of-00005.jsonl"
    lost = tmp_path / "out" / "predictions-00003-of-00005.jsonl"
    cut = tmp_path / "out" / "predictions-00004-of-00005.jsonl"
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-9])
    (tmp_path / "out" / ".job" / "abc.part").write_bytes(b"half")
    before = there.stat().st_mtime_ns
    said = []
    account = run(request_, tmp_path / "out", said)
    assert said == ["15 of 23 images are done already; going on with the others"]
    assert account.done_before == 15
    assert there.stat().st_mtime_ns == before
    assert content(tmp_path / "out") == wanted
    # A job that is complete has nothing left to do, and a shard that was lost later comes again.
    account = run(request_, tmp_path / "out")
    assert account.done_before == 23
    assert account.line.endswith("all of them before")
    lost.unlink()
    assert run(request_, tmp_path / "out").done_before == 18
    assert content(tmp_path / "out") == wanted


def until_summary(killed):
    """Returns what writes files as ever, and calls `killed` in place of writing the summary."""
    write = job.files.write_json

    def write_json(path, value):
        (killed if path.name == job.SUMMARY else write)(path, value)

    return write_json


def test_another_job_is_refused_and_named_and_can_take_the_place(request_, model, tmp_path):
    out = tmp_path / "out"
    run(request_, out)
    first = content(out)
    other = models.save(tmp_path / "other", features=False)
    for changed, said in (
        (replace(request_, model=other / "1"), r"another model \(\w{12}, now \w{12}\)"),
        (replace(request_, top=2), "top None, now 2"),
        (replace(request_, format="prediction_log"), "format jsonl, now prediction_log"),
        (replace(request_, shard_size=6), "shard_size 5, now 6"),
    ):
        with pytest.raises(UsageError, match=rf"was begun with {said}; choose .* --restart"):
            run(changed, out)
    (tmp_path / "photos" / "new.jpg").write_bytes(b"x" * 300)
    with pytest.raises(UsageError, match="was begun with images 23, now 24; other files"):
        run(request_, out)
    assert content(out) == first
    (out / "mine.txt").write_text("kept")
    logs = replace(request_, format="prediction_log", shard_size=12)
    account = run(logs, out, restart="always")
    assert (account.summary["images"], account.done_before) == (24, 0)
    names = {path.name for path in out.iterdir()}
    assert names == {file["file"] for file in account.summary["files"]} | {
        "summary.json",
        "mine.txt",
    }
    assert not list(out.glob("*-of-00005*"))
    account = run(request_, out, restart="if_other")
    assert account.done_before == 0
    assert run(request_, out, restart="if_other").done_before == 24


def test_shards_of_another_job_that_a_kill_left_are_not_taken_for_those_of_this(
    request_, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    run(request_, out)
    other = replace(request_, top=1)
    run(other, tmp_path / "wanted")
    unlink = Path.unlink

    def killed(path, *arguments, **options):
        if path.name == "predictions-00002-of-00005.jsonl":
            raise KilledError
        unlink(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KilledError):
            run(other, out, restart="if_other")
    assert (out / "predictions-00002-of-00005.jsonl").exists()
    with pytest.raises(UsageError, match="was begun with top None, now 1"):
        run(other, out)
    assert run(other, out, restart="if_other").done_before == 0
    assert content(out) == content(tmp_path / "wanted")


def test_one_that_begins_anew_goes_on_after_a_kill_like_any_other(request_, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(request_, out)

    def killed(*arguments):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(job.files, "write_json", until_summary(killed))
        with pytest.raises(KilledError):
            run(request_, out, restart="always")
    (out / "predictions-00003-of-00005.jsonl").unlink()
    assert run(request_, out, restart="always").done_before == 18
    assert run(request_, out, restart="always").done_before == 0


def test_what_cannot_be_done_leaves_nothing_and_harms_nothing(request_, tmp_path):
    with pytest.raises(UsageError, match="the model names the 3 most probable"):
        run(replace(request_, top=9), tmp_path / "out")
    with pytest.raises(UsageError, match="no such folder or file"):
        run(replace(request_, data=str(tmp_path / "none")), tmp_path / "deep" / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "deep" / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "predictions-of-mine.txt").write_text("kept")
    with pytest.raises(UsageError, match=r"holds 'predictions-of-mine.txt' and no job"):
        run(request_, tmp_path / "full", restart="always")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["predictions-of-mine.txt"]
    for foreign in ("no json", "[1]", '{"accuracy": 1}'):
        (tmp_path / "full" / "summary.json").write_text(foreign)
        with pytest.raises(UsageError, match="and no job"):
            run(request_, tmp_path / "full", restart="always")
        assert (tmp_path / "full" / "summary.json").read_text() == foreign


def test_two_at_once_are_refused(request_, tmp_path):
    out = tmp_path / "out"
    second = []

    def progress(done, total, **figures):
        if not second:
            with pytest.raises(UsageError, match="another process works in it") as raised:
                run(request_, out)
            second.append(raised.value)

    job.run(request_, out, Context("test", progress))
    assert second
    assert len(rows(out)) == 21


def test_progress_counts_what_was_done_before(request_, tmp_path):
    reports = []

    def progress(done, total, **figures):
        reports.append((done, total))

    job.run(request_, tmp_path / "out", Context("test", progress))
    assert reports[-1] == (23, 23)
    (tmp_path / "out" / "predictions-00004-of-00005.jsonl").unlink()
    reports.clear()
    job.run(request_, tmp_path / "out", Context("test", progress))
    assert reports[-1] == (23, 23)
    assert min(done for done, _ in reports) >= 20


def test_a_folder_that_disappears_stops_it_and_it_goes_on_when_it_is_back(
    request_, tmp_path, monkeypatch
):
    def gone(*arguments):
        (tmp_path / "photos").rename(tmp_path / "away")
        monkeypatch.undo()
        return write(*arguments)

    write = job.files.write_json
    monkeypatch.setattr(job.files, "write_json", gone)  # when the listing is done
    with pytest.raises(DataError, match="the folder is gone"):
        run(request_, tmp_path / "out")
    assert not rows(tmp_path / "out", "errors-*")
    (tmp_path / "away").rename(tmp_path / "photos")
    assert run(request_, tmp_path / "out").summary["predicted"] == 21


def test_a_full_disk_is_named_leaves_no_half_file_and_it_goes_on(request_, tmp_path, monkeypatch):
    out, synced = tmp_path / "out", []

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs.os, "fsync", fsync)
    with pytest.raises(PipelineError, match=r"the disk is full.*the same command goes on"):
        run(request_, out)
    monkeypatch.undo()
    assert not list((out / ".job").glob("*.part"))
    assert not (out / "summary.json").exists()
    for path in out.glob("predictions-*"):
        assert path.read_bytes().endswith(b"\n")
    assert run(request_, out).summary["predicted"] == 21


def test_names_of_folders_need_be_no_text(request_, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (tmp_path / "photos").rename(folder)
    summary = run(replace(request_, data=str(folder)), tmp_path / "out").summary
    assert summary["predicted"] == 21
    assert summary["asked"]["data"] == f"{tmp_path}/caf\\udce9"
    assert all(Path(name).is_relative_to(folder) for name in rows(tmp_path / "out"))


def test_the_model_that_is_meant(model, tmp_path):
    assert job.model_of(model) == (model / "1", "lengths")
    assert job.model_of(model / "1") == (model / "1", "lengths")
    artifact = tmp_path / "runs" / "birds" / "Trainer" / "model" / "5"
    shutil.copytree(model / "1", artifact / "Format-Serving")
    assert job.model_of(artifact) == (artifact / "Format-Serving", "birds")
    with pytest.raises(UsageError, match="no such directory"):
        job.model_of(tmp_path / "none")
