"""Commands on what would run and on what ran: why, runs, show, diff."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import files, telling
from pipeline.commands import options
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.orchestration.history import Execution, Run, Step
    from pipeline.orchestration.store import Store

_Said = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="NAME/NUMBER such as digits/12; NAME alone for its last run, NUMBER alone where "
        "there is one pipeline.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print it for programs.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (why, runs, show, diff):
        app.command()(command)


def why(
    component: Annotated[str, typer.Argument(help="A component, such as Trainer.")],
    config: options.Config = None,
    data: options.Data = None,
    span: options.Span = None,
    tfds_manual_dir: options.TfdsManualDir = None,
    name: options.Name = None,
    root: options.Root = None,
    destination: options.Destination = None,
    model: options.Model = None,
    init_from: options.InitFrom = None,
    workers: options.Workers = None,
    runner: options.Runner = None,
    beam_option: options.BeamOption = None,
    max_bad_fraction: options.MaxBadFraction = None,
    drop_near: options.DropNear = None,
    schema: options.Schema = None,
    waive: options.Waive = None,
    set_: options.Set = None,
) -> None:
    """Say whether a component would run, and what changed since its last execution."""
    from pipeline.orchestration import graph, plan, selection

    chosen = options.load(locals())
    nodes = graph.build(chosen)
    if component not in (names := [node.name for node in nodes]):
        raise UsageError(f"component {component!r}: expected one of {', '.join(names)}")
    part = selection.select(nodes, to=component)
    planned = plan.of(part, chosen.name, chosen.root / chosen.name)
    print("\n".join(plan.explained(planned, component)))


def runs(
    name: Annotated[
        str | None, typer.Argument(help="A pipeline, such as 'digits'; by default all of them.")
    ] = None,
    root: options.ArtifactRoot = Path("runs"),
    last: Annotated[int, typer.Option(metavar="N", min=1, help="Show the newest N alone.")] = 20,
    json_: _Json = False,
) -> None:
    """Show what ran: when, how long, what came of it, and what was used again."""
    from pipeline.orchestration import lookup

    stores = lookup.stores(root) if name is None else [lookup.store(root, name)]
    found = [(store.root.name, run) for store in stores for run in store.runs(last)]
    found = sorted(found, key=lambda pair: pair[1].started)[-last:]
    if json_:
        print(json.dumps([_as_json(run) for _, run in found], indent=2, default=str))
        return
    rows = [("run", "started", "took", "state", "components", "result")]
    rows += [_row(folder, run) for folder, run in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join((*cells, row[-1])).rstrip())


def show(
    said: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A run, such as digits/12, or an artifact, such as runs/digits/Trainer/model/5.",
        ),
    ],
    root: options.ArtifactRoot = Path("runs"),
    config: Annotated[
        bool, typer.Option("--config", help="Print the run's whole configuration, as YAML.")
    ] = False,
    json_: _Json = False,
) -> None:
    """Show one run, or the execution that wrote an artifact."""
    from pipeline.orchestration import lookup

    if Path(said).is_dir() and (found := lookup.artifact(Path(said))):
        store, number = found
        execution = store.executions([number])[number]
        print(_dumped(execution) if json_ else "\n".join(_of_execution(store, execution)))
        return
    _, run = lookup.run(root, said)
    if config:
        import yaml

        print(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True), end="")
    elif json_:
        print(json.dumps(_as_json(run), indent=2, default=str))
    else:
        print("\n".join(_of_run(run)))


def diff(
    old: _Said, new: _Said, root: options.ArtifactRoot = Path("runs"), json_: _Json = False
) -> None:
    """Say what differs between two runs: configuration, code, libraries, data, metrics."""
    from pipeline.orchestration import difference, lookup

    found = difference.between(lookup.run(root, old), lookup.run(root, new))
    if json_:
        print(json.dumps(found, indent=2))
        return
    for heading, lines in found.items():
        print(heading)
        for line in lines:
            print(f"  {line}")
    if not found:
        print("nothing differs")


def _row(folder: str, run: "Run") -> tuple[str, ...]:
    from pipeline.orchestration.view import format_seconds

    ran = sum(step.attempts > 0 and not step.cached for step in run.steps)
    again = sum(step.cached for step in run.steps)
    return (
        f"{folder}/{run.id}",
        telling.when(run.started),
        "" if run.state == "RUNNING" else format_seconds(run.seconds),
        run.state,
        f"{ran} ran, {again} unchanged",
        _summary(run),
    )


def _summary(run: "Run") -> str:
    """Returns in a line what came of a run."""
    if run.error:
        return run.error.splitlines()[0]
    evaluated, pushed = run.step("Evaluator"), run.step("Pusher")
    parts = []
    if evaluated and "evaluation" in evaluated.outputs:
        accuracy = evaluated.outputs["evaluation"].properties.get("accuracy")
        parts += [] if accuracy is None else [f"test accuracy {accuracy:.2%}"]
    if pushed and "pushed_model" in pushed.outputs:
        properties = pushed.outputs["pushed_model"].properties
        parts.append(str(properties.get("pushed_destination", "")))
    ended = [step for step in run.steps if step.result]
    return ", ".join(parts) or (ended[-1].result if ended else "")


def _of_run(run: "Run") -> list[str]:
    from pipeline.orchestration.view import format_seconds

    lines = [
        f"run {run.id} of {run.pipeline}: {run.state}",
        f"  started {telling.when(run.started)}, took {format_seconds(run.seconds)}",
        f"  command {run.command or 'none, it was started from Python'}",
        f"  commit  {run.commit or 'none, the code is in no repository'}",
    ]
    if run.error:
        lines.append(f"  error   {run.error}")
    width = max((len(step.component) for step in run.steps), default=0)
    for step in run.steps:
        lines.append(f"  {step.component:{width}}  {_state(step)}")
        if told := step.refusal or step.error.partition("\n")[0] or step.result:
            lines.append(f"  {'':{width}}    {told}")
        for artifact in step.outputs.values():
            lines.append(f"  {'':{width}}    {files.relative(artifact.uri)}")
    return lines


def _state(step: "Step") -> str:
    from pipeline.orchestration.view import format_seconds

    if step.cached:
        return f"unchanged, as execution {step.execution_id}"
    if step.execution_id is None:
        return "not run"
    state = "REFUSED" if step.refusal else step.state
    tries = f", {step.attempts} attempts" if step.attempts > 1 else ""
    return f"{state} in {format_seconds(step.seconds)}, execution {step.execution_id}{tries}"


def _of_execution(store: "Store", execution: "Execution") -> list[str]:
    from pipeline.orchestration.why import flat, shown

    run = store.first_run(execution.id)
    lines = [
        f"execution {execution.id} of {execution.component}: {execution.state}",
        f"  started {telling.when(execution.started)}, took {execution.seconds:.1f} s",
        f"  run     {f'{store.root.name}/{run.id}' if run else 'none'}",
    ]
    if execution.outcome:
        lines.append(f"  result  {execution.outcome.result}")
    if execution.error:
        lines.append(f"  error   {execution.error.partition(chr(10))[0]}")
    for kind, artifacts in (("read", execution.inputs), ("wrote", execution.outputs)):
        for key, artifact in artifacts.items():
            lines.append(f"  {kind:5}   {key}: {files.relative(artifact.uri)}, {artifact.digest}")
    for kind in ("parameters", "external", "libraries"):
        values = flat(execution.dependencies.get(kind))
        lines += [f"  {name}: {shown(values, name)}" for name in values]
    lines += [
        f"  module {name}: {value}"
        for name, value in (execution.dependencies.get("code") or {}).items()
    ]
    return lines


def _as_json(run: "Run") -> dict[str, Any]:
    return asdict(run)


def _dumped(execution: "Execution") -> str:
    return json.dumps(asdict(execution), indent=2, default=str)
