import multiprocessing
import sqlite3
import time

import pytest

from pipeline.errors import DataError, PipelineError
from pipeline.orchestration import database, store
from pipeline.orchestration.artifact import Artifact, Outcome


def _complete(root, key="k", content="content", component="Trainer", **dependencies):
    executions = store.Store(root)
    execution = executions.begin(component, key, {"key": key, **dependencies})
    uri = executions.staging(execution, "model")
    (uri / "file").write_text(content)
    outputs = {"model": Artifact("Model", uri, {"blessed": 1})}
    return executions.complete(execution, outputs, Outcome("fine"))


def test_nothing_is_created_before_the_first_execution(tmp_path):
    executions = store.Store(tmp_path / "root")
    assert executions.find("Trainer", "k") is None
    assert not (tmp_path / "root").exists()


def test_a_complete_execution_is_found_by_its_key_with_everything_it_had(tmp_path):
    done = _complete(tmp_path)
    found = store.Store(tmp_path).find("Trainer", "k")
    assert found == done
    assert found.outputs["model"].uri == tmp_path / "Trainer" / "model" / "1"
    assert found.outputs["model"].properties == {"blessed": 1}
    assert found.outcome == Outcome("fine")
    assert store.Store(tmp_path).find("Trainer", "other") is None
    assert store.Store(tmp_path).find("Evaluator", "k") is None
    assert not list((tmp_path / ".system" / "staging").iterdir())


def test_the_store_can_be_moved(tmp_path):
    _complete(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    found = store.Store(tmp_path / "b").find("Trainer", "k")
    assert (found.outputs["model"].uri / "file").read_text() == "content"


@pytest.mark.parametrize("damage", ["removed", "longer", "added", "gone"])
def test_an_execution_whose_outputs_do_not_stand_is_not_used_again(tmp_path, damage):
    uri = _complete(tmp_path).outputs["model"].uri
    if damage == "removed":
        (uri / "file").unlink()
    elif damage == "longer":
        (uri / "file").write_text("content and more")
    elif damage == "added":
        (uri / "second").write_text("")
    else:
        uri.rename(tmp_path / "elsewhere")
    assert store.Store(tmp_path).find("Trainer", "k") is None


def test_the_newest_of_equal_executions_is_found(tmp_path):
    _complete(tmp_path)
    second = _complete(tmp_path)
    assert store.Store(tmp_path).find("Trainer", "k").id == second.id == 2


def test_an_execution_that_failed_or_died_is_not_found_and_leaves_nothing(tmp_path):
    executions = store.Store(tmp_path)
    failed = executions.begin("Trainer", "k", {})
    (executions.staging(failed, "model") / "file").write_text("half")
    executions.abandon(failed, store.FAILED, "Traceback ...")
    executions.begin("Trainer", "k", {})  # and then the process died
    assert executions.find("Trainer", "k") is None
    assert not list((tmp_path / ".system" / "staging").iterdir())
    record = executions.executions([1])[1]
    assert (record.state, record.error) == ("FAILED", "Traceback ...")


def test_what_was_used_last_is_found(tmp_path):
    executions = store.Store(tmp_path)
    assert executions.last_used("Trainer") is None
    first, second = _complete(tmp_path), _complete(tmp_path, "other")
    for execution in (second, first, first):
        assert executions.use(execution)
        assert executions.last_used("Trainer") == execution
    assert executions.last_used("Evaluator") is None
    executions.abandon(executions.begin("Trainer", "k", {}), store.FAILED, "")
    assert executions.last_used("Trainer") == first


def test_whether_a_component_completed_with_its_own_dependencies(tmp_path):
    own = {"parameters": {"epochs": 2}, "code": {"a": "1"}, "libraries": {"numpy": "2"}}
    _complete(tmp_path, inputs={"examples": "0"}, **own)
    executions = store.Store(tmp_path)
    assert executions.completed_with("Trainer", own)
    assert not executions.completed_with("Evaluator", own)
    for name in own:
        assert not executions.completed_with("Trainer", {**own, name: {}})


def _begin_and_wait(root, begun):
    executions = store.Store(root)
    execution = executions.begin("Trainer", "k", {})
    (executions.staging(execution, "model") / "half").write_text("x")
    begun.set()
    time.sleep(600)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    events = [spawn.Event() for _ in range(2)]
    killed, living = (
        spawn.Process(target=_begin_and_wait, args=(tmp_path, event)) for event in events
    )
    killed.start()
    events[0].wait()
    living.start()
    events[1].wait()
    killed.kill()
    killed.join()

    executions = store.Store(tmp_path)
    executions.begin("Trainer", "k", {})
    assert [path.name for path in (tmp_path / ".system" / "staging").iterdir()] == ["2"]
    found = executions.executions([1, 2, 3]).values()
    assert [execution.state for execution in found] == ["FAILED", "RUNNING", "RUNNING"]
    living.kill()
    living.join()


def test_locks_of_processes_that_died_just_before_or_after_the_record_are_removed(tmp_path):
    _complete(tmp_path)
    living = store.Store(tmp_path)
    assert living.begin("Trainer", "k", {}).id == 2
    assert living.begin_run("p", []) == 1
    locks = tmp_path / ".system" / "running"
    for name in ("1", "3", "run-2"):  # 1 has ended, the others were never recorded
        (locks / name).touch()
    assert store.Store(tmp_path).begin("Trainer", "k", {}).id == 3
    assert sorted(path.name for path in locks.iterdir()) == ["2", "3", "run-1"]


def test_an_execution_that_ends_while_it_is_looked_at_stays_complete(tmp_path, monkeypatch):
    """Another process completes between the look at its record and the taking of its lock."""
    first, second = store.Store(tmp_path), store.Store(tmp_path)
    execution = first.begin("Trainer", "k", {})
    (first.staging(execution, "model") / "file").write_text("x")
    staged = tmp_path / ".system" / "staging" / "1" / "model"
    take = second._locks.take

    def complete_before(name):
        if name == str(execution.id):
            first.complete(execution, {"model": Artifact("Model", staged)}, Outcome("fine"))
        return take(name)

    monkeypatch.setattr(second._locks, "take", complete_before)
    second.begin("Trainer", "other", {})
    assert second.find("Trainer", "k").outcome == Outcome("fine")


def test_a_damaged_database_is_named_and_said_what_to_do_about(tmp_path):
    _complete(tmp_path)
    path = tmp_path / ".system" / "metadata.sqlite"
    path.write_bytes(b"{" * 9000)
    with pytest.raises(
        DataError, match=r"metadata.sqlite: damaged \(file is not a database\); move"
    ):
        store.Store(tmp_path).find("Trainer", "k")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"metadata.sqlite: damaged \(the file is empty\); move"):
        store.Store(tmp_path).find("Trainer", "k")
    path.unlink()
    # What lies there keeps its number, and nothing of it is overwritten.
    assert _complete(tmp_path).id == 2
    assert (tmp_path / "Trainer" / "model" / "1" / "file").is_file()


