"""What a person reads when Beam fails: the words of whoever raised, whatever lies between."""

import pytest

from pipeline.beam import execution
from pipeline.engine import FLINK, Engine
from pipeline.errors import DataError, PipelineError, Stopped, UsageError
from pipeline.orchestration.artifact import Context

# As it comes from a worker of a cluster, through Java.
ON_A_WORKER = """Pipeline digits-1_4a failed in state FAILED: java.lang.RuntimeException: Error received \
from SDK harness for instruction 7: Traceback (most recent call last):
  File "/opt/apache_beam/runners/common.py", line 1498, in process
    return self.do_fn_invoker.invoke_process(windowed_value)
  File "/opt/pipeline/beam/reading.py", line 12, in read
    raise {kind}("{text}")
{module}{kind}: {text}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/apache_beam/runners/worker/sdk_worker.py", line 310, in _execute
    response = task()
{module}{kind}: {text} [while running 'Spread/Arrive']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient$1.handle(FnApiControlClient.java:162)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""


def worker(kind, text, module=""):
    return RuntimeError(ON_A_WORKER.format(kind=kind, text=text, module=module))


@pytest.mark.parametrize("kind", [UsageError, DataError, PipelineError])
@pytest.mark.parametrize("quoted", [False, True])
def test_an_error_on_a_worker_arrives_as_what_it_was(kind, quoted):
    error = worker(kind.__name__, "photos/a.jpg: is cut; take another", "pipeline.errors.")
    # Some versions of Beam hand the message on as Python would write it.
    said = execution._said(RuntimeError(repr(str(error))) if quoted else error)
    assert type(said) is kind
    assert str(said) == "photos/a.jpg: is cut; take another"


def test_an_error_that_nobody_foresaw_keeps_its_name():
    said = execution._said(worker("ZeroDivisionError", "division by zero"))
    assert type(said) is PipelineError
    assert str(said) == "ZeroDivisionError: division by zero"


def test_a_full_disk_is_told_with_what_to_do():
    said = execution._said(worker("OSError", "[Errno 28] No space left on device: '/x'"))
    assert str(said).startswith("the disk is full (")
    assert "choose another --root" in str(said)


def test_an_error_of_this_process_loses_what_beam_adds():
    said = execution._said(DataError("a.jpg: is cut [while running 'Read']"))
    assert (type(said), str(said)) == (DataError, "a.jpg: is cut")


def test_words_of_java_are_kept_without_its_stack():
    text = (
        "Pipeline digits-1 failed in state FAILED: org.apache.flink.runtime.JobException: "
        "java.io.IOException: no slot is free\n\tat org.apache.flink.A.b(A.java:1)\n\tat x.Y.z(Y.java)"
    )
    assert str(execution._said(RuntimeError(text))) == "RuntimeError: no slot is free"


class Cluster:
    """A job on a cluster, whose state goes through `states`, and what is asked of the cluster."""

    def __init__(self, monkeypatch, *states, handed_over=True, cancelled=(1,)):
        self._states = list(states)
        self._handed_over, self._cancelled = handed_over, list(cancelled)
        self.told, self.said = [], []
        self.context = Context("job", say=self.said.append, engine=ENGINE)
        monkeypatch.setattr(execution.flink, "cancel", self._cancel)
        for name in ("_POLL", "_CANCEL_SECONDS", "_HANDING_OVER_SECONDS"):
            monkeypatch.setattr(execution, name, min(0.2, getattr(execution, name)))

    def finish(self):
        execution._finish(self, self.context, None)

    def run(self):
        if not self._handed_over:
            raise KeyboardInterrupt
        return self

    @property
    def state(self):
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(state, BaseException):
            raise state
        return state

    def cancel(self):
        self.told.append("the job server")

    def wait_until_finish(self):
        self.told.append("nobody")

    def _cancel(self, options):
        self.told.append("the cluster")
        answer = self._cancelled.pop(0) if len(self._cancelled) > 1 else self._cancelled[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ENGINE = Engine(runner=FLINK, options={"flink_master": "f:1", "environment_type": "LOOPBACK"})


def test_a_job_that_ends_well_is_not_cancelled(monkeypatch):
    cluster = Cluster(monkeypatch, "RUNNING", "RUNNING", "DONE")
    cluster.finish()
    assert cluster.told == ["nobody"]


def test_who_stops_while_it_runs_cancels_it_until_it_has_ended(monkeypatch):
    cluster = Cluster(monkeypatch, "RUNNING", KeyboardInterrupt(), "RUNNING", "CANCELLED")
    with pytest.raises(KeyboardInterrupt):
        cluster.finish()
    assert cluster.told == ["the cluster", "the job server"] * 2


def test_who_stops_while_it_is_handed_over_waits_for_it_to_be_there(monkeypatch):
    cluster = Cluster(monkeypatch, handed_over=False, cancelled=(0, 1))
    with pytest.raises(KeyboardInterrupt):
        cluster.finish()
    assert cluster.told == ["the cluster"] * 2


def test_a_job_that_cannot_be_cancelled_is_said_and_does_not_hide_why_it_was_to_be(monkeypatch):
    cluster = Cluster(
        monkeypatch, "RUNNING", KeyboardInterrupt(), cancelled=[PipelineError("no answer")]
    )
    with pytest.raises(KeyboardInterrupt):
        cluster.finish()
    assert cluster.said == ["the job could not be cancelled (no answer); cancel it on the cluster"]


def test_a_job_that_somebody_else_cancels_stops_the_run(monkeypatch):
    cluster = Cluster(monkeypatch, "RUNNING", "CANCELLED")
    with pytest.raises(Stopped, match="the job was cancelled on the cluster"):
        cluster.finish()
    assert cluster.told == []
