"""The command that writes the graph of a run for another orchestrator: compile."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class _Orchestrator(StrEnum):
    KFP = "kfp"


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(name="compile")(compile_)


def compile_(
    config: Annotated[
        str, typer.Argument(help="An embedded configuration, or the path of a YAML file.")
    ],
    to: Annotated[
        _Orchestrator, typer.Option(help="The orchestrator: Kubeflow Pipelines v2.")
    ] = _Orchestrator.KFP,
    output: Annotated[Path, typer.Option(help="The specification.")] = Path("pipeline-kfp.yaml"),
    image: Annotated[
        str, typer.Option(help="The container image of the steps, with the extra kfp.")
    ] = "keras-resnet-pipeline:latest",
    claim: Annotated[
        str,
        typer.Option(
            help="The PersistentVolumeClaim that the steps share; 'none' where the platform "
            "mounts one itself."
        ),
    ] = "pipeline",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that Trainer asks for.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the configuration."),
    ] = None,
) -> None:
    """Write the graph of a configuration for Kubeflow Pipelines, a container step per component."""
    from pipeline import config as configuration
    from pipeline.errors import UsageError
    from pipeline.kubeflow import modules, specification

    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {output}: expected a file that ends with .yaml")
    chosen = configuration.load(config, set_ or ())
    folder = None if config in configuration.embedded() else Path(config).absolute().parent
    sources = modules.beside(chosen, folder) if folder else {}
    steps = specification.write(
        chosen, sources, output, image, None if claim == "none" else claim, gpus
    )
    held = f", with {', '.join(sources)}" if sources else ""
    print(f"{output}: {len(steps)} steps ({', '.join(steps)}) in {image}{held}")
    print(
        f"They share {specification.DIRECTORY}: put the images there, or name them by a URI. "
        "Upload the file to Kubeflow Pipelines, and start a run of it."
    )
