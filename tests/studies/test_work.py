import time

import pytest

from studies import files
from studies.errors import Stopped, UsageError
from studies.view import duration
from studies.work import Run, carry_out
from tests.studies import tiny


def counting(counts, name, **settings):
    def perform(data, desk):
        counts[name] = counts.get(name, 0) + 1
        return {"value": counts[name]}

    return Run(name, settings, perform)


def test_what_has_a_record_is_not_done_again_unless_its_settings_changed(tmp_path):
    counts, setting = {}, tiny.setting()
    for second in (1, 1, 2):
        runs = [counting(counts, "a", depth=1), counting(counts, "b", depth=second)]
        view = tiny.Silent()
        records = carry_out(runs, setting, tmp_path, view)
        assert list(records) == ["a", "b"]
    assert counts == {"a": 1, "b": 2}
    assert view.done_before == ["a"]
    assert view.begun == ["b"]
    assert view.shares == [1.0]
    assert records["b"]["result"] == {"value": 2}
    assert records["b"]["environment"]["device"]


def test_a_record_of_other_images_does_not_count(tmp_path):
    counts = {}
    for train in (64, 63):
        setting = tiny.Setting(tiny.images(train), (0,), True)
        carry_out([counting(counts, "a")], setting, tmp_path, tiny.Silent())
    assert counts == {"a": 2}


def test_work_stops_between_runs_when_the_time_is_over_and_goes_on_later(tmp_path):
    counts = {}
    runs = [counting(counts, "a"), counting(counts, "b")]
    with pytest.raises(Stopped, match="after a"):
        carry_out(runs, tiny.setting(), tmp_path, tiny.Silent(), deadline=time.monotonic())
    carry_out(runs, tiny.setting(), tmp_path, tiny.Silent())
    assert counts == {"a": 1, "b": 1}


def test_a_run_that_fails_leaves_no_record(tmp_path):
    def perform(data, desk):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        carry_out([Run("a", {}, perform)], tiny.setting(), tmp_path, tiny.Silent())
    assert not list(tmp_path.rglob("*.json"))


def test_a_record_that_is_no_json_is_named(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text("{")
    with pytest.raises(UsageError, match=r"a\.json must be a record"):
        carry_out([counting({}, "a")], tiny.setting(), tmp_path, tiny.Silent())


def test_two_processes_cannot_work_in_one_folder(tmp_path):
    second = files.only_one(tmp_path)
    with files.only_one(tmp_path), pytest.raises(UsageError, match="another process"), second:
        pass
    with files.only_one(tmp_path):
        pass


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (89, "89 s"), (200, "3 min"), (3 * 3600 + 90, "3 h 2 min")]
)
def test_a_duration_for_a_person(seconds, told):
    assert duration(seconds) == told
