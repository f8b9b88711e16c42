"""Draws the pictures of the documentation from what the commands really leave.

Run from the root of the repository: `python docs/make_images.py`. The report is photographed by
Chromium, which has to be on PATH.
"""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from pipeline import api, config, quiet, report
from pipeline.orchestration import graph, view

_IMAGES = Path(__file__).absolute().parent / "images"
_WIDTH = 136
_WINDOW = (1100, 860)
_BROWSER = "chromium"


def draw() -> None:
    """Runs the main job from nothing; keeps what stands in the terminal at its end, and its page."""
    browser = shutil.which(_BROWSER)
    if browser is None:
        raise SystemExit(f"{_BROWSER}: not on PATH; install it, the report is photographed by it")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        chosen = config.load("digits")
        names = [node.name for node in graph.build(chosen)]
        console = Console(record=True, force_terminal=True, width=_WIDTH)
        with view.Rich(console, names) as live:
            result = api.run(chosen, view=live)
        console.export_text()  # forgets the live table, of which the terminal keeps nothing
        console.print("$ make run")
        report.print_result(console, result, python=Path(".venv/bin/python"))
        _IMAGES.mkdir(exist_ok=True)
        console.save_svg(str(_IMAGES / "run.svg"), title="make run")
        _photograph(browser, Path("runs/digits/reports/1.html"), _IMAGES / "report.png")


def _photograph(browser: str, page: Path, picture: Path) -> None:
    """Keeps what a window of the browser shows of a page."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--hide-scrollbars", "--user-data-dir=browser"]
    command += [f"--window-size={_WINDOW[0]},{_WINDOW[1]}", f"--screenshot={picture}"]
    subprocess.run(
        [*command, page.absolute().as_uri()], check=True, stdout=subprocess.DEVNULL, timeout=60
    )


if __name__ == "__main__":
    with quiet.filtered_stderr():
        draw()
