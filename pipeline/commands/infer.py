"""The command on many images at once: infer."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands import options
from pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.bulk.job import Account, Request
    from pipeline.engine import Engine

_NAME = "infer"


class _Format(StrEnum):
    JSONL = "jsonl"
    PREDICTION_LOG = "prediction_log"


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(infer)


def infer(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Where the images are: a folder of any depth, a manifest (.csv, .tsv, .jsonl) with "
            "a column 'path', TFRecord files, an Examples artifact, tfds:NAME, or 'digits'; any "
            "path that Beam reads.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            parser=options.local,
            help="Where the shards go: new, empty, or begun before.",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            parser=options.local,
            help="A model of saved_models/, one version of it, or one of a run.",
        ),
    ] = Path("saved_models/digits"),
    format_: Annotated[
        _Format, typer.Option("--format", help="Lines of JSON, or records of TF Serving's log.")
    ] = _Format.JSONL,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes per image; by default all the model names.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write those of all classes, too.")
    ] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Write what the classifier sees, and no classes.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="The most images of a batch.")] = 32,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Images of a shard, which is what a kill may cost.")
    ] = 1024,
    runner: options.Runner = None,
    beam_option: options.BeamOption = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Begin anew in place of another job, or of this one if complete."
        ),
    ] = False,
) -> None:
    """Predict many images into shards; started again after a kill, it goes on with what is left."""
    from rich.console import Console

    from pipeline import quiet
    from pipeline.bulk import job

    if features and (probabilities or top is not None):
        raise UsageError("--features: writes no classes; expected without --probabilities, --top")
    engine = options.engine(runner, beam_option)
    found, name = job.model_of(model)
    request = job.Request(
        data=data,
        model=found,
        name=name,
        format=format_.value,
        shard_size=shard_size,
        batch_size=batch_size,
        top=top,
        probabilities=probabilities,
        features=features,
    )
    with quiet.filtered_stderr():
        quiet.tensorflow()
        account = _shown(request, output, restart, engine, Console())
    print(f"{output}: {account.line}")
    if not account.summary["predicted"]:
        raise PipelineError(f"{output}: not one image could be predicted; errors-* say why")


def _shown(
    request: "Request", output: Path, restart: bool, engine: "Engine", console: "Console"
) -> "Account":
    """Does the job while a person watches, who may stop it at any time."""
    from pipeline.bulk import job
    from pipeline.orchestration import view
    from pipeline.orchestration.artifact import Context
    from pipeline.training.interruption import Interruption

    kind = view.Rich if console.is_terminal else view.Plain
    with Interruption(), kind(console, [_NAME]) as shown:
        shown.started(_NAME)
        context = Context(request.name, shown.progress(_NAME), shown.say, engine=engine)
        return job.run(request, output, context, "always" if restart else "never")
