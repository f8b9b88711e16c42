"""The command line: the only place that parses arguments, prints and exits."""

import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from benchmarks import page, results, table
from pipeline.errors import PipelineError, UsageError

# Nothing heavy is imported here or by what is: the sides have processes of their own.
app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130


@app.command()
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Of benchmarks; by default all but stages and flink."
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks, and end.")] = False,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every turn as JSON.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ratios, as SVG or PNG.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Turns of each side; each case has its own default.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One turn of small work: does it run here?")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Measure nothing; take the JSON of a run."),
    ] = None,
) -> None:
    """Measure what the project states, beside its peers, in turns, on this machine."""
    if list_:
        for name in (*table.NAMES, *table.ON_REQUEST):
            print(f"{name:18} {table.load(name).question}")
        return
    for path in (json_, chart, report):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent} to write it to")
    if chart is not None and chart.suffix not in (".svg", ".png"):
        raise UsageError(f"--chart must end in .svg or .png. Received: {chart}")
    if from_ is not None:
        if names or quick or rounds is not None:
            raise UsageError("--from measures nothing; it goes with --chart and --report only")
        found = _read(from_)
        _print(found)
    else:
        chosen = [table.load(name) for name in dict.fromkeys(names or table.NAMES)]
        found = _measured(chosen, rounds, quick)
    _write(found, json_, chart, report)
    print("\n".join(page.last_lines(found)))
    if not found["complete"]:
        raise typer.Exit(_INTERRUPTED)
    if failed := results.failures(found):
        raise PipelineError("\n       ".join(["these sides failed:", *failed]))


def _measured(chosen: list, rounds: int | None, quick: bool) -> dict[str, Any]:
    """Measures, and returns the whole JSON; after Ctrl-C what there is until then."""
    from rich.console import Console

    from benchmarks import facts, harness, view
    from pipeline import machine

    gpus = machine.gpus()
    found: dict[str, Any] = {
        "schema": results.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "complete": False,
        "quick": quick,
        "seconds": 0.0,
        "machine": facts.of_machine(gpus),
        "versions": facts.versions(),
        "commit": facts.commit(),
        "load": {"begin": facts.load()},
        "benchmarks": [],
    }
    cases = [case for benchmark in chosen for case in benchmark.cases(quick)]
    begin = time.monotonic()
    print(facts.words(found["machine"]), flush=True)
    try:
        with view.Live(Console(), [case.seconds for case in cases]) as shown:
            harness.Harness(shown, rounds, quick, len(gpus)).measure(chosen, found["benchmarks"])
        found["complete"] = True
    except KeyboardInterrupt:
        _print_last(found)
    found["seconds"] = time.monotonic() - begin
    found["load"]["end"] = facts.load()
    return found


def _print_last(found: dict[str, Any]) -> None:
    """Prints the case that was interrupted; the others are above."""
    last = found["benchmarks"][-1] if found["benchmarks"] else None
    if last is not None and last["cases"]:
        case = last["cases"][-1]
        print("\n".join([f"\n{last['name']}, {case['name']}", *page.case_lines(case)]))
    print("\ninterrupted; above is what was measured until then", file=sys.stderr)


def _print(found: dict[str, Any]) -> None:
    for benchmark in found["benchmarks"]:
        for case in benchmark["cases"]:
            print("\n  ".join([f"{benchmark['name']}, {case['name']}", *page.case_lines(case)]))
            print()


def _write(
    found: dict[str, Any], json_: Path | None, chart: Path | None, report: Path | None
) -> None:
    from pipeline import files

    if json_ is not None:
        files.write_json(json_, found)
    if report is not None:
        files.write_text(report, page.markdown(found))
    if chart is not None:
        from benchmarks import drawing

        files.write_bytes(chart, drawing.ratios(found, chart.suffix[1:]))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} must be the JSON of a run, but cannot be read: {error}") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != results.SCHEMA:
        raise UsageError(
            f"{path} must have the schema {results.SCHEMA}, but has {schema!r}; measure again"
        )
    return found


def main() -> NoReturn:
    """Runs the command line and exits: 0, 1 a side failed, 2 wrong use, 130 Ctrl-C."""
    # A shell has what it starts in the background ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = app(prog_name="python -m benchmarks", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except TyperException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        code = error.exit_code
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    sys.stdout.flush()
    sys.exit(code or 0)
