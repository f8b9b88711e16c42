"""What is printed at the end of a run: the components, the model, and what to do next."""

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import files
from pipeline.api import RunResult
from pipeline.components.evaluator import PAGE
from pipeline.orchestration.view import format_seconds


def print_result(console: Console, result: RunResult, python: Path | None = None) -> None:
    """Prints the table of components, where the model lies, and three commands to type next.

    Args:
        console: Where it is printed.
        result: What the run left.
        python: The interpreter that the commands name; by default the one that runs.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("component", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("result")
    for name, component in result.components.items():
        seconds = "unchanged" if component.cached else format_seconds(component.seconds)
        table.add_row(name, seconds, Text(component.outcome.result))
    table.add_section()
    table.add_row("total", format_seconds(result.seconds), "")
    console.print()
    console.print(table)
    console.print()
    python = python or Path(sys.executable)
    if "Evaluator" in result.components:
        page = result.components["Evaluator"].outputs["evaluation"].uri / PAGE
        _line(console, f"How good it is, and where it errs, is drawn in {files.relative(page)}.")
    if "Pusher" in result.components:
        pushed = result.pushed if isinstance(result.pushed, str) else files.relative(result.pushed)
        _line(console, f"The model is in {pushed}. Next:")
        commands = next_commands(result, python)
    else:
        _line(console, "Next:")
        commands = [look_at_data(result, python)]
    for purpose, command in commands:
        _line(console, f"  {purpose}")
        _line(console, f"    {command}")


def next_commands(result: RunResult, python: Path) -> list[tuple[str, str]]:
    """Returns what each of the next commands is for, and the command."""
    logs = _quoted(result.components["Trainer"].outputs["model_run"].uri)
    watch = (
        "watch the training in TensorBoard",
        f"{_quoted(python.with_name('tensorboard'))} --logdir {logs}",
    )
    if isinstance(result.pushed, str):  # a URI, which other programs have to fetch
        destination, name, _ = result.pushed.rsplit("/", 2)
        show = f"{_quoted(python)} -m pipeline versions {name} --destination {destination}"
        return [watch, ("see what was pushed", show)]
    mistakes = sorted(
        (result.components["Evaluator"].outputs["evaluation"].uri / "mistakes").glob("*")
    )
    image = _quoted(mistakes[0]) if mistakes else "IMAGE"
    model = result.pushed.parent
    below = files.relative(model)
    # Docker takes absolute paths alone.
    mounted = below if below.is_absolute() else Path("$PWD") / below
    volume = f'-v "{mounted}:/models/{model.name}"'
    return [
        watch,
        (
            "classify an image" + (" (one that the model gets wrong)" if mistakes else ""),
            f"{_quoted(python)} -m pipeline predict {image} --model {_quoted(model)}",
        ),
        (
            "serve it with TF Serving in Docker",
            f"docker run --rm -p 8501:8501 {volume} -e MODEL_NAME={model.name} tensorflow/serving",
        ),
    ]


def look_at_data(result: RunResult, python: Path) -> tuple[str, str]:
    """Returns what the command that draws the data is for, and the command."""
    root = "" if result.config.root == Path("runs") else f" --root {_quoted(result.config.root)}"
    command = f"{_quoted(python)} -m pipeline data-report {result.config.name}{root}"
    return "look at the data on one page", command


def _quoted(path: Path) -> str:
    return shlex.quote(str(files.relative(path)))


def _line(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
