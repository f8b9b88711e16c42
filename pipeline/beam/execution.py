"""Running a Beam pipeline on the runner that was chosen, with progress and errors for a person."""

import ast
import contextlib
import errno
import logging
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipeline import errors
from pipeline.beam import cluster, flink, workers
from pipeline.beam.arrival import Arrival
from pipeline.beam.reporter import Reporter
from pipeline.engine import FLINK, Engine
from pipeline.errors import PipelineError, Stopped
from pipeline.orchestration.artifact import Context

_INTERVAL = 0.2
# How often a cluster is asked whether the job is over.
_POLL = 0.5
# So long a cluster has to cancel a job.
_CANCEL_SECONDS = 30.0
# So long it may take until a job that was being handed over is there.
_HANDING_OVER_SECONDS = 5.0
# What Beam adds to the message of every error.
_WHERE = re.compile(r" \[while running '[^']*'\]|^Pipeline \S+ failed in state \w+: ")
_TRACEBACK = "Traceback (most recent call last)"
# The last line of one, somewhere in what Java says.
_RAISED = re.compile(
    r"^(?:\w+\.)*(?P<type>[A-Z]\w*(?:Error|Stopped|Exception)): (?P<text>.*)$", re.MULTILINE
)
# What Java puts around a message, and behind it.
_JAVA = re.compile(r"^(?:(?:[\w$]+\.)+[\w$]+(?:Exception|Error): )+|\s+at [\w.$/]+\(.*", re.DOTALL)


@dataclass(frozen=True)
class Running:
    """A pipeline that is being built, and will run.

    Args:
        pipeline: Beam's.
        reporter: What its transforms tell of their work.
        engine: Where it will run.
        processes: How many processes each worker of the runner may use: on a cluster one, since
            there the runner spreads the work.
        needed: What every worker has to see.
    """

    pipeline: beam.Pipeline
    reporter: Reporter
    engine: Engine
    processes: int = 1
    needed: tuple[Path, ...] = ()

    def spread(self) -> beam.PTransform:
        """Returns a transform that shares elements out between workers."""
        return _Spread(None if self.engine.is_local else self.needed)


class _Spread(beam.PTransform):
    def __init__(self, needed: tuple[Path, ...] | None):
        super().__init__()
        self._needed = needed

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        shared = elements | beam.Reshuffle()
        if self._needed is None:
            return shared
        return shared | "Arrive" >> beam.ParDo(Arrival(self._needed))


@contextlib.contextmanager
def pipeline(
    context: Context, total: int, scratch: Path, needed: Sequence[Path] = ()
) -> Iterator[Running]:
    """Yields a Beam pipeline that runs when the block ends well.

    Args:
        context: Its `engine` says where. Its progress receives how many images the transforms
            ticked, and how many are done in a second; what they say goes to its `say`.
        total: The number of images expected.
        scratch: A directory that every worker sees, on a cluster; nothing is left there.
        needed: Files and directories beside it that every worker has to see.

    Raises:
        PipelineError: The work failed, the disk is full, or the cluster cannot be reached.
        Stopped: SIGTERM.
        KeyboardInterrupt: Ctrl-C; a job on a cluster is cancelled.
    """
    folder = None if context.engine.is_local else scratch.absolute() / f".beam-{uuid.uuid4().hex}"
    if folder:
        folder.mkdir(parents=True)
    reporter = Reporter(folder)
    done = threading.Event()
    watcher = threading.Thread(
        target=_report, args=(reporter, context, total, done), name="progress", daemon=True
    )
    try:
        with _interruptible(), cluster.options(context.engine, context.name) as options:
            running = beam.Pipeline(options=options)
            seen = (*needed, *([folder] if folder else ()))
            processes = context.workers if context.engine.is_local else 1
            yield Running(running, reporter, context.engine, processes, seen)
            watcher.start()
            _finish(running, context, options)
    finally:
        workers.stop()
        done.set()
        if watcher.is_alive():
            watcher.join()
        reporter.close()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)  # a worker may still be writing
    context.progress(total, total)


