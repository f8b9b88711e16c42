"""Runs the nodes of a graph in order, taking from the store what has not changed."""

import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline import files
from pipeline.errors import DataError, PipelineError
from pipeline.orchestration import fingerprint, store
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import View

_POLL = 0.5


@dataclass(frozen=True)
class Result:
    """What one component contributed to a run.

    Args:
        name: Name of the component.
        outcome: Its result line, and its refusal if there is one.
        outputs: Output key to artifact.
        seconds: Wall time that this run spent on it.
        cached: Whether an earlier execution was used again.
    """

    name: str
    outcome: Outcome
    outputs: dict[str, Artifact]
    seconds: float
    cached: bool


def execute(
    nodes: list[Node], name: str, root: Path, view: View, workers: int = 1
) -> dict[str, Result]:
    """Runs `nodes` in their order and returns the result of each by its name.

    Args:
        nodes: The graph, each node behind those it depends on.
        name: Name of the pipeline and of the model.
        root: The pipeline root.
        view: Shows the run to whoever watches.
        workers: The number of processes that a component may use; no result depends on it.

    Raises:
        UsageError: The root cannot be written to, or a component's parameters cannot be used.
        PipelineError: A component failed or refused; the message begins with its name.
        KeyboardInterrupt: The run was stopped; nothing half-written is left.
    """
    files.require_writable(root, "root")
    executions = store.Store(root)
    _check(nodes, executions)
    results: dict[str, Result] = {}
    for node in nodes:
        view.started(node.name)
        begin = time.perf_counter()
        try:
            result = _execute_node(node, name, executions, results, view, workers)
        except BaseException:
            view.failed(node.name)
            raise
        results[node.name] = replace(result, seconds=time.perf_counter() - begin)
        view.finished(results[node.name])
        if result.outcome.refusal:
            for artifact in result.outputs.values():
                view.say(f"      what it found is in {artifact.uri}")
            raise PipelineError(f"{node.name}: {result.outcome.refusal}")
    return results


def _check(nodes: list[Node], executions: store.Store) -> None:
    """Lets components look at their parameters before anything is written.

    Parameters that a component has completed with, on the same code, are not looked at again:
    looking may mean to load TensorFlow.
    """
    for node in nodes:
        check = getattr(node.module, "check", None)
        if check is not None and not (
            _cacheable(node) and executions.completed_with(node.name, _own_dependencies(node))
        ):
            check(node.parameters)


def _execute_node(
    node: Node,
    name: str,
    executions: store.Store,
    results: dict[str, Result],
    view: View,
    workers: int,
) -> Result:
    inputs = _inputs(node, executions, results)
    dependencies = _dependencies(node, name, inputs)
    key = fingerprint.digest(dependencies)
    if earlier := _earlier(node, key, executions):
        return _used(earlier, executions, cached=True)
    context = Context(
        name,
        view.progress(node.name),
        view.say,
        workers,
        executions.state(node.name, key),
        dependencies["external"],
    )
    if not _resumable(node):
        made = _run(node, inputs, key, dependencies, executions, context)
        return _used(made, executions, cached=False)

    def wait() -> None:
        view.say(f"{node.name}: another process does the same; waiting for it")

    with executions.alone(node.name, key, wait):
        if earlier := _earlier(node, key, executions):
            return _used(earlier, executions, cached=True)
        made = _run(node, inputs, key, dependencies, executions, context)
        return _used(made, executions, cached=False)


def _used(execution: store.Execution, executions: store.Store, cached: bool) -> Result:
    """Returns what `execution` contributes to this run, and records that it does."""
    if cached:
        executions.use(execution)
    return _result(execution, cached)


def _result(execution: store.Execution, cached: bool) -> Result:
    return Result(execution.component, execution.outcome, execution.outputs, 0.0, cached)


def _earlier(node: Node, key: str, executions: store.Store) -> store.Execution | None:
    """Returns an earlier execution of the same, or None."""
    return executions.find(node.name, key) if _cacheable(node) else None


