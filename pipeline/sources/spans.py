"""Spans: data that comes in portions, each in a path of its own, and anew in versions.

    photos/span-{SPAN}/version-{VERSION}        photos/{YYYY}-{MM}-{DD}/labels.csv

`{SPAN:3}` and `{VERSION:3}` are of just that width, padded with zeros. The span of a date is the
number of days since 1970-01-01, as in TFX.
"""

import datetime
import re
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.sources import uris

_EPOCH = datetime.date(1970, 1, 1)
_PLACE = re.compile(r"\{(SPAN|VERSION)(?::([1-9]))?\}|\{(YYYY|MM|DD)\}")
_DATE = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}"}
_SHOWN = 3


@dataclass(frozen=True)
class Resolved:
    """Where a span lies.

    Args:
        path: The path without placeholders.
        span: The number of the span; 0 where the path has no placeholders.
        version: The number of its version; 0 where there are none.
        name: The last part of the path that is the same for all spans; empty where the path has
            no placeholders.
    """

    path: str
    span: int = 0
    version: int = 0
    name: str = ""


def resolve(pattern: str, span: int | None = None) -> Resolved:
    """Returns the path of a span, in its latest version.

    Args:
        pattern: A path or URI that may hold `{SPAN}`, or `{YYYY}`, `{MM}` and `{DD}`, and beside
            these `{VERSION}`.
        span: The number of the span; None for the latest.

    Raises:
        UsageError: There is no such span, or the placeholders make no sense.
    """
    names = {found[1] or found[3] for found in _PLACE.finditer(pattern)}
    _require_sense(pattern, names, span)
    if not names:
        return Resolved(pattern)
    found: dict[tuple[int, int], str] = {}
    for path, values in _existing(pattern):
        key = _number(values)
        if key is None:
            continue
        if key in found:
            raise UsageError(
                f"data {pattern!r}: {found[key]} and {path} are the same span and version; "
                "give a width, as in {SPAN:2}"
            )
        found[key] = path
    wanted = _wanted(pattern, sorted({number for number, _ in found}), span)
    version = max(version for number, version in found if number == wanted)
    common = pattern[: _PLACE.search(pattern).start()].rpartition("/")[0]
    return Resolved(found[wanted, version], wanted, version, common.rpartition("/")[2])


def _require_sense(pattern: str, names: set[str], span: int | None) -> None:
    dates = names & _DATE.keys()
    if not names and span is not None:
        raise UsageError(
            f"data {pattern!r}: span {span} was asked for, but the path holds no {{SPAN}}"
        )
    if names == {"VERSION"}:
        raise UsageError(f"data {pattern!r}: {{VERSION}} needs {{SPAN}} or a date beside it")
    if dates and "SPAN" in names:
        raise UsageError(f"data {pattern!r}: holds {{SPAN}} and a date; a span has one number")
    if dates and dates != _DATE.keys():
        raise UsageError(f"data {pattern!r}: a date needs {{YYYY}}, {{MM}} and {{DD}}")


def _existing(pattern: str) -> list[tuple[str, dict[str, str]]]:
    """Returns each path that fits, and what stands in it for each placeholder."""
    parts = pattern.split("/")
    end = max(index for index, part in enumerate(parts) if _PLACE.search(part)) + 1
    candidates: list[tuple[str, dict[str, str]]] = [("", {})]
    for index, part in enumerate(parts[:end]):
        start = "" if index == 0 else "/"
        if not _PLACE.search(part):
            candidates = [(f"{path}{start}{part}", values) for path, values in candidates]
            continue
        candidates = [
            (f"{path}{start}{name}", new)
            for path, values in candidates
            for name in _listed(path or start)
            if (new := _fitting(part, name, values)) is not None
        ]
    rest = "".join(f"/{part}" for part in parts[end:])
    # A span whose folder is there before its files are is not there yet.
    return [
        (path + rest, values) for path, values in candidates if not rest or uris.exists(path + rest)
    ]


def _listed(folder: str) -> list[str]:
    return uris.children(folder) if uris.is_uri(folder) or uris.is_folder(folder) else []


def _fitting(part: str, name: str, values: dict[str, str]) -> dict[str, str] | None:
    """Returns `values` with those that make `part` into `name`; None where nothing does."""
    expression, position, new = "", 0, set()
    for place in _PLACE.finditer(part):
        expression += re.escape(part[position : place.start()])
        position = place.end()
        key = place[1] or place[3]
        if key in values:
            expression += re.escape(values[key])
        elif key in new:
            expression += f"(?P={key})"
        else:
            digits = _DATE.get(key) or (rf"\d{{{place[2]}}}" if place[2] else r"\d+")
            expression += f"(?P<{key}>{digits})"
            new.add(key)
    expression += re.escape(part[position:])
    found = re.fullmatch(expression, name, re.ASCII)
    return None if found is None else values | found.groupdict()


def _number(values: dict[str, str]) -> tuple[int, int] | None:
    """Returns span and version; None for a date that there is not."""
    version = int(values.get("VERSION", 0))
    if "SPAN" in values:
        return int(values["SPAN"]), version
    try:
        date = datetime.date(*(int(values[name]) for name in _DATE))
    except ValueError:
        return None
    return (date - _EPOCH).days, version


def _wanted(pattern: str, spans: list[int], span: int | None) -> int:
    if not spans:
        raise UsageError(f"data {pattern!r}: found no span; nothing there fits this path")
    if span is None:
        return spans[-1]
    if span not in spans:
        nearest = sorted(sorted(spans, key=lambda number: abs(number - span))[:_SHOWN])
        raise UsageError(
            f"data {pattern!r}: there is no span {span}; the nearest of {len(spans)} are "
            f"{', '.join(map(str, nearest))}"
        )
    return span
