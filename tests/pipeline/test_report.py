"""What is printed at the end of a run."""

import io
from pathlib import Path

from rich.console import Console

from pipeline import config, report
from pipeline.api import RunResult
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.step import Result


def test_the_total_is_what_the_run_took_though_components_ran_at_once():
    components = {
        name: Result(name, Outcome("well"), {}, seconds, cached)
        for name, seconds, cached in (("Left", 40.0, False), ("Right", 50.0, False), ("C", 0, True))
    }
    console = Console(file=io.StringIO(), width=100)
    report.print_result(console, RunResult(config.load(), components, 1, 52.0), Path("python"))
    rows = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert rows[1:5] == [
        ["Left", "40", "s", "well"],
        ["Right", "50", "s", "well"],
        ["C", "unchanged", "well"],
        ["total", "52", "s"],
    ]
