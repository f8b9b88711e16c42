"""The command that draws a run again: report."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands import options


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(report)


def report(
    said: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="NAME/NUMBER such as digits/12; NAME alone for its last run, NUMBER alone, or "
            "nothing, where there is one pipeline.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The pipeline, such as 'photos'.")] = None,
    root: options.ArtifactRoot = Path("runs"),
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=options.local,
            help="The page to write; by default ROOT/NAME/reports/RUN.html.",
        ),
    ] = None,
) -> None:
    """Draw a run on one page: its graph, data, training, evaluation and model card."""
    from pipeline.orchestration import lookup
    from pipeline.reporting import run_report

    asked = "/".join(filter(None, (name, said))) or lookup.store(root, None).root.name
    store, run = lookup.run(root, asked)
    print(run_report.write(store, run.id, output))