def _finish(running: beam.Pipeline, context: Context, options: PipelineOptions) -> None:
    """Runs a job to its end, and cancels it when this process is asked to stop."""
    result = None
    try:
        result = running.run()
        while not PipelineState.is_terminal(result.state):
            time.sleep(_POLL)
    except BaseException as error:
        if result is not None or not isinstance(error, Exception):
            _cancel(result, context, options)
        raise
    if result.state == PipelineState.CANCELLED:
        raise Stopped("the job was cancelled on the cluster; nothing of it is kept, start again")
    result.wait_until_finish()  # raises what the job failed of


def _cancel(result: Any, context: Context, options: PipelineOptions) -> None:
    """Cancels a job, of which there is no result yet where it was being handed over."""
    end = time.monotonic() + (_CANCEL_SECONDS if result else _HANDING_OVER_SECONDS)
    try:
        while True:
            cancelled = flink.cancel(options) if context.engine.runner == FLINK else 0
            if result is None:
                over = cancelled > 0 or context.engine.is_local
            else:
                result.cancel()
                over = PipelineState.is_terminal(result.state)
            if over or time.monotonic() > end:
                return
            time.sleep(_POLL)
    except Exception as error:  # noqa: BLE001  whatever it is, what stopped this process comes first
        context.say(f"the job could not be cancelled ({error}); cancel it on the cluster")


def _report(reporter: Reporter, context: Context, total: int, done: threading.Event) -> None:
    """Shows what the transforms tell until `done`."""
    begin, before = time.monotonic(), 0
    over = False
    while not over:
        over = done.wait(_INTERVAL if context.engine.is_local else _POLL)
        for line in reporter.lines():
            context.say(line)
        ticks = min(reporter.count(), total)
        if not before:
            # Until the first image is done, the time goes into starting.
            begin, before = time.monotonic(), ticks
        seconds = time.monotonic() - begin
        rate = (ticks - before) / seconds if seconds > 0 else 0
        figures = {"images_per_second": f"{rate:,.0f}"} if rate else {}
        if not over:
            context.progress(ticks, total, **figures)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets errors and signals out as what they are: Beam wraps both, and prints a page of each."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    previous: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {n: signal.signal(n, receive) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _silent("apache_beam.runners", "apache_beam.utils.subprocess_server"):
            yield
    except BaseException as error:
        if signal.SIGTERM in received:
            raise Stopped("stopped by SIGTERM; nothing of it is kept, start again") from None
        if received or isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if isinstance(error, Exception):
            raise _said(error) from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _silent(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _said(error: Exception) -> PipelineError:
    """Returns an error of Beam as one of this pipeline, with the words of whoever raised it."""
    kind, text = type(error), _WHERE.sub("", _unquoted(str(error)))
    raised = list(_RAISED.finditer(text)) if _TRACEBACK in text else []
    if raised and not isinstance(error, PipelineError):
        # An error on a worker, which reached this process as text.
        found = getattr(errors, raised[-1]["type"], None)
        kind = found if isinstance(found, type) else PipelineError
        text = raised[-1]["text"] if found else raised[-1][0]
    elif not issubclass(kind, PipelineError):
        text = f"{kind.__name__}: {_JAVA.sub('', text) or text}"
    text = " ".join(text.split())
    if f"[Errno {errno.ENOSPC}]" in text:
        return PipelineError(
            f"the disk is full ({text}); until the shards are written, a second copy of the "
            "images is needed; free space, or choose another --root, and run again"
        )
    return kind(text) if issubclass(kind, PipelineError) else PipelineError(text)


def _unquoted(text: str) -> str:
    """Returns a message; one that Beam quoted has its line ends back."""
    try:
        return str(ast.literal_eval(text)) if text[:1] in ("'", '"') else text
    except (SyntaxError, ValueError):
        return text
