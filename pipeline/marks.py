"""YAML whose values are known by the lines they stand on, and nothing in it passed over."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import UsageErrors

Path = tuple[Hashable, ...]

# Of the key `<<`, below which are keys of another mapping.
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Marked:
    """What a YAML text says, and where.

    Args:
        values: Nested mappings, lists and scalars.
        lines: Path of keys and indices to the line it stands on, from 1; `()` is the whole.
    """

    values: Any
    lines: dict[Path, int] = field(default_factory=dict)


def read(text: str, source: str) -> Marked:
    """Returns what one YAML document says.

    Args:
        text: The document.
        source: What messages call it.

    Raises:
        UsageErrors: It is not YAML, or a key stands twice; each line begins with `SOURCE:LINE:`.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Marked(None)
        values = loader.construct_document(node)
        lines: dict[Path, int] = {}
        _mark(node, (), lines, set())
    except yaml.YAMLError as error:
        raise UsageErrors([f"{source}:{_line(error, text)}: {_message(error, text)}"]) from None
    except RecursionError:
        raise UsageErrors([f"{source}:1: not YAML that can be read: nested too deeply"]) from None
    if loader.twice:
        raise UsageErrors(
            f"{source}:{again}: the key {key!r} stands twice, first in line {first}; leave one out"
            for key, first, again in loader.twice
        )
    return Marked(values, lines)


class _Loader(yaml.SafeLoader):
    """Notes the keys that stand twice, of which YAML would silently take the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[tuple[Any, int, int]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        first: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    None, None, f"a {type(key).__name__} for a key", key_node.start_mark
                )
            if key in first:
                self.twice.append((key, first[key], line))
            first.setdefault(key, line)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            # What looks like a date or a number of another base, and is none.
            message = f"{getattr(node, 'value', '')!r} is no value: {error}; put it in quotes"
            raise yaml.MarkedYAMLError(None, None, message, node.start_mark) from None


def _mark(node: yaml.Node, path: Path, lines: dict[Path, int], seen: set[int]) -> None:
    """Notes the line of everything below `node`; what an alias repeats, where it stands first."""
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                below = (*path, _key(key_node))
                lines[below] = key_node.start_mark.line + 1
                _mark(value_node, below, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), lines, seen)


def _key(node: yaml.ScalarNode) -> Hashable:
    """Returns a key as the mapping has it: `on` is a truth value, `0` a number."""
    loader = _Loader("")
    return loader.construct_object(node)


def _line(error: yaml.YAMLError, text: str) -> int:
    for name in ("problem_mark", "context_mark"):
        if mark := getattr(error, name, None):
            return mark.line + 1
    position = getattr(error, "position", 0) or 0
    return text.count("\n", 0, position) + 1


def _message(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"not YAML: the character {chr(error.character)!a} is not allowed"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if mark and text[mark.index : mark.index + 1] == "\t":
        return f"not YAML: a tab in column {mark.column + 1}; expected spaces"
    if isinstance(error, yaml.composer.ComposerError) and "document" in f"{error.context}":
        return "not YAML: a second document begins; expected one"
    where = f" in column {mark.column + 1}" if mark else ""
    reasons = filter(None, (getattr(error, "context", None), problem or str(error)))
    return f"not YAML: {' '.join(' '.join(reasons).split())}{where}"
