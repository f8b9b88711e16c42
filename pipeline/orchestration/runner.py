"""Runs the nodes of a graph, taking from the store what has not changed."""

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import files, machine
from pipeline.engine import LOCALLY, Engine
from pipeline.errors import PipelineError, Stopped, UsageError, UsageErrors
from pipeline.orchestration import fingerprint, provenance, step, store
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.orchestration.board import Board
from pipeline.orchestration.graph import Node
from pipeline.orchestration.selection import Selection, independent
from pipeline.orchestration.step import Job, Result
from pipeline.orchestration.view import View

_POLL = 0.5
_MOST_AT_ONCE = 2


@dataclass(frozen=True)
class Options:
    """How a run is done, and what is written down of it; no result depends on it.

    Args:
        max_parallel: How many components may run at once; None for two, or one on one core.
        retries: How often a component is tried again after a failure: one number for all, or
            component to number. What refuses, or is wrongly used, is not tried again.
        config: The effective configuration, as JSON values.
        command: The command line that makes the run again.
        engine: Where Beam computes.
        ended: Called when the run is over with the store, its number and the state that it ended in.
    """

    max_parallel: int | None = None
    retries: int | Mapping[str, int] = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    engine: Engine = LOCALLY
    ended: Callable[[store.Store, int, str], None] = lambda executions, run, state: None


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does, but with another exit code."""


def execute(
    nodes: Sequence[Node] | Selection,
    name: str,
    root: Path,
    view: View,
    workers: int = 1,
    options: Options | None = None,
) -> dict[str, Result]:
    """Runs `nodes`, independent ones at once, and returns the result of each by its name.

    Args:
        nodes: The graph, each node behind those it depends on, or a part of it.
        name: Name of the pipeline and of the model.
        root: The pipeline root.
        view: Shows the run to whoever watches.
        workers: The number of processes that a component may use; no result depends on it.
        options: How it is done.

    Raises:
        UsageError: The root cannot be written to, a component's parameters cannot be used, or
            what the selection takes from the store is not there.
        PipelineError: Components failed or refused; the message begins with their names. What does
            not depend on them has run.
        Stopped: SIGTERM, or a component that can go on when it is started again.
        KeyboardInterrupt: The run was stopped; nothing half-written is left.
    """
    options = options or Options()
    chosen = nodes if isinstance(nodes, Selection) else Selection(tuple(nodes))
    files.require_writable(root, "root")
    executions = store.Store(root)
    given = _required(chosen, Job(name, executions, view))
    _check(chosen.nodes, executions)
    graph = [(node.name, node.depends_on) for node in chosen.nodes]
    run = executions.begin_run(name, graph, options.config, options.command, provenance.commit())
    state, error = store.FAILED, ""
    try:
        with _terminable():
            at_once = options.max_parallel or min(_MOST_AT_ONCE, machine.cores().usable)
            job = _job(chosen, name, executions, view, workers, options, run, at_once)
            results = _run(chosen, given, job, at_once)
        state = store.COMPLETE
    except _TerminatedError:
        state, error = store.CANCELED, "stopped by SIGTERM"
        raise Stopped(
            "stopped by SIGTERM; what was finished is kept, and the same command goes on from there"
        ) from None
    except KeyboardInterrupt:
        state, error = store.CANCELED, "stopped by the user"
        raise
    except BaseException as failure:
        state = store.CANCELED if isinstance(failure, Stopped) else store.FAILED
        error = str(failure)
        raise
    finally:
        _end(executions, run, state, error, view)
        options.ended(executions, run, state)
    return results


def _end(executions: store.Store, run: int, state: str, error: str, view: View) -> None:
    """Records how the run ended; on a full disk the next one records that it did."""
    try:
        executions.abandon_open()
        executions.end_run(run, state, error)
    except PipelineError as failure:
        view.say(str(failure))


def _job(
    chosen: Selection,
    name: str,
    executions: store.Store,
    view: View,
    workers: int,
    options: Options,
    run: int,
    at_once: int,
) -> Job:
    retries = options.retries
    if isinstance(retries, int):
        retries = {node.name: retries for node in chosen.nodes}
    return Job(
        name=name,
        executions=executions,
        view=view,
        workers=workers,
        engine=options.engine,
        run=run,
        retries=retries,
        forced=chosen.forced,
        crowded=frozenset(
            node.name for node in chosen.nodes if at_once > 1 and independent(node, chosen.nodes)
        ),
    )


def _run(
    chosen: Selection, given: Mapping[str, store.Execution], job: Job, at_once: int
) -> dict[str, Result]:
    results: dict[str, Result] = {}
    by_name = {node.name: node for node in chosen.nodes}
    for name, execution in given.items():
        job.view.started(name)
        found = step.reuse(execution, job)
        if found is None:
            job.view.failed(name)
            raise UsageError(_gone(chosen.said, {name: "it was removed just now"}))
        results[name] = found
        job.view.finished(found)

    def perform(node: Node) -> None:
        job.view.started(node.name)
        begin = time.perf_counter()
        try:
            result = step.perform(node, results, job)
        except BaseException:
            job.view.failed(node.name)
            raise
        results[node.name] = replace(result, seconds=time.perf_counter() - begin)
        job.view.finished(results[node.name])
        if result.outcome.refusal:
            for artifact in result.outputs.values():
                job.view.say(f"      what it found is in {artifact.uri}", node.name)
            raise PipelineError(f"{node.name}: {result.outcome.refusal}")

    board = Board(chosen.nodes, frozenset(results), perform, at_once)
    job = replace(job, wait=board.wait)
    board.run()
    if board.errors:
        raise _failure(board)
    return {name: results[name] for name in by_name}


def _failure(board: Board) -> PipelineError:
    """Returns one error for all that failed, with the kind of the one that there is."""
    text = "; ".join(map(str, board.errors.values()))
    if board.unreached:
        text += f"; not run for it: {', '.join(board.unreached)}"
    first, *others = board.errors.values()
    if others or not isinstance(first, PipelineError):
        return PipelineError(text)
    failure = step.said_anew(first, text)
    failure.__cause__ = first
    return failure


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does, where nobody else has a use for it."""

    def receive(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _check(nodes: Sequence[Node], executions: store.Store) -> None:
    """Lets components look at their parameters before anything is written.

    Parameters that a component has completed with, on the same code, are not looked at again:
    looking may mean to load TensorFlow.

    Raises:
        UsageError: Parameters cannot be used; all that cannot are named at once.
    """
    wrong: list[UsageError] = []
    for node in nodes:
        check = getattr(node.module, "check", None)
        if check is not None and not (
            node.cacheable and executions.completed_with(node.name, step.own_dependencies(node))
        ):
            try:
                check(node.parameters)
            except UsageError as error:
                wrong.append(error)
    if len(wrong) > 1:
        lines = (line for one in wrong for line in getattr(one, "lines", (str(one),)))
        raise UsageErrors(dict.fromkeys(lines))
    if wrong:
        raise wrong[0]


def _required(chosen: Selection, job: Job) -> dict[str, store.Execution]:
    """Returns the executions that a selection takes from the store.

    Raises:
        UsageError: One is not there.
    """
    found: dict[str, store.Execution] = {}
    missing: dict[str, str] = {}
    for node in chosen.nodes:
        if node.name not in chosen.required or not found.keys() >= set(node.depends_on):
            continue
        results = {name: step.result_of(execution) for name, execution in found.items()}
        inputs = step.inputs_of(node, job.executions, results)
        key = fingerprint.digest(step.dependencies_of(node, job.name, inputs))
        if execution := job.executions.find(node.name, key):
            found[node.name] = execution
        else:
            missing[node.name] = "it would have to run"
    if missing:
        raise UsageError(_gone(chosen.said, missing))
    return found


def _gone(said: str, missing: Mapping[str, str]) -> str:
    names = ", ".join(f"{name} ({why})" for name, why in missing.items())
    return (
        f"{said}: needs what is not in the store: {names}; `why {next(iter(missing))}` says what "
        "changed, and a run without the option makes it"
    )


def attend(nodes: Sequence[Node], name: str, root: Path, view: View, workers: int = 1) -> None:
    """Does the part of a worker that is not the chief: it trains with it, and leaves no traces.

    What is in front of the training is the chief's work, which is waited for.

    Args:
        nodes: The same graph as the chief's.
        name: As in `execute`.
        root: As in `execute`, on a file system that the chief shares.
        view: Shows the work to whoever watches.
        workers: As in `execute`.

    Raises:
        PipelineError: The training failed.
    """
    executions = store.Store(root)
    results: dict[str, Result] = {}
    for node in nodes:
        inputs = step.inputs_of(node, executions, results)
        key = fingerprint.digest(step.dependencies_of(node, name, inputs))
        state = executions.state(node.name, key)
        context = Context(name, view.progress(node.name), view.say, workers, state)
        help_out = getattr(node.module, "attend", None)
        if node.resumable and help_out is None:
            view.started(node.name)
            _attend_node(node, inputs, key, executions, context)
            return
        if not _earlier(node, key, executions):
            view.say(f"waiting for {node.name} of the chief")
        while not (found := _earlier(node, key, executions)):
            if help_out is not None:
                help_out(inputs, node.parameters, context)
            time.sleep(_POLL)
        results[node.name] = step.result_of(found, cached=True)


def _attend_node(
    node: Node,
    inputs: dict[str, Artifact],
    key: str,
    executions: store.Store,
    context: Context,
) -> None:
    if _earlier(node, key, executions):
        return
    with tempfile.TemporaryDirectory() as folder:
        outputs = {}
        for output, kind in node.module.OUTPUTS.items():
            outputs[output] = Artifact(kind, Path(folder, output))
            outputs[output].uri.mkdir()
        try:
            node.module.run(inputs, outputs, node.parameters, context)
        except Exception as error:
            raise step.named(error, node) from error


def _earlier(node: Node, key: str, executions: store.Store) -> store.Execution | None:
    """Returns an earlier execution of the same, or None."""
    return executions.find(node.name, key) if node.cacheable else None
