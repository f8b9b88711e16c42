"""Components that go on where a killed one was, and that several workers share."""

import threading
import time

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import runner
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from tests.pipeline.orchestration.test_runner import Adder, Number, component, execute


class Counter:
    """Counts to three, one further in each execution, and fails until it is there."""

    def __init__(self):
        self.states = []

    def __call__(self, inputs, outputs, parameters, context):
        context.state.mkdir(parents=True, exist_ok=True)
        self.states.append(context.state)
        file = context.state / "count"
        count = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(count))
        if count < 3:
            raise PipelineError(f"killed at {count}")
        return Outcome(f"counted to {count}")


def node(run, value=0, inputs=None):
    return Node("Trainer", component(run, RESUMABLE=True), Number(value=value), inputs or {})


def test_what_a_failed_execution_kept_is_there_for_the_next_one_and_gone_after_the_last(tmp_path):
    counter = Counter()
    for count in (1, 2):
        with pytest.raises(PipelineError, match=f"killed at {count}"):
            execute([node(counter)], tmp_path)
    # Other parameters know nothing of it.
    with pytest.raises(PipelineError, match="killed at 1"):
        execute([node(counter, value=9)], tmp_path)
    results = execute([node(counter)], tmp_path)
    assert results["Trainer"].outcome.result == "counted to 3"
    assert not counter.states[0].exists()
    assert counter.states[2].exists()


class Slow:
    """Takes a moment, and says how many did so at once."""

    def __init__(self):
        self.runs = 0
        self.running = threading.Lock()

    def __call__(self, inputs, outputs, parameters, context):
        assert self.running.acquire(blocking=False)
        self.runs += 1
        time.sleep(0.5)
        (outputs["out"].uri / "n").write_text("1")
        self.running.release()
        return Outcome("slow")


def test_two_runs_at_once_do_the_work_once(tmp_path):
    slow = Slow()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(execute([node(slow)], tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.runs == 1
    assert sorted(result["Trainer"].cached for result in results) == [False, True, True]


class Meeting:
    """Ends when the chief and the other worker are both there."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=20)
        self.seen = []

    def __call__(self, inputs, outputs, parameters, context):
        self.seen.append((inputs["in"].uri / "n").read_text())
        (outputs["out"].uri / "n").write_text("trained")
        self.barrier.wait()
        return Outcome("met")


def test_a_worker_waits_for_what_the_chief_ingests_and_leaves_no_traces(tmp_path):
    meeting, adder = Meeting(), Adder()
    nodes = [
        Node("Gen", component(adder), Number(value=7)),
        node(meeting, inputs={"in": ("Gen", "out")}),
        Node("After", component(Adder()), Number(), {"in": ("Gen", "out")}),
    ]
    worker = threading.Thread(
        target=lambda: runner.attend(nodes, "test", tmp_path, Silent()), daemon=True
    )
    worker.start()
    time.sleep(0.3)
    assert meeting.seen == []  # nothing is there to train on
    results = execute(nodes, tmp_path)
    worker.join(timeout=20)
    assert not worker.is_alive()
    assert meeting.seen == ["7", "7"]
    assert adder.runs == 1
    assert set(results) == {"Gen", "Trainer", "After"}
    assert len(list((tmp_path / "Trainer" / "out").iterdir())) == 1

    # What is trained already is not trained again.
    runner.attend(nodes, "test", tmp_path, Silent())
    assert len(meeting.seen) == 2


def test_a_worker_helps_where_a_component_says_how_and_goes_on_when_the_chief_is_done(tmp_path):
    meeting, helped, states = Meeting(), threading.Event(), []

    def search(inputs, outputs, parameters, context):
        states.append(context.state)
        assert helped.wait(20)
        (outputs["out"].uri / "n").write_text("3")
        return Outcome("found 3")

    def attend(inputs, parameters, context):
        states.append(context.state)
        helped.set()

    nodes = [
        Node("Tuner", component(search, RESUMABLE=True, attend=attend), Number(value=1)),
        node(meeting, inputs={"in": ("Tuner", "out")}),
    ]
    worker = threading.Thread(
        target=lambda: runner.attend(nodes, "test", tmp_path, Silent()), daemon=True
    )
    worker.start()
    execute(nodes, tmp_path)
    worker.join(timeout=20)
    assert not worker.is_alive()
    assert len(set(states)) == 1  # both know where the search is kept
    assert meeting.seen == ["3", "3"]
