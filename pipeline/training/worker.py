"""A training in a process of its own, which TensorFlow wants for a cluster of several workers.

The process that starts it passes on what it shows, what it raises and the signals that it gets.
When that process dies, so does the training.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from pydantic import TypeAdapter

from pipeline import errors, quiet
from pipeline.components.trainer import Parameters
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome

_INTERRUPTED = "KeyboardInterrupt"


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Does what `trainer.run` does, in a new process.

    Raises:
        UsageError: TF_CONFIG, which says who the workers are, is not set.
        Stopped: The process was told to end, lost another worker, or was killed.
        PipelineError: As the training raised it.
        KeyboardInterrupt: Ctrl-C.
    """
    if not os.environ.get("TF_CONFIG"):
        raise UsageError(
            "trainer.strategy 'multi_worker': the environment variable TF_CONFIG, which says who "
            "the workers are, is not set; start the run with `python -m pipeline launch`"
        )
    job = {
        "inputs": {key: _described(artifact) for key, artifact in inputs.items()},
        "outputs": {key: _described(artifact) for key, artifact in outputs.items()},
        "parameters": TypeAdapter(Parameters).dump_python(parameters, mode="json"),
        "name": context.name,
        "workers": context.workers,
        "state": str(context.state) if context.state else None,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # so that Ctrl-C comes once, from here
    )
    with process, _passing_on_signals(process):
        # Stays open: that it closes tells the process of our death.
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        ended = _listen(process.stdout, context)
        process.stdin.close()
        process.wait()
    if ended is None:
        code = process.returncode
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise Stopped(
            f"the process of the training ended with {how}; start all workers again, and the "
            "training goes on from its last checkpoint"
        )
    if "error" in ended:
        if ended["error"] == _INTERRUPTED:
            raise KeyboardInterrupt
        raise getattr(errors, ended["error"], PipelineError)(ended["message"])
    for key, properties in ended["properties"].items():
        outputs[key].properties.update(properties)
    return Outcome(**ended["outcome"])


def _described(artifact: Artifact) -> dict[str, Any]:
    return {**asdict(artifact), "uri": str(artifact.uri)}


@contextlib.contextmanager
def _passing_on_signals(process: subprocess.Popen) -> Iterator[None]:
    """Passes SIGTERM and Ctrl-C on to a process, which saves before it ends."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if process.poll() is None:
            process.send_signal(number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()


def _listen(lines: TextIO, context: Context) -> dict[str, Any] | None:
    """Shows what the process tells, and returns the last thing: how it ended, if it said so."""
    for line in lines:
        if not line.endswith("\n"):
            break  # it died while it wrote
        message = json.loads(line)
        match message.pop("kind"):
            case "say":
                context.say(message["line"])
            case "progress":
                context.progress(message["done"], message["total"], **message["figures"])
            case "ended":
                return message
    return None


def _main() -> None:
    """The process: reads its job, trains, and tells of it in lines of JSON."""
    quiet.tensorflow()
    # What libraries print must not get between the lines.
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    ending = threading.Event()
    threading.Thread(target=_die_with_parent, args=[ending], daemon=True).start()

    def tell(kind: str, **message: Any) -> None:
        if kind == "ended":
            ending.set()
        told.write(json.dumps({"kind": kind, **message}) + "\n")

    from pipeline.components import trainer

    context = Context(
        job["name"],
        lambda done, total, **figures: tell("progress", done=done, total=total, figures=figures),
        lambda line: tell("say", line=line),
        job["workers"],
        Path(job["state"]) if job["state"] else None,
    )
    inputs, outputs = (
        {key: Artifact(**{**found, "uri": Path(found["uri"])}) for key, found in job[side].items()}
        for side in ("inputs", "outputs")
    )
    parameters = TypeAdapter(Parameters).validate_python(job["parameters"])
    try:
        outcome = trainer.train(inputs, outputs, parameters, context)
    except KeyboardInterrupt:
        tell("ended", error=_INTERRUPTED)
    except PipelineError as error:
        tell("ended", error=type(error).__name__, message=str(error))
    except Exception as error:
        tell("ended", error="PipelineError", message=f"{type(error).__name__}: {error}")
        raise
    else:
        properties = {key: artifact.properties for key, artifact in outputs.items()}
        tell("ended", outcome=asdict(outcome), properties=properties)


def _die_with_parent(ending: threading.Event) -> None:
    sys.stdin.read()
    # Nobody waits any longer for what this process does, but others may wait for its end.
    if not ending.is_set():
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _main()
