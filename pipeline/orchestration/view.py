"""Shows a run to whoever watches: live in a terminal, as plain lines elsewhere."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.errors import Stopped
from pipeline.orchestration.artifact import Progress

if TYPE_CHECKING:
    from pipeline.orchestration.runner import Result

_PERCENT = frozenset({"accuracy", "eval_accuracy"})
_PLAIN_INTERVAL = 10.0
_BAR_WIDTH = 20
_TIME_WIDTH = len("99 min 59 s")


class View(Protocol):
    """What the runner tells of a run."""

    def started(self, component: str) -> None:
        """Says that `component` begins."""

    def progress(self, component: str) -> Progress:
        """Returns what receives the progress of `component`."""

    def say(self, line: str, component: str = "") -> None:
        """Shows a line of text, perhaps about one component."""

    def finished(self, result: "Result") -> None:
        """Says how a component ended."""

    def failed(self, component: str) -> None:
        """Says that `component` did not end."""


class _Messages(logging.Handler):
    def __init__(self, view: View):
        super().__init__(logging.INFO)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.say(record.getMessage())


@contextlib.contextmanager
def messages(view: View) -> Iterator[None]:
    """Shows what the pipeline logs as information, until the block ends."""
    logger = logging.getLogger("pipeline")
    handler, level = _Messages(view), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Silent:
    """Shows nothing; for use from Python."""

    def started(self, component: str) -> None:
        """Does nothing."""

    def progress(self, component: str) -> Progress:
        """Returns what does nothing."""
        return lambda done, total, **figures: None

    def say(self, line: str, component: str = "") -> None:
        """Does nothing."""

    def finished(self, result: "Result") -> None:
        """Does nothing."""

    def failed(self, component: str) -> None:
        """Does nothing."""


def format_figures(figures: dict[str, float | str]) -> str:
    """Returns figures as one readable string, accuracies in per cent."""
    parts = []
    for name, value in figures.items():
        if isinstance(value, float):
            value = f"{value:.2%}" if name in _PERCENT else f"{value:.4f}"
        parts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)


def format_seconds(seconds: float) -> str:
    """Returns a duration for a person: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


class Remaining:
    """Estimates the time left from the progress reported so far.

    The time before the first report is not counted: it goes into starting, not into the work.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float) -> str:
        """Returns the time left as text, or nothing while it cannot be known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        begin, before = self._first
        if done <= before or done >= total:
            return ""
        return f"{format_seconds((now - begin) * (total - done) / (done - before))} left"


class Plain(contextlib.nullcontext):
    """Plain lines, one when something has happened, and every ten seconds while it goes on.

    A line about another component than that of the last heading begins with its name. Where nobody
    reads the lines any more, as behind `| head`, the run is stopped.

    Args:
        console: Where they are printed.
        components: The names of the components, in order.
    """

    def __init__(self, console: Console, components: list[str]):
        super().__init__(self)
        self._console = console
        self._components = components
        self._printed = dict.fromkeys(components, 0.0)
        self._heading = ""
        self._lock = threading.Lock()

    def started(self, component: str) -> None:
        """Prints the number and the name of the component."""
        self._printed[component] = time.monotonic()
        number = self._components.index(component) + 1
        with self._lock:
            self._heading = component
            self._print(f"[{number}/{len(self._components)}] {component}")

    def progress(self, component: str) -> Progress:
        """Returns what prints progress at intervals."""
        remaining = Remaining()

        def report(done: float, total: float, **figures: float | str) -> None:
            left = remaining(done, total)
            now = time.monotonic()
            if now - self._printed[component] >= _PLAIN_INTERVAL and total:
                self._printed[component] = now
                parts = [f"{done / total:.0%}", left, format_figures(figures)]
                self._tell(component, ", ".join(part for part in parts if part))

        return report

    def say(self, line: str, component: str = "") -> None:
        """Prints the line as it is, or behind the component's name."""
        with self._lock:
            other = component and component != self._heading
            self._print(f"{component}: {line.lstrip()}" if other else line)

    def finished(self, result: "Result") -> None:
        """Prints the result line."""
        how = "unchanged" if result.cached else f"done in {format_seconds(result.seconds)}"
        self._tell(result.name, f"{how}: {result.outcome.result}")

    def failed(self, component: str) -> None:
        """Prints that the component did not end."""
        with self._lock:
            self._print(f"      {component} stopped")

    def _tell(self, component: str, line: str) -> None:
        """Prints a line below the component's heading."""
        with self._lock:
            whose = "" if component == self._heading else f"{component} "
            self._print(f"      {whose}{line}")

    def _print(self, line: str) -> None:
        try:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        except SystemExit:  # what rich makes of a broken pipe
            raise Stopped(
                "whoever read the output has gone; the same command goes on from there"
            ) from None


class _Row:
    """The line of one component in the live view."""

    def __init__(self, name: str):
        self.name = name
        self.state = "waiting"
        self.begin = self.seconds = 0.0
        self.share: float | None = None
        self.text = ""

    def elapsed(self) -> float:
        return time.monotonic() - self.begin if self.state == "running" else self.seconds


class Rich(AbstractContextManager):
    """A live table in a terminal: state, progress, time left and figures of every component.

    Args:
        console: The terminal.
        components: The names of the components, in order.
    """

    def __init__(self, console: Console, components: list[str]):
        self._console = console
        self._rows = {name: _Row(name) for name in components}
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        """Stops drawing; after an error the last state stays, else the report takes its place."""
        self._live.transient = kind is None
        self._live.stop()

    def started(self, component: str) -> None:
        """Marks the component as running."""
        row = self._rows[component]
        row.state, row.begin = "running", time.monotonic()

    def progress(self, component: str) -> Progress:
        """Returns what moves the component's bar."""
        row = self._rows[component]
        remaining = Remaining()

        def report(done: float, total: float, **figures: float | str) -> None:
            row.share = done / total if total else None
            row.text = "  ".join(filter(None, (remaining(done, total), format_figures(figures))))

        return report

    def say(self, line: str, component: str = "") -> None:
        """Prints a line above the table."""
        self._console.print(Text(line, style="dim"))

    def finished(self, result: "Result") -> None:
        """Marks the component as done."""
        row = self._rows[result.name]
        row.seconds = result.seconds
        row.state = "cached" if result.cached else "done"
        if result.outcome.refusal:
            row.state = "refused"
        row.text = result.outcome.result

    def failed(self, component: str) -> None:
        """Marks the component as stopped."""
        row = self._rows[component]
        row.seconds, row.state = row.elapsed(), "failed"

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(width=max(map(len, self._rows)))
        table.add_column(width=_BAR_WIDTH)
        table.add_column(width=_TIME_WIDTH, justify="right")
        table.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
        for row in self._rows.values():
            table.add_row(*self._cells(row))
        return Group(table)

    def _cells(self, row: _Row) -> tuple:
        marks = {
            "waiting": Text("·", style="dim"),
            "running": self._spinner,
            "done": Text("✓", style="green"),
            "cached": Text("=", style="cyan"),
            "refused": Text("✗", style="red"),
            "failed": Text("✗", style="red"),
        }
        bar: ProgressBar | str = ""
        if row.state == "running" and row.share is not None:
            bar = ProgressBar(total=1.0, completed=row.share, width=_BAR_WIDTH)
        if row.state == "cached":
            bar = Text("unchanged", style="cyan")
        seconds = "" if row.state == "waiting" else format_seconds(row.elapsed())
        name = Text(row.name, style="dim" if row.state == "waiting" else "bold")
        return marks[row.state], name, bar, seconds, Text(row.text)
