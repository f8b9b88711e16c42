"""Writes the tables of every key into `configuration.md`, from the docstrings of the parameters.

Run from the root of the repository: `python docs/make_configuration.py`.
"""

import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo

from pipeline import config
from pipeline.orchestration import custom

PAGE = Path(__file__).absolute().parent / "configuration.md"
HEADING = "## Every key"

# Classes of the bounds that pydantic keeps, whose one attribute has the name in lower case.
_SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}
_KINDS = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


def written(page: str) -> str:
    """Returns the page with its tables as the parameters are now."""
    return f"{page.partition(HEADING)[0]}{HEADING}\n\n{''.join(_sections())}"


def _sections() -> Iterator[str]:
    yield "### What may be read\n\n| output | type |\n| --- | --- |\n"
    for name, module in custom.BUILT_IN.items():
        for key, kind in module.OUTPUTS.items():
            yield f"| `{name}.{key}` | {kind} |\n"
    yield (
        "\n### What may be set\n\nOf what has no default a value has to be given. Where the default "
        "is `null`, the text says\nwhat is done instead.\n"
    )
    pending: list[tuple[str, Any, dict[str, str]]] = [("", config.RunConfig, {})]
    while pending:
        name, section, above = pending.pop(0)
        rows = []
        inner: list[tuple[str, Any, dict[str, str]]] = []
        # Bounds of a slice are explained as those of the whole split.
        known = {**above, **_described(section)}
        for field, hint in _fields(section):
            place = f"{name}.{field.name}" if name else field.name
            below = list(_dataclasses(hint, place))
            inner += [(*one, known if name else {}) for one in below]
            kind = "see below" if below and not _plain(hint) else _kind(hint)
            if isinstance(field.default, FieldInfo):
                kind = " ".join((kind, " and ".join(_bounds((field.default,))))).strip()
            rows.append(
                f"| `{field.name}` | {kind} | {_default(field)} | {known.get(field.name, '')} |\n"
            )
        pending = [*inner, *pending]
        heading = f"### `{name}`" if name else "### At the top"
        yield f"\n{heading}\n\n{_cell(inspect.getdoc(section).partition(chr(10))[0])}\n"
        if rows:
            yield f"\n| key | value | default | |\n| --- | --- | --- | --- |\n{''.join(rows)}"


def _fields(section: Any) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(section, include_extras=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(section)]


def _described(section: Any) -> dict[str, str]:
    """Returns what the docstrings of a section and of its bases say of its keys."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        _, _, arguments = (base.__doc__ or "").partition("Args:\n")
        text = textwrap.dedent(arguments)
        for name, said in re.findall(r"^(\w+): (.*(?:\n +.*)*)", text, re.MULTILINE):
            found[name] = _cell(re.sub(r"\bNone\b", "`null`", " ".join(said.split())))
    return found


def _cell(text: str) -> str:
    """Returns text without what would end a cell of a table."""
    return text.replace("|", "\\|")


def _dataclasses(hint: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yields the sections that a value of type `hint` may hold, with how they are called."""
    if dataclasses.is_dataclass(hint):
        yield place, hint
    elif typing.get_origin(hint) is dict:
        yield from _dataclasses(typing.get_args(hint)[1], f"{place}.NAME")
    elif typing.get_origin(hint) is tuple:
        yield from _dataclasses(typing.get_args(hint)[0], f"{place}.NUMBER")
    else:
        arguments = typing.get_args(hint)
        for argument in arguments[:1] if typing.get_origin(hint) is Annotated else arguments:
            yield from _dataclasses(argument, place)


def _plain(hint: Any) -> bool:
    """Whether a value is a list or a mapping of sections, which has to be said."""
    return typing.get_origin(hint) in (dict, tuple)


def _kind(hint: Any) -> str:
    """Returns what a value has to be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = " and ".join(_bounds(arguments[1:]))
        return f"{_kind(arguments[0])} {bounds}".strip()
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(one) for one in arguments if one is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_kind(arguments[0])}"
        return f"list of {len(arguments)}: {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping to {_kind(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "sections, see below"
    return _KINDS.get(hint, "any value")


def _bounds(metadata: tuple[Any, ...]) -> Iterator[str]:
    for one in metadata:
        for bound in one.metadata if isinstance(one, FieldInfo) else (one,):
            if sign := _SIGNS.get(type(bound).__name__):
                yield f"{sign} {getattr(bound, type(bound).__name__.lower()):g}"


def _default(field: dataclasses.Field) -> str:
    value = field.default
    if isinstance(value, FieldInfo):
        if value.is_required():
            return ""
        value = value.get_default(call_default_factory=True)
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return ""
    if dataclasses.is_dataclass(value):
        return ""
    return f"`{_json(value)}`"


def _json(value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, default=str)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
