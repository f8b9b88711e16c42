"""The options that say what runs: of `run`, and of every command that speaks of the same run."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.engine import Engine


def local(text: str) -> Path:
    """Returns a path of this machine; raises UsageError for a URI."""
    from pipeline.sources import uris

    return uris.require_local(text)


# Of the commands that look at runs, or that write a page.
ArtifactRoot = Annotated[
    Path, typer.Option(metavar="PATH", parser=local, help="Where artifacts are kept.")
]
Config = Annotated[
    str | None,
    typer.Argument(
        help="An embedded configuration, or the path of a YAML file; by default 'images' "
        "with --data, else 'digits'."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Where the images are: a folder CLASS/IMAGE or SPLIT/CLASS/IMAGE, a manifest "
        "(.csv, .jsonl), TFRecord files, tfds:NAME, or 'digits'; any path that Beam reads; "
        "{SPAN} stands for a number in it. Sets example_gen.source.",
    ),
]
Span = Annotated[int | None, typer.Option(help="The {SPAN} to read; by default the latest.")]
TfdsManualDir = Annotated[
    Path | None, typer.Option(help="Where downloads of tfds:NAME lie already.")
]
Name = Annotated[
    str | None,
    typer.Option(help="Name of the pipeline and its model; with --data that of the folder."),
]
Root = Annotated[
    Path | None,
    typer.Option(metavar="PATH", parser=local, help="Where artifacts are kept; sets root."),
]
Destination = Annotated[
    str | None, typer.Option(help="Where models are pushed to; sets pusher.destination.")
]
Model = Annotated[
    str | None,
    typer.Option(help="A network of keras_resnet.list_models(); sets trainer.model."),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Trained weights to begin with, such as timm/resnet18.a1_in1k, 'imagenet' or a "
        "file; sets trainer.init_from, and trainer.model where the name says it.",
    ),
]
Workers = Annotated[int | None, typer.Option(help="Processes that read images; sets workers.")]
Runner = Annotated[
    str | None,
    typer.Option(
        help="Where the Beam parts are computed, such as FlinkRunner; by default here. Sets "
        "beam.runner.",
    ),
]
BeamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--beam-option",
        metavar="NAME=VALUE",
        help="An option of Beam for the runner, such as flink_master=HOST:8081. Sets beam.options.",
    ),
]
MaxBadFraction = Annotated[
    float | None,
    typer.Option(help="Share of images that may be unusable before the run stops."),
]
DropNear = Annotated[
    int | None,
    typer.Option(
        metavar="BITS",
        help="Drop near duplicates whose hashes differ in at most so many of 64 bits.",
    ),
]
Schema = Annotated[
    Path | None,
    typer.Option(help="The schema that you keep; written when it is not there yet."),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(metavar="ANOMALY", help="Let the run go on in spite of this anomaly."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the configuration."),
]

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="COMPONENT",
        help="Run this component and what depends on it, changed or not; what they need of "
        "others has to be there from an earlier run.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        "--until",
        metavar="COMPONENT",
        help="End with this component; ExampleValidator checks the data and trains nothing.",
    ),
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="COMPONENT",
        help="Run this component alone, unless it is unchanged; what it needs has to be there.",
    ),
]

# Option to the value of the configuration that it sets.
_KEYS = {
    "name": "name",
    "data": "example_gen.source",
    "span": "example_gen.span",
    "tfds_manual_dir": "example_gen.tfds_manual_dir",
    "max_bad_fraction": "example_gen.max_bad_fraction",
    "drop_near": "example_gen.drop_near",
    "schema": "schema_gen.file",
    "waive": "example_validator.waive",
    "root": "root",
    "destination": "pusher.destination",
    "model": "trainer.model",
    "init_from": "trainer.init_from",
    "workers": "workers",
    "runner": "beam.runner",
}


def load(arguments: Mapping[str, Any]) -> "RunConfig":
    """Returns the configuration that the arguments of a command describe.

    Args:
        arguments: By the names of the parameters above, in lower case; others are passed over.

    Raises:
        UsageError: It is wrong.
    """
    from pipeline import config as configuration

    config, data = arguments["config"], arguments["data"]
    if config is None:
        config = "digits" if data in (None, "digits") else "images"
    values = {key: arguments[option] for option, key in _KEYS.items()}
    values |= {
        f"beam.options.{name}": value
        for name, value in beam_options(arguments["beam_option"]).items()
    }
    if values["name"] is None and data and config in configuration.embedded():
        values["name"] = configuration.name_of(data)
    if values["trainer.model"] is None and arguments["init_from"]:
        values["trainer.model"] = _network_of(arguments["init_from"])
    values = {key: value for key, value in values.items() if value is not None and value != []}
    return configuration.load(config, arguments["set_"] or (), values)


def beam_options(given: Sequence[str] | None) -> dict[str, Any]:
    """Returns what `--beam-option` said: a name without a value is a switch, one said again a list."""
    found: dict[str, Any] = {}
    for option in given or ():
        name, equals, text = option.removeprefix("--").partition("=")
        value: Any = text if equals else True
        if name in found:
            before = found[name] if isinstance(found[name], list) else [found[name]]
            value = [*before, value]
        found[name] = value
    return found


def engine(runner: str | None, given: Sequence[str] | None) -> "Engine":
    """Returns where Beam computes, for a command that has no configuration.

    Raises:
        UsageError: There is no such runner, or it is not told what it needs.
    """
    from pydantic import ValidationError

    from pipeline.engine import LOCAL, Engine

    try:
        return Engine(runner=runner or LOCAL, options=beam_options(given))
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--runner, --beam-option: {said}") from None


def _network_of(weights: str) -> str | None:
    """Returns the network that a name of trained weights begins with; a file's says nothing."""
    named = re.fullmatch(r"(?:timm|keras)/([^./]+)\.[^/]+", weights)
    return named[1] if named and not Path(weights).is_file() else None


def command() -> str:
    """Returns what the person typed, so that it can be typed again."""
    typed = [argument for argument in sys.argv[1:] if argument != "--debug"]
    return shlex.join(["python", "-m", "pipeline", *typed])