def _run(
    node: Node,
    inputs: dict[str, Artifact],
    key: str,
    dependencies: dict[str, Any],
    executions: store.Store,
    context: Context,
) -> store.Execution:
    sources = node.inputs | node.history
    for input_key, artifact in inputs.items():
        _require_unchanged(artifact, sources[input_key][0], node.name)
    execution = executions.begin(node.name, key, dependencies, inputs)
    try:
        outputs = {
            output: Artifact(kind, executions.staging(execution, output))
            for output, kind in node.module.OUTPUTS.items()
        }
        outcome = node.module.run(inputs, outputs, node.parameters, context)
        execution = executions.complete(execution, outputs, outcome)
        shutil.rmtree(context.state, ignore_errors=True)  # nobody has to go on from there
    except KeyboardInterrupt:
        executions.abandon(execution, store.CANCELED, "stopped by the user")
        raise
    except Exception as error:
        executions.abandon(execution, store.FAILED, traceback.format_exc())
        raise _named(error, node) from error
    return execution


def _named(error: Exception, node: Node) -> PipelineError:
    """Returns the error as one that begins with the name of the component."""
    if isinstance(error, PipelineError):
        return type(error)(f"{node.name}: {error}")
    return PipelineError(f"{node.name}: {type(error).__name__}: {_brief(error)}")


def attend(nodes: list[Node], name: str, root: Path, view: View, workers: int = 1) -> None:
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
        inputs = _inputs(node, executions, results)
        key = fingerprint.digest(_dependencies(node, name, inputs))
        if _resumable(node):
            view.started(node.name)
            _attend_node(
                node,
                inputs,
                key,
                executions,
                Context(
                    name,
                    view.progress(node.name),
                    view.say,
                    workers,
                    executions.state(node.name, key),
                ),
            )
            return
        if not _earlier(node, key, executions):
            view.say(f"waiting for {node.name} of the chief")
        while not (found := _earlier(node, key, executions)):
            time.sleep(_POLL)
        results[node.name] = _result(found, cached=True)


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
            raise _named(error, node) from error


def _inputs(node: Node, executions: store.Store, results: dict[str, Result]) -> dict[str, Artifact]:
    """Returns what `node` reads: of this run, and of the previous span where there is one."""
    inputs = {key: results[source].outputs[output] for key, (source, output) in node.inputs.items()}
    for key, (source, output) in node.history.items():
        current = results[source].outputs[output]
        if earlier := executions.previous_span(source, output, current):
            inputs[key] = earlier
    return inputs


def _brief(error: Exception) -> str:
    """Returns the first and the last line of what an error says; TensorFlow's say hundreds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("[[")] or lines
    return " … ".join(dict.fromkeys((*telling[:1], *telling[-1:])))


def _resumable(node: Node) -> bool:
    """Whether an execution goes on where a killed one was, and workers may share it."""
    return getattr(node.module, "RESUMABLE", False)


def _cacheable(node: Node) -> bool:
    return getattr(node.module, "CACHEABLE", True)


def _require_unchanged(artifact: Artifact, source: str, reader: str) -> None:
    """Refuses an artifact whose files were altered after `source` wrote them.

    The store looks at names and sizes alone. Examples vouch for themselves: whoever reads them
    compares them with their manifest.
    """
    if artifact.type != "Examples" and files.tree_digest(artifact.uri) != artifact.digest:
        raise DataError(
            f"{reader}: {artifact.uri}: its files are not those that {source} wrote; remove the "
            "directory and run again"
        )


def _dependencies(node: Node, name: str, inputs: dict[str, Artifact]) -> dict[str, Any]:
    """Returns everything that can change what `node` computes."""
    if hasattr(node.module, "look_outside"):
        external = node.module.look_outside(inputs, node.parameters, name)
    else:
        external = getattr(node.module, "external", lambda parameters: None)(node.parameters)
    return {
        "pipeline": name,
        "inputs": {key: artifact.digest for key, artifact in inputs.items()},
        "external": external,
        **_own_dependencies(node),
    }


def _own_dependencies(node: Node) -> dict[str, Any]:
    """Returns what `node` itself brings: its parameters, its code and its libraries."""
    module = node.module.__name__
    return {
        "parameters": TypeAdapter(type(node.parameters)).dump_python(node.parameters, mode="json"),
        "code": fingerprint.code(module),
        "libraries": fingerprint.libraries(module),
    }
