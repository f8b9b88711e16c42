"""Why a component runs again: what changed since its last execution, and where that comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import telling
from pipeline.orchestration.history import Execution
from pipeline.orchestration.reader import Reader, stands

_SHOWN = 12
_LONGEST = 60
_SHORT = 12
_INDENT = "  "


def name_of(execution: Execution) -> str:
    """Returns what a person calls an execution."""
    return f"execution {execution.id} of {telling.when(execution.started)}"


def changes(
    executions: Reader,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
) -> list[str]:
    """Returns what differs between the dependencies of two executions of a component.

    Args:
        executions: The store.
        before: What the earlier one depended on.
        now: What the other one depends on.
        sources: Input key to the component that writes it, where that is known.

    Returns:
        A line for each; what an input's change comes from is indented behind it.
    """
    lines = []
    for kind, told in (("parameters", "parameter"), ("external", "outside the graph")):
        old, new = flat(before.get(kind)), flat(now.get(kind))
        for name in differing(old, new):
            label = f"{told} {name}".rstrip()
            lines.append(f"{label}: {shown(old, name)} → {shown(new, name)}")
    lines += _of_inputs(executions, before.get("inputs", {}), now.get("inputs", {}), sources or {})
    old, new = before.get("code") or {}, now.get("code") or {}
    modules = [f"module {name}: {edited(old, new, name)}" for name in differing(old, new)]
    lines += modules[:_SHOWN]
    if len(modules) > _SHOWN:
        lines.append(f"and {len(modules) - _SHOWN} more modules")
    old, new = before.get("libraries") or {}, now.get("libraries") or {}
    for name in differing(old, new):
        lines.append(f"library {name}: {shown(old, name)} → {shown(new, name)}")
    if before.get("pipeline") != now.get("pipeline"):
        lines.append(f"pipeline: {before.get('pipeline')} → {now.get('pipeline')}")
    return lines


def stale(execution: Execution) -> Iterator[str]:
    """Yields why an execution that depends on the same is not used again."""
    if execution.outcome is not None and execution.outcome.refusal is not None:
        yield f"nothing changed, but it refused, and is asked anew: {execution.outcome.refusal}"
    for artifact in execution.outputs.values():
        if not stands(artifact):
            yield f"nothing changed, but {artifact.uri} is gone, or was altered"


def _of_inputs(
    executions: Reader,
    before: Mapping[str, str],
    now: Mapping[str, str],
    sources: Mapping[str, str],
) -> list[str]:
    lines = []
    for key in differing(before, now):
        if key not in before or key not in now:
            lines.append(f"input {key}: {'new' if key in now else 'no longer there'}")
            continue
        makers = [executions.maker(digest) for digest in (before[key], now[key])]
        if None in makers:
            whose = f" of {sources[key]}" if key in sources else ""
            lines.append(f"input {key}{whose}: other content")
            continue
        old, new = makers
        lines.append(f"input {key}: other content, which {new.component} wrote ({name_of(new)}):")
        above = changes(executions, old.dependencies, new.dependencies)
        lines += [_INDENT + line for line in above or ["the same dependencies gave another result"]]
    return lines


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns the names of which the values differ, or that are in one of both alone."""
    missing = object()
    names = dict.fromkeys((*old, *new))
    return [name for name in names if old.get(name, missing) != new.get(name, missing)]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, with dotted names."""
    if isinstance(value, Mapping) and value:
        parts = (flat(part, f"{prefix}{name}.") for name, part in value.items())
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {prefix.removesuffix("."): value}


def shown(values: Mapping[str, Any], name: str) -> str:
    """Returns a value in a few characters; digests and long texts are cut."""
    if name not in values:
        return "nothing"
    value = values[name]
    text = value if isinstance(value, str) else repr(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:_SHORT]  # a digest
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def edited(old: Mapping[str, str], new: Mapping[str, str], name: str) -> str:
    """Returns what became of a module."""
    if name not in old:
        return "imported now"
    return "edited" if name in new else "no longer imported"
