"""Draws the pictures of the documentation from what the commands really print.

Run from the root of the repository: `python docs/make_images.py`.
"""

import contextlib
import tempfile
from pathlib import Path

from rich.console import Console

from pipeline import api, config, quiet, report
from pipeline.orchestration import graph, view

_IMAGES = Path(__file__).absolute().parent / "images"
_WIDTH = 136


def draw_run() -> None:
    """Runs the main job from nothing and keeps what stands in the terminal at its end."""
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


if __name__ == "__main__":
    with quiet.filtered_stderr():
        draw_run()
