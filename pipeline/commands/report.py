"""The command that draws a run again: report."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(report)


def report(
    number: Annotated[
        int | None,
        typer.Argument(metavar="RUN", help="The number of a run; by default that of the last one."),
    ] = None,
    name: Annotated[str, typer.Option(help="The pipeline, such as 'photos'.")] = "digits",
    root: Annotated[Path, typer.Option(help="Where artifacts are kept.")] = Path("runs"),
    output: Annotated[
        Path | None,
        typer.Option(help="The page to write; by default ROOT/NAME/reports/RUN.html."),
    ] = None,
) -> None:
    """Draw a run on one page: its graph, data, training, evaluation and model card."""
    from pipeline.orchestration.store import Store
    from pipeline.reporting import run_report

    store = Store(root / name)
    if number is None:
        last = store.runs(last=1)
        if not last:
            raise UsageError(
                f"root {str(root / name)!r}: nothing ran there; expected the folder of a run, such "
                "as runs/digits; `python -m pipeline run` makes one"
            )
        number = last[0].id
    print(run_report.write(store, number, output))
