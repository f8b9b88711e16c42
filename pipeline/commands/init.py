"""The command that writes a configuration for a person's own images: init."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(init)


def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Where the images are: a folder, or what `run --data` takes."
        ),
    ] = "digits",
    output: Annotated[Path, typer.Option(help="The configuration.")] = Path("pipeline.yaml"),
    name: Annotated[
        str | None,
        typer.Option(help="Name of the pipeline and its model; by default that of the folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Look at images, and write a commented configuration for them and for this machine."""
    from pipeline import advice, files, survey
    from pipeline import config as configuration

    if output.exists() and not force:
        raise UsageError(f"--output {output}: it is there already; --force writes over it")
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {output}: expected a file that ends with .yaml")
    files.require_writable(output.parent, "--output")
    found = survey.look(data)
    text = advice.configuration(found, advice.hardware(), name or configuration.name_of(data))
    configuration.check(text, str(output))
    files.write_text(output, text)
    for line in advice.described(found):
        print(line)
    print(f"wrote {output}; next: python -m pipeline run {output}")
