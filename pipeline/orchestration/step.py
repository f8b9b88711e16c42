"""One node of a run: found in the store, or executed, again if it has to be, and recorded."""

import errno
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from pipeline import files
from pipeline.engine import LOCALLY, Engine
from pipeline.errors import DataError, PipelineError, Stopped, UsageError, UsageErrors
from pipeline.orchestration import fingerprint, loading, store
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import View

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = "No space left on device"
_LONGEST_PAUSE = 30.0


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


@dataclass(frozen=True)
class Job:
    """What the nodes of one run have in common.

    Args:
        name: Name of the pipeline and of the model.
        executions: The store.
        view: Shows the run.
        workers: The number of processes that a component may use.
        engine: Where Beam computes.
        run: The number of the run in the store.
        retries: Component to how often it is tried again after a failure.
        forced: Names of the components that run although nothing changed.
        crowded: Names of the components that may run while another one does.
        wait: Waits between two attempts, for so many seconds.
    """

    name: str
    executions: store.Store
    view: View
    workers: int = 1
    engine: Engine = LOCALLY
    run: int | None = None
    retries: Mapping[str, int] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()
    crowded: frozenset[str] = frozenset()
    wait: Callable[[float], None] = lambda seconds: None


def perform(node: Node, results: Mapping[str, Result], job: Job) -> Result:
    """Returns the result of `node`: of an earlier execution of the same, or of a new one.

    Args:
        node: The node.
        results: Those of the nodes that it depends on.
        job: The run.

    Raises:
        PipelineError: It failed; the message begins with its name.
    """
    inputs = inputs_of(node, job.executions, results)
    attempts = 1 + job.retries.get(node.name, 0)
    for attempt in range(1, attempts + 1):
        try:
            return _once(node, inputs, job)
        except (UsageError, Stopped):
            raise
        except PipelineError as error:
            if attempt == attempts:
                raise
            pause = min(_LONGEST_PAUSE, 2.0 ** (attempt - 1))
            job.view.say(
                f"{error}; attempt {attempt} of {attempts}, the next one in {pause:g} s", node.name
            )
            job.wait(pause)
    raise AssertionError("unreachable")


def _once(node: Node, inputs: dict[str, Artifact], job: Job) -> Result:
    """Returns the result of one attempt; whatever it raises begins with the node's name."""
    try:
        return _attempt(node, inputs, job)
    except Exception as error:
        raise named(error, node) from error


def _attempt(node: Node, inputs: dict[str, Artifact], job: Job) -> Result:
    executions = job.executions
    dependencies = dependencies_of(node, job.name, inputs)
    key = fingerprint.digest(dependencies)
    is_reusable = node.cacheable and node.name not in job.forced
    if is_reusable and (earlier := reuse(executions.find(node.name, key), job)):
        return earlier
    context = Context(
        job.name,
        job.view.progress(node.name),
        lambda line: job.view.say(line, node.name),
        job.workers,
        executions.state(node.name, key),
        dependencies["external"],
        job.engine,
    )
    if not node.resumable:
        return result_of(_run(node, inputs, key, dependencies, job, context))

    def wait() -> None:
        job.view.say(f"{node.name}: another process does the same; waiting for it", node.name)

    with executions.alone(node.name, key, wait):
        if is_reusable and (earlier := reuse(executions.find(node.name, key), job)):
            return earlier
        return result_of(_run(node, inputs, key, dependencies, job, context))


def reuse(execution: store.Execution | None, job: Job) -> Result | None:
    """Records that the run uses `execution` again; None where it is gone, or there is none."""
    if execution is None or not job.executions.use(execution, job.run):
        return None
    return result_of(execution, cached=True)


def result_of(execution: store.Execution, cached: bool = False) -> Result:
    """Returns what `execution` contributes to a run."""
    seconds = 0.0 if cached else execution.seconds
    return Result(execution.component, execution.outcome, execution.outputs, seconds, cached)


