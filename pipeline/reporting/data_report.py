"""One page about the data of a run: what was seen, what was refused and why, how it is spread."""

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2

from pipeline import files
from pipeline.reporting import charts, gather, pictures, sections
from pipeline.reporting.gather import Data
from pipeline.reporting.pictures import Fetch

FILE_NAME = "data-report.html"

# How much is shown of each kind before "and N more".
_LIMITS = {"rows": 40, "folded": 1000, "classes": 60, "anomalies": 100}
_STRIP = 8

_KILO = 1000


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
    template = _environment().get_template("data_report.html.j2")
    return template.render(
        data=data, limits=_LIMITS, chart=charts, **_content(data, fetch or _of_source(data))
    )


def _of_source(data: Data) -> Fetch:
    from pipeline import sources

    source, folder = data.parameters["source"], data.parameters.get("tfds_data_dir")
    return lambda name: sources.fetch(source, name, tfds_data_dir=folder and Path(folder))


def _content(data: Data, fetch: Fetch) -> dict[str, Any]:
    """Returns what the sections show; None for those of which nothing is known."""

    look = pictures.Originals(fetch)

    def known(section: Callable, found: Any) -> Any:
        return None if found is None else section(found)

    rows = sections.rows(data.contents, data.fates)
    sample = pictures.sample(data.examples, data.contents, _LIMITS["classes"], _STRIP)
    sizes = {(width, height) for _, width, height in sample.sizes}
    return {
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


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: readable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent, short=_short)
    return environment


def readable(text: str) -> str:
    """Returns foreign text as something that can be shown: what cannot be printed is escaped.

    Undecodable bytes of file names become `\\xe9`; characters that turn the direction of writing
    or are invisible become their code, such as `\\u202e`.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"  # a byte that os.fsdecode could not decode
    return character.encode("unicode_escape").decode("ascii")


def _short(name: str) -> str:
    """Returns the end of a path or URI: the file and the folder it is in."""
    return "/".join(PurePosixPath(name).parts[-2:])


def _percent(part: float, whole: float) -> str:
    """Returns a share, rounded so that a few of many are not none, and nearly all not all."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %" if part and part != whole else f"{share:.0f} %"


def _number(value: float, unit: str = "") -> str:
    """Returns a number for a person, in three digits where it is not whole."""
    if unit == sections.BYTES:
        power = min(int(math.log(value, _KILO)), 4) if value >= 1 else 0
        return f"{_digits(value / _KILO**power)} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
    return f"{_digits(value)} {unit}".rstrip()


def _digits(value: float) -> str:
    if value == round(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.3g}"
