"""What all pages share: templates that escape, text that can be shown, numbers for a person."""

import math
from pathlib import PurePosixPath
from typing import Any

import jinja2

BYTES = "bytes"

_KILO = 1000


def environment() -> jinja2.Environment:
    """Returns the templates: everything is escaped, and what is missing is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: readable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(number=number, percent=percent, short=short, told=told)
    return found


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


def short(name: str) -> str:
    """Returns the end of a path or URI: the file and the folder it is in."""
    return "/".join(PurePosixPath(name).parts[-2:])


def percent(part: float, whole: float) -> str:
    """Returns a share, rounded so that a few of many are not none, and nearly all not all."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %" if part and part != whole else f"{share:.0f} %"


def number(value: float, unit: str = "") -> str:
    """Returns a number for a person, in three digits where it is not whole."""
    if unit == BYTES:
        power = min(int(math.log(value, _KILO)), 4) if value >= 1 else 0
        return f"{_digits(value / _KILO**power)} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
    return f"{_digits(value)} {unit}".rstrip()


def count(value: float, noun: str) -> str:
    """Returns a number of things, such as `1 image` and `2 images`."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def told(value: Any) -> str:
    """Returns a JSON value for a person, as `1: p50 2.3, p99 4.1; 8: p50 9, p99 12`."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value)
        case list():
            return ", ".join(map(told, value)) or "none"
        case dict() if any(isinstance(own, dict) for own in value.values()):
            return "; ".join(f"{key}: {told(own)}" for key, own in value.items())
        case dict():
            return ", ".join(f"{key} {told(own)}" for key, own in value.items()) or "none"
    return str(value)


def _digits(value: float) -> str:
    if value == round(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.3g}"
