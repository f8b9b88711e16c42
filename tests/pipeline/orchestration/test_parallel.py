"""Independent components at once, failures among them, attempts, and being stopped."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pipeline.errors import DataError, PipelineError, Stopped, UsageError
from pipeline.orchestration import board, loading, runner, store
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.runner import Options
from pipeline.orchestration.view import Silent
from tests.pipeline.orchestration.test_runner import Adder, Number, component

# Source, two branches, and what needs both.
DIAMOND = {"Source": (), "Left": ("Source",), "Right": ("Source",), "Sink": ("Left", "Right")}


def diamond(**runs):
    return [
        Node(
            name,
            component(runs.get(name, Adder())),
            Number(value=1),
            {source: (source, "out") for source in sources},
        )
        for name, sources in DIAMOND.items()
    ]


def execute(nodes, root, **options):
    return runner.execute(nodes, "test", root, Silent(), options=Options(**options))


class Together:
    """Ends when so many of these run at the same moment."""

    def __init__(self, number=2, timeout=20):
        self.barrier = threading.Barrier(number, timeout=timeout)
        self.threads = []

    def __call__(self, inputs, outputs, parameters, context):
        self.threads.append(threading.current_thread())
        self.barrier.wait()
        (outputs["out"].uri / "n").write_text("1")
        return Outcome("met")


def test_independent_components_run_at_once_and_one_at_a_time_where_that_is_asked_for(tmp_path):
    together = Together()
    results = execute(diamond(Left=together, Right=together), tmp_path / "two", max_parallel=2)
    assert list(results) == list(DIAMOND)
    assert results["Sink"].outcome.result == "sum 3"
    assert threading.main_thread() in together.threads

    alone = Together(timeout=0.3)
    with pytest.raises(PipelineError, match="BrokenBarrier"):
        execute(diamond(Left=alone, Right=alone), tmp_path / "one", max_parallel=1)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_what_wants_signals_runs_in_the_main_thread(tmp_path, at_once):
    threads = {}

    def run(name, seconds):
        def work(inputs, outputs, parameters, context):
            threads[name] = threading.current_thread()
            time.sleep(seconds)
            (outputs["out"].uri / "n").write_text("1")
            return Outcome("")

        return work

    nodes = diamond(Source=run("Source", 0), Left=run("Left", 0.2), Right=run("Right", 0.1))
    nodes[2].module.RESUMABLE = True
    execute(nodes, tmp_path, max_parallel=at_once)
    assert threads["Right"] is threading.main_thread()
    assert (threads["Left"] is threading.main_thread()) == (at_once == 1)


def test_one_that_fails_leaves_what_does_not_depend_on_it(tmp_path):
    left, right, sink = Adder(error=DataError("is cut")), Adder(), Adder()
    with pytest.raises(DataError, match=r"^Left: is cut; not run for it: Sink$"):
        execute(diamond(Left=left, Right=right, Sink=sink), tmp_path)
    assert (right.runs, sink.runs) == (1, 0)
    (run,) = store.Store(tmp_path).runs()
    assert [step.state for step in run.steps] == ["COMPLETE", "FAILED", "COMPLETE", "NEW"]
    assert (run.state, run.error) == ("FAILED", "Left: is cut; not run for it: Sink")
    assert run.step("Left").error.startswith("Left: is cut\n\nTraceback")

    left.error = None
    execute(diamond(Left=left, Right=right, Sink=sink), tmp_path)
    assert (left.runs, right.runs, sink.runs) == (2, 1, 1)


def test_an_error_names_all_that_failed(tmp_path):
    left, right = Adder(error=UsageError("wrong")), Adder(refusal="3 anomalies")
    with pytest.raises(PipelineError) as raised:
        execute(diamond(Left=left, Right=right), tmp_path)
    assert type(raised.value) is PipelineError
    parts = set(str(raised.value).split("; "))
    assert parts == {"Left: wrong", "Right: 3 anomalies", "not run for it: Sink"}


class Flaky:
    """Fails a few times."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.runs = 0

    def __call__(self, inputs, outputs, parameters, context):
        self.runs += 1
        (outputs["out"].uri / "n").write_text("1")
        if self.errors:
            raise self.errors.pop(0)
        return Outcome("at last")


