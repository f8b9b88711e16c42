"""Commands on pushed models: push, rollback, promote, versions."""

import datetime
import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import telling
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.serving.push import VersionInfo


# So wide are tables in files and pipes, where a line may be longer than a window.
_PRINTED = 200


class _Label(StrEnum):
    STABLE = "stable"
    CANARY = "canary"


_Name = Annotated[str, typer.Argument(help="A model, such as 'digits'.")]
_Destination = Annotated[
    str, typer.Option(help="Where models are pushed to: a directory, or a URI that Beam writes.")
]
_ServingRoot = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where TF Serving sees the destination; by default as before, at first /models.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (push, rollback, promote, versions):
        app.command()(command)


def push(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A SavedModel, a Model artifact of a run, or a version that was pushed elsewhere.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model to push it as; by default the one that it was.")
    ] = None,
    destination: _Destination = "saved_models",
    label: Annotated[
        _Label, typer.Option(help="What it is; a canary leaves stable where it is.")
    ] = _Label.STABLE,
    keep_last: Annotated[
        int | None, typer.Option(metavar="N", help="Remove all but the N newest, save labelled.")
    ] = None,
    unblessed: Annotated[
        bool, typer.Option("--unblessed", help="Push it although nothing blessed it.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Push it although a rollback or promotion withdrew it."),
    ] = False,
    serving_root: _ServingRoot = None,
) -> None:
    """Push a SavedModel as the next version, and write TF Serving's configuration."""
    from pydantic import TypeAdapter, ValidationError

    from pipeline.components import pusher
    from pipeline.serving import blessings

    found = blessings.find(model)
    name = name or found.name
    if name is None:
        raise UsageError(f"model {str(model)!r}: nothing says what it is; expected --name NAME")
    _require_name(name)
    if found.missing and not unblessed:
        raise UsageError(
            f"model {str(model)!r}: not blessed: {'; '.join(found.missing)}; --unblessed pushes it "
            "all the same"
        )
    options = {"label": label.value, "keep_last": keep_last, "serving_root": serving_root}
    try:
        parameters = TypeAdapter(pusher.Parameters).validate_python(
            {"destination": destination, **options}
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        option = str(wrong["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option} {wrong['input']}: {wrong['msg'].lower()}") from None
    pusher.check(parameters)
    record = {**found.record, "blessed": not found.missing}
    pushed = pusher.push_to(found.model, parameters, name, record, found.warmup, again)
    print(pusher.result_of(pushed, label.value))


def rollback(
    name: _Name,
    to: Annotated[
        int | None,
        typer.Option(metavar="N", help="The version to go back to; by default the one before."),
    ] = None,
    destination: _Destination = "saved_models",
    serving_root: _ServingRoot = None,
) -> None:
    """Publish what was served before under a new number, which every server follows."""
    serving, base = _place(destination, name)
    pushed, target = serving.rollback(base, to, serving_root=serving_root)
    print(f"pushed {pushed.path}, which is version {target} again, as stable")


def promote(
    name: _Name,
    number: Annotated[int, typer.Argument(metavar="N", help="One of its versions.")],
    label: Annotated[_Label, typer.Option(help="The label that it is given.")] = _Label.STABLE,
    destination: _Destination = "saved_models",
    serving_root: _ServingRoot = None,
) -> None:
    """Give a version a label: requests for the label go to it once servers have read that."""
    serving, base = _place(destination, name)
    ledger = serving.promote(base, number, label.value, serving_root=serving_root)
    print(", ".join(f"{label} is version {n}" for label, n in ledger.labels.items()))


def versions(
    name: _Name,
    destination: _Destination = "saved_models",
    json_: Annotated[bool, typer.Option("--json", help="Print them for programs.")] = False,
) -> None:
    """Show the versions of a model: when they were pushed, labels, accuracy, what is served."""
    serving, base = _place(destination, name)
    found = serving.describe(base)
    if json_:
        print(json.dumps([asdict(version) for version in found], indent=2))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else _PRINTED).print(_table(found))


def _place(destination: str, name: str) -> tuple[ModuleType, Path | str]:
    """Returns the module that serves this kind of destination, and where the model lies."""
    from pipeline.components import pusher
    from pipeline.serving import push as local
    from pipeline.serving import remote

    _require_name(name)
    place = pusher.as_destination(destination)
    if isinstance(place, Path):
        return local, place / name
    return remote, f"{place}/{name}"


def _require_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from pipeline import config as configuration

    try:
        TypeAdapter(configuration.Name).validate_python(name)
    except ValidationError:
        raise UsageError(
            f"model {name!r}: no name of a model; expected letters, digits, '_', '.' and '-'"
        ) from None


def _table(found: "list[VersionInfo]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("version", justify="right")
    for heading in ("pushed (UTC)", "labels"):
        table.add_column(heading)
    table.add_column("accuracy", justify="right")
    table.add_column("model")
    table.add_column("size", justify="right")
    table.add_column("")
    default = max((version.number for version in found if version.is_whole), default=None)
    for version in found:
        record = version.record
        accuracy = record.get("metrics", {}).get("accuracy")
        table.add_row(
            str(version.number),
            _time(record.get("pushed_at")),
            ", ".join(version.labels),
            "" if accuracy is None else f"{accuracy:.2%}",
            str(record.get("digest", ""))[:12],
            telling.size(version.bytes),
            _notes(version, version.number == default),
        )
    return table


def _notes(version: "VersionInfo", is_default: bool) -> str:
    notes = []
    if is_default:
        notes.append("served by default")
    if "republished_from" in version.record:
        notes.append(f"version {version.record['republished_from']} again")
    if version.record.get("blessed") is False:
        notes.append("not blessed")
    if version.is_withdrawn:
        notes.append("withdrawn")
    if not version.is_whole:
        notes.append("no SavedModel")
    return "; ".join(notes)


def _time(stamp: str | None) -> str:
    if stamp is None:
        return ""
    time = datetime.datetime.fromisoformat(stamp).astimezone(datetime.UTC)
    return time.strftime("%Y-%m-%d %H:%M:%S")
