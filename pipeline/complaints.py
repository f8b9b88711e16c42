"""What is wrong with a configuration, as lines for a person: where, which key, what was expected."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from pydantic import ValidationError

from pipeline.marks import Path

# Of the keys of a section, so many are named where any of them would do.
_SHOWN = 3
_LONGEST = 60
_KINDS = {
    "dataclass_type": "expected a mapping of keys to values",
    "dict_type": "expected a mapping of keys to values",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "invalid_key": "keys have to be text",
}


@dataclass(frozen=True, order=True)
class Complaint:
    """One thing that is wrong.

    Args:
        line: Of the file; 0 where an option said it.
        where: What the message begins with: `FILE:LINE`, or the text of an option.
        message: What was found and what was expected.
    """

    line: int
    where: str
    message: str

    def __str__(self) -> str:
        """Returns it as one line."""
        # An option with a name of its own, such as --workers, is known by its key.
        named = self.message.startswith(f"{self.where}: ")
        return " ".join((self.message if named else f"{self.where}: {self.message}").split())


@dataclass(frozen=True)
class Origin:
    """Where the values of a configuration come from.

    Args:
        source: What messages call the file.
        values: The values, as they are validated.
        lines: The line of each path of the file; empty where there is no file.
        given: The text of the option that set a path.
    """

    source: str
    values: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    given: Mapping[Path, str] = field(default_factory=dict)

    def complain(self, path: Path, message: str) -> Complaint:
        """Returns a complaint about what stands at `path`."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.given:
                return Complaint(0, self.given[path[:end]], message)
            if path[:end] in self.lines:
                break
        else:
            end = 0
        # A section of the file may be wrong only through what an option set in it.
        if len(path) > 1 or path not in self.lines:
            inner = (text for key, text in self.given.items() if path and key[: len(path)] == path)
            if option := next(inner, None):
                return Complaint(0, option, message)
        line = self.lines.get(path[:end], 0)
        return Complaint(line, f"{self.source}:{line}" if line else self.source, message)

    def followed(self, location: Sequence[str | int]) -> Path:
        """Returns the part of pydantic's `location` that is a path of the values.

        Names of the members of unions stand in between, which nobody wrote.
        """
        path, value, parts = [], self.values, list(location)
        while parts:
            part, taken = parts[0], 1
            if isinstance(value, Mapping):
                # A key may have dots itself, such as those of a search space.
                names = [dotted(parts[:end]) for end in range(len(parts), 1, -1)]
                dots = next((name for name in names if name in value), None)
                if dots is not None and part not in value:
                    part, taken = dots, dots.count(".") + 1
            del parts[:taken]
            if (isinstance(value, Mapping) and part in value) or (
                isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
            ):
                value = value[part]
                path.append(part)
        return tuple(path)


def of(error: ValidationError, origin: Origin, root: Any, below: Path = ()) -> list[Complaint]:
    """Returns what pydantic found, one complaint for each key.

    Args:
        error: What it raised.
        origin: Where the values come from.
        root: The dataclass that was validated.
        below: The path of the values that were validated.
    """
    found: dict[tuple[Path, str], list[str]] = {}
    for one in error.errors():
        path = origin.followed((*below, *one["loc"]))
        path, opening, message, closing = _explain(one, path, origin, root, below)
        found.setdefault((path, opening, closing), []).append(message)
    return [
        origin.complain(path, f"{opening}{', or '.join(dict.fromkeys(messages))}{closing}")
        for (path, opening, closing), messages in found.items()
    ]


def _explain(
    error: Mapping[str, Any], path: Path, origin: Origin, root: Any, below: Path
) -> tuple[Path, str, str, str]:
    """Returns the path to point at, and how the message begins, what it says, and how it ends."""
    within = [part for part in error["loc"] if part != "[key]"]
    match error["type"]:
        case "unexpected_keyword_argument":
            known = keys(root, within[:-1])
            return path, f"unknown key {dotted(path)!r}; ", _hint(within, known, root), ""
        case "missing":
            name = dotted((*path, within[-1]))
            known = keys(root, within)
            more = " …" if len(known) > _SHOWN else ""
            expected = " or ".join(known[:_SHOWN]) or "a value"
            return path, f"{name}: ", f"missing; expected {expected}{more}", ""
    if within != list(error["loc"]):
        return path, f"{dotted(path)}: ", "keys have to be text; put it in quotes", ""
    message = error["msg"].removeprefix("Value error, ")
    message = _KINDS.get(error["type"], f"{message[:1].lower()}{message[1:]}")
    if error["type"] == "value_error" and (inner := _mentioned(message, path, origin)):
        # It says what was found.
        return inner, f"{dotted(path)}: " if path else "", message, ""
    return path, f"{dotted(path)}: ", message, f"; found {_short(error['input'])}"


def _hint(location: Sequence[str | int], known: Sequence[str], root: Any) -> str:
    name = str(location[-1])
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {close[0]!r}?"
    if len(location) == 1:
        inner = [f"{section}.{name}" for section in known if name in keys(root, [section])]
        if inner:
            return f"did you mean {' or '.join(map(repr, inner))}?"
    return f"expected one of {', '.join(known)}" if known else "no key is expected here"


def _mentioned(message: str, path: Path, origin: Origin) -> Path | None:
    """Returns the path of the first key below `path` that a message speaks of."""
    value = origin.values
    for part in path:
        value = value[part]
    if isinstance(value, Mapping):
        for word in re.findall(r"\w+", message):
            if word in value:
                return (*path, word)
    return None


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def dotted(path: Iterable[Any]) -> str:
    """Returns a path as `--set` takes it."""
    return ".".join(map(str, path))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns which of the known names may have been meant, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


def keys(root: Any, location: Sequence[str | int]) -> list[str]:
    """Returns the keys of the section of the dataclass `root` that `location` leads to."""
    section: Any = root
    for part in location:
        section = _below(section, part)
    section = _dataclass_of(section)
    return [entry.name for entry in fields(section)] if section else []


def is_section(root: Any, name: str) -> bool:
    """Whether the dataclass `root` has a key `name` with keys of its own below it."""
    return _dataclass_of(_below(root, name)) is not None


def _below(hint: Any, part: str | int) -> Any:
    """Returns the type of what stands under `part` in a value of type `hint`."""
    if section := _dataclass_of(hint):
        return typing.get_type_hints(section, include_extras=True).get(str(part))
    for member in _members(hint):
        arguments = typing.get_args(member)
        if typing.get_origin(member) in (tuple, list, dict) and arguments:
            return arguments[1] if typing.get_origin(member) is dict else arguments[0]
    return None


def _dataclass_of(hint: Any) -> Any:
    return next((member for member in _members(hint) if is_dataclass(member)), None)


def _members(hint: Any) -> list[Any]:
    """Returns what a type may be: the members of a union, without what annotates them."""
    if typing.get_origin(hint) is Annotated:
        return _members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [inner for member in typing.get_args(hint) for inner in _members(member)]
    return [hint]