def _run(
    node: Node,
    inputs: dict[str, Artifact],
    key: str,
    dependencies: dict[str, Any],
    job: Job,
    context: Context,
) -> store.Execution:
    executions, sources = job.executions, node.inputs | node.history
    for input_key, artifact in inputs.items():
        _require_unchanged(artifact, sources[input_key][0])
    if node.name in job.crowded:
        loading.load(dependencies["libraries"])
    execution = executions.begin(node.name, key, dependencies, inputs, job.run)
    try:
        outputs = {
            output: Artifact(kind, executions.staging(execution, output))
            for output, kind in node.module.OUTPUTS.items()
        }
        outcome = node.module.run(inputs, outputs, node.parameters, context)
        execution = executions.complete(execution, outputs, outcome)
        shutil.rmtree(context.state, ignore_errors=True)  # nobody has to go on from there
    except KeyboardInterrupt:
        _abandon(execution, store.CANCELED, "stopped by the user", job)
        raise
    except Exception as error:
        state = store.CANCELED if isinstance(error, Stopped) else store.FAILED
        _abandon(execution, state, f"{named(error, node)}\n\n{traceback.format_exc()}", job)
        raise
    return execution


def _abandon(execution: store.Execution, state: str, error: str, job: Job) -> None:
    """Records the end of an execution; where that fails too, the next run finds that it died."""
    try:
        job.executions.abandon(execution, state, error)
    except PipelineError as second:
        job.view.say(str(second), execution.component)


def named(error: Exception, node: Node) -> PipelineError:
    """Returns the error as one that begins with the name of the component."""
    if isinstance(error, PipelineError):
        return said_anew(error, f"{node.name}: {error}")
    if _is_full(error):
        return PipelineError(
            f"{node.name}: the disk is full ({_brief(error)}); free space, or choose another "
            "--root, and run again: what was finished is kept"
        )
    return PipelineError(f"{node.name}: {type(error).__name__}: {_brief(error)}")


def said_anew(error: PipelineError, text: str) -> PipelineError:
    """Returns an error of the same kind with another text."""
    return (UsageError if isinstance(error, UsageErrors) else type(error))(text)


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if _FULL_TEXT in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _brief(error: Exception) -> str:
    """Returns the first and the last line of what an error says; TensorFlow's say hundreds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("[[")] or lines
    return " … ".join(dict.fromkeys((*telling[:1], *telling[-1:])))


def inputs_of(
    node: Node, executions: store.Store, results: Mapping[str, Result]
) -> dict[str, Artifact]:
    """Returns what `node` reads: of this run, and of the previous span where there is one."""
    inputs = {key: results[source].outputs[output] for key, (source, output) in node.inputs.items()}
    for key, (source, output) in node.history.items():
        current = results[source].outputs[output]
        if earlier := executions.previous_span(source, output, current):
            inputs[key] = earlier
    return inputs


def _require_unchanged(artifact: Artifact, source: str) -> None:
    """Refuses an artifact whose files were altered after `source` wrote them.

    The store looks at names and sizes alone. Examples vouch for themselves: whoever reads them
    compares them with their manifest.
    """
    if artifact.type != "Examples" and files.tree_digest(artifact.uri) != artifact.digest:
        raise DataError(
            f"{artifact.uri}: its files are not those that {source} wrote; remove the "
            "directory and run again"
        )


def dependencies_of(node: Node, name: str, inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """Returns everything that can change what `node` computes."""
    if hasattr(node.module, "look_outside"):
        external = node.module.look_outside(dict(inputs), node.parameters, name)
    else:
        external = getattr(node.module, "external", lambda parameters: None)(node.parameters)
    return {
        "pipeline": name,
        "inputs": {key: artifact.digest for key, artifact in inputs.items()},
        "external": external,
        **own_dependencies(node),
    }


def own_dependencies(node: Node) -> dict[str, Any]:
    """Returns what `node` itself brings: its parameters, its code and its libraries."""
    module = node.module.__name__
    given = TypeAdapter(type(node.parameters)).dump_python(node.parameters, mode="json")
    immaterial = getattr(node.module, "IMMATERIAL", ())
    return {
        "parameters": {name: value for name, value in given.items() if name not in immaterial},
        "code": fingerprint.code(module),
        "libraries": fingerprint.libraries(module),
    }
