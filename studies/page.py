"""The page of a study: one HTML file that needs nothing beside it."""

from pathlib import Path
from typing import Any

import jinja2

from studies import charts, files
from studies.report import Report, Study
from studies.work import Setting


def write(
    study: Study,
    setting: Setting,
    report: Report,
    records: dict[str, dict[str, Any]],
    folder: Path,
) -> Path:
    """Draws a study into `folder`: `index.html`, and each chart as an SVG file in `charts`.

    Args:
        study: What was studied.
        setting: With what.
        report: What was found.
        records: Where it is from.
        folder: Of the study.

    Returns:
        The path of the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("studies"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = []
    for chart in report.charts:
        drawn = charts.svg(chart)
        files.write_text(folder / "charts" / f"{chart.name}.svg", drawn)
        drawings.append((chart, drawn))
    # Runs can come from several sittings on several machines.
    environments = {tuple(record["environment"].items()) for record in records.values()}
    page = environment.get_template("page.html.j2").render(
        study=study,
        setting=setting,
        report=report,
        drawings=drawings,
        environments=[dict(found) for found in sorted(environments)],
        runs=len(records),
        minutes=sum(record["seconds"] for record in records.values()) / 60,
    )
    path = folder / "index.html"
    files.write_text(path, page)
    return path