def test_a_failure_is_tried_again_as_often_as_the_configuration_says(tmp_path, monkeypatch):
    pauses, said = [], []
    monkeypatch.setattr(board.Board, "wait", lambda self, seconds: pauses.append(seconds))

    class Listening(Silent):
        def say(self, line, component=""):
            said.append((component, line))

    flaky = Flaky(DataError("cut"), OSError("no route"))
    nodes = diamond(Left=flaky)
    options = Options(retries={"Left": 2})
    results = runner.execute(nodes, "test", tmp_path, Listening(), options=options)
    assert results["Left"].outcome.result == "at last"
    assert (flaky.runs, pauses) == (3, [1.0, 2.0])
    assert said == [
        ("Left", "Left: cut; attempt 1 of 3, the next one in 1 s"),
        ("Left", "Left: OSError: no route; attempt 2 of 3, the next one in 2 s"),
    ]
    executions = store.Store(tmp_path)
    assert executions.run(1).step("Left").attempts == 3
    states = [e.state for e in executions.executions(range(9)).values() if e.component == "Left"]
    assert states == ["FAILED", "FAILED", "COMPLETE"]
    with pytest.raises(PipelineError, match="Left: OSError: b"):
        flaky = Flaky(OSError("a"), OSError("b"))
        execute(diamond(Left=flaky), tmp_path / "other", retries=1)
    assert flaky.runs == 2


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (Flaky(UsageError("wrong")), UsageError),
        (Flaky(Stopped("later")), Stopped),
        (Adder(refusal="no"), PipelineError),
    ],
)
def test_what_another_attempt_would_not_change_is_not_tried_again(tmp_path, run, kind):
    with pytest.raises(kind):
        execute(diamond(Left=run), tmp_path, retries=3)
    assert run.runs == 1


def test_an_error_of_the_kind_stopped_stops_the_others_and_keeps_its_kind(tmp_path):
    begun = threading.Event()

    def endless(inputs, outputs, parameters, context):
        (outputs["out"].uri / "half").write_text("1")
        begun.set()
        while True:
            time.sleep(0.01)

    def stopped(inputs, outputs, parameters, context):
        begun.wait(20)
        raise Stopped("saved after step 7")

    with pytest.raises(Stopped, match=r"^Left: saved after step 7$"):
        execute(diamond(Left=stopped, Right=endless), tmp_path, max_parallel=2)
    (run,) = store.Store(tmp_path).runs()
    assert [s.state for s in run.steps] == ["COMPLETE", "CANCELED", "CANCELED", "NEW"]
    assert not list((tmp_path / ".system" / "staging").iterdir())
    assert not list((tmp_path / ".system" / "running").iterdir())


_STOPPED = """
import sys, time
from pathlib import Path
from pipeline.errors import Stopped
from tests.pipeline.orchestration.test_parallel import diamond, execute

def slow(inputs, outputs, parameters, context):
    (outputs["out"].uri / "half").write_text("1")
    print("begun", flush=True)
    for _ in range(3000):
        time.sleep(0.01)

try:
    execute(diamond(Left=slow, Right=slow), Path(sys.argv[1]), max_parallel=2)
except KeyboardInterrupt:
    sys.exit(130)
except Stopped as error:
    print(error)
    sys.exit(75)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_stops_all_components_and_leaves_nothing_half_written(tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_STOPPED), tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    for _ in range(2):
        assert process.stdout.readline() == "begun\n"
    begin = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - begin < 10
    if code == 75:
        assert output.startswith("stopped by SIGTERM; what was finished is kept")
    (run,) = store.Store(tmp_path).runs()
    assert run.state == "CANCELED"
    assert [step.state for step in run.steps] == ["COMPLETE", "CANCELED", "CANCELED", "NEW"]
    assert not list((tmp_path / ".system" / "staging").iterdir())
    assert not list(tmp_path.glob("Left/out/*"))


def test_a_signal_waits_while_libraries_are_loaded(monkeypatch):
    loaded = []

    def load(name):
        signal.raise_signal(signal.SIGINT)
        loaded.append(name)

    monkeypatch.setattr(loading.importlib, "import_module", load)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loading.load({"tensorflow": "2", "keras": None, "numpy": "2", "apache_beam": "2"})
    assert loaded == ["tensorflow", "apache_beam"]
    assert signal.getsignal(signal.SIGINT) is before