def test_a_database_of_another_version_is_refused(tmp_path):
    _complete(tmp_path)
    connection = sqlite3.connect(tmp_path / ".system" / "metadata.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DataError, match="of version 7, expected 1; another version of this"):
        store.Store(tmp_path).find("Trainer", "k")


def test_a_database_that_stays_locked_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.2)
    execution = _complete(tmp_path)
    connection = sqlite3.connect(tmp_path / ".system" / "metadata.sqlite", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    executions = store.Store(tmp_path)
    assert executions.find("Trainer", "k") == execution  # reading never waits
    with pytest.raises(PipelineError, match="another process kept it locked for 0 s"):
        executions.begin("Trainer", "k", {})
    connection.close()


def test_records_of_an_older_program_are_not_known_and_not_harmed(tmp_path):
    old = tmp_path / ".system" / "executions" / "7.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    (tmp_path / "Trainer" / "model" / "7").mkdir(parents=True)
    (tmp_path / "Trainer" / "model" / "7" / "file").write_text("old")
    assert store.Store(tmp_path).runs() == []
    assert _complete(tmp_path).id == 8
    assert (tmp_path / "Trainer" / "model" / "7" / "file").read_text() == "old"
    assert old.exists()


def _begin_many(root):
    executions = store.Store(root)
    for _ in range(20):
        executions.begin("Trainer", "k", {})


def test_processes_that_share_a_root_never_share_an_identifier(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_begin_many, args=(tmp_path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = store.Store(tmp_path).executions(range(1, 200))
    assert sorted(found) == list(range(1, 81))
    # All of them died with their processes, which some found out about others.
    assert {execution.state for execution in found.values()} <= {"RUNNING", "FAILED"}


@pytest.mark.parametrize(
    ("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete"), ("fuse.sshfs", "delete")]
)
def test_a_file_system_that_machines_share_gets_no_write_ahead_log(
    tmp_path, monkeypatch, kind, mode
):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext3 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    execution = _complete(tmp_path / "root")
    connection = sqlite3.connect(tmp_path / "root" / ".system" / "metadata.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
    connection.close()
    assert store.Store(tmp_path / "root").find("Trainer", "k") == execution


def test_a_copy_that_cannot_be_written_to_can_be_read(tmp_path, monkeypatch):
    execution = _complete(tmp_path)
    connection = sqlite3.connect(tmp_path / ".system" / "metadata.sqlite")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    # As on a medium that is read-only; root may write everywhere else.
    monkeypatch.setattr(database.os, "access", lambda path, mode: False)
    executions = store.Store(tmp_path)
    assert executions.find("Trainer", "k") == execution
    with pytest.raises(PipelineError, match=r"metadata.sqlite: no permission to write it"):
        executions.begin("Trainer", "k", {})


def test_the_tables_are_those_of_ml_metadata(tmp_path):
    """Names and columns as in its schema, version 10."""
    _complete(tmp_path)
    connection = sqlite3.connect(tmp_path / ".system" / "metadata.sqlite")
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    values = [
        "int_value",
        "double_value",
        "string_value",
        "byte_value",
        "proto_value",
        "bool_value",
    ]
    for owner in ("Artifact", "Execution", "Context"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({owner}Property)")]
        assert columns == [f"{owner.lower()}_id", "name", "is_custom_property", *values]
    assert tables - {"sqlite_sequence"} == {
        *("MLMDEnv", "Type", "ParentContext", "Association", "Attribution", "Event", "EventPath"),
        *("Artifact", "ArtifactProperty", "Execution", "ExecutionProperty"),
        *("Context", "ContextProperty"),
    }
    ((state, live),) = connection.execute(
        "SELECT Execution.last_known_state, Artifact.state FROM Execution, Artifact"
    )
    assert (state, live) == (3, 2)  # COMPLETE, LIVE
    connection.close()
