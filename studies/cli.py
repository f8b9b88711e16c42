"""The command line: the only place that parses arguments, prints results and exits."""

import difflib
import os
import signal
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from studies.errors import Stopped, StudyError, UsageError

if TYPE_CHECKING:
    from studies.report import Report, Study

# Nothing heavy is imported up here: the backend has to be chosen before Keras is.
app = typer.Typer(
    name="studies",
    help="The claims of the papers on residual learning, as experiments that anyone can run.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130


@app.command(name="list")
def list_() -> None:
    """Name the studies."""
    from studies.table import TITLES

    for name, title in TITLES.items():
        print(f"{name:20} {title}")


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the study (`list`).")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Small networks, within 5 minutes on two cores.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="CIFAR-10's binary batches; the digits by default."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where records and page go.")] = Path(
        "runs/studies"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 3,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so long; the same command goes on later."),
    ] = None,
) -> None:
    """Run a study; what was done before is not done again."""
    from rich.console import Console

    from studies import data as images
    from studies import files, page, view, work
    from studies.table import STUDIES

    study = _find(name, STUDIES)
    loaded = images.load(data)
    if quick:
        loaded = images.quick(loaded)
    setting = work.Setting(loaded, tuple(range(seeds)), quick)
    folder = out / study.name / f"{'quick' if quick else 'full'}-{'cifar10' if data else 'digits'}"
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    console = Console(soft_wrap=True)
    with files.only_one(folder):
        plan = study.plan(setting)
        records = work.carry_out(
            study.runs(plan, setting), setting, folder, view.Lines(console), deadline
        )
        results = {name: record["result"] for name, record in records.items()}
        report = study.report(plan, setting, results)
        path = page.write(study, setting, report, records, folder)
    _print(report, study)
    print(f"\npage: {path}\nlogs: tensorboard --logdir {folder / 'logs'}")


def _find(name: str, studies: "Mapping[str, Study]") -> "Study":
    if name in studies:
        return studies[name]
    close = difflib.get_close_matches(name, studies, n=1)
    perhaps = f", perhaps {close[0]!r}" if close else ""
    raise UsageError(f"there is no study {name!r}{perhaps}; expected one of {', '.join(studies)}")


def _print(report: "Report", study: "Study") -> None:
    for table in report.tables:
        print(f"\n{table.title}")
        rows = [table.header, *table.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            line = "  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True))
            print(f"  {line.rstrip()}")
        if table.note:
            print(f"  {table.note}")
    print(f"\n{study.title}")
    for verdict in report.verdicts:
        print(f"\n  {verdict.claim}: {verdict.decision}")
        print(f"    paper: {verdict.paper}\n    here:  {verdict.seen}")
        if verdict.why:
            print(f"    {verdict.why}")


def _stop(number: int, frame: Any) -> NoReturn:
    raise Stopped("Asked to stop; the same command goes on from the last whole epoch.")


def main() -> NoReturn:
    """Runs the command line and exits: 0, 1 failed, 2 wrong use, 75 stopped, 130 Ctrl-C."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Keras takes TensorFlow unless told otherwise, whether it is there or not.
    there = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
    if there:
        os.environ.setdefault("KERAS_BACKEND", there[0])
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="python -m studies", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except TyperException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        code = error.exit_code
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code without a word
        print("interrupted; the same command goes on from the last whole epoch", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code or 0)
