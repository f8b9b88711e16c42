"""What a person reads when Beam fails: the words of whoever raised, whatever lies between."""

import pytest

from pipeline.beam import execution
from pipeline.errors import DataError, PipelineError, UsageError

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
