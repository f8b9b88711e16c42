"""Commands on what would run and on what ran: why, runs, show, diff."""

from typing import Annotated

import typer

from pipeline.commands import options
from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (why,):
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
    workers: options.Workers = None,
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
