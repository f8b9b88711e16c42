"""One page about the data of a run: what was seen, what was refused and why, how it is spread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.reporting import charts, gather, page, pictures, sections
from pipeline.reporting.gather import Data
from pipeline.reporting.pictures import Fetch

FILE_NAME = "data-report.html"

# How much is shown of each kind before "and N more".
_LIMITS = {"rows": 40, "folded": 1000, "strips": 60, "anomalies": 100}
_STRIP = 8


def write(root: Path, destination: Path | None = None, *, fetch: Fetch | None = None) -> Path:
    """Writes the page about the data of the last run below `root`: one file that needs nothing else.

    Equal artifacts, and equal answers of `fetch`, give equal bytes.

    Args:
        root: A pipeline root, such as `runs/photos`.
        destination: The file to write; by default `data-report.html` in the root.
        fetch: Returns the bytes of the image of that name in the source, or None where there are
            none any more; by default the source that ExampleGen read is asked.

    Returns:
        The file that was written.

    Raises:
        UsageError: There are no data below `root`.
        DataError: A file of an artifact is damaged.
    """
    destination = destination or root / FILE_NAME
    files.write_text(destination, render(gather.gather(root), fetch))
    return destination


def render(data: Data, fetch: Fetch | None = None) -> str:
    """Returns the page about `data`; see `write`."""
    template = page.environment().get_template("data_report.html.j2")
    return template.render(
        data=data, limits=_LIMITS, chart=charts, **_content(data, fetch or of_source(data))
    )


def of_source(data: Data) -> Fetch:
    """Returns what fetches images from the source that ExampleGen read."""
    from pipeline import sources

    source, folder = data.parameters["source"], data.parameters.get("tfds_data_dir")
    return lambda name: sources.fetch(source, name, tfds_data_dir=folder and Path(folder))


def _content(data: Data, fetch: Fetch) -> dict[str, Any]:
    """Returns what the sections show; None for those of which nothing is known."""

    look = pictures.Originals(fetch)

    def known(section: Callable, found: Any) -> Any:
        return None if found is None else section(found)

    rows = sections.rows(data.contents, data.fates)
    sample = pictures.sample(data.examples, data.contents, _LIMITS["strips"], _STRIP)
    sizes = {(width, height) for _, width, height in sample.sizes}
    return {
        "splits": list(data.contents.splits),
        "rows": rows,
        "account": sections.total(rows) if data.fates is not None else None,
        "skyline": charts.skyline(row.fate.written for row in rows),
        "anomalies": known(sections.ranked_anomalies, data.anomalies),
        "sample": sample,
        "heaps": known(lambda entries: sections.heaps(entries, look), data.quarantined),
        "conflicts": known(lambda entries: sections.conflicts(entries, look), data.quarantined),
        "overlaps": known(lambda entries: sections.overlaps(entries, look), data.overlaps),
        "copies": known(lambda entries: sections.copies(entries, look), data.duplicates),
        "sizes": sizes,
        "scatter": charts.scatter(sample.sizes) if len(sizes) > 1 else None,
        "measures": known(sections.measures, data.statistics),
        "formats": known(sections.formats, data.statistics),
        "colours": known(sections.colours, data.statistics),
        "failure": look.failure,
    }
