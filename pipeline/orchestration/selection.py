"""Which part of a graph runs: up to a component, from one on, or one alone."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.orchestration.graph import Node


@dataclass(frozen=True)
class Selection:
    """The part of a graph that a run is about.

    Args:
        nodes: The nodes, each behind those it depends on.
        forced: Names of those that run although nothing changed.
        required: Names of those whose results have to be in the store already.
        said: What the person typed, for messages.
    """

    nodes: tuple[Node, ...]
    forced: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    said: str = ""


def select(
    nodes: Iterable[Node],
    from_: str | None = None,
    to: str | None = None,
    only: str | None = None,
) -> Selection:
    """Returns a part of a graph.

    Args:
        nodes: The whole graph, in order.
        from_: The component to begin with: it and what depends on it run, changed or not; what
            these need of others has to be in the store.
        to: The component to end with: only what it needs is run.
        only: The one component to run, unless it is unchanged; what it needs has to be in the
            store.

    Raises:
        UsageError: There is no such component, or the three contradict each other.
    """
    nodes = tuple(nodes)
    by_name = {node.name: node for node in nodes}
    for option, name in (("--from", from_), ("--to", to), ("--only", only)):
        if name is not None and name not in by_name:
            raise UsageError(f"{option} {name}: expected one of {', '.join(by_name)}")
    if only is not None and (from_ is not None or to is not None):
        raise UsageError(f"--only {only}: not together with --from or --to")
    if only is not None:
        needed = _needed(by_name, [only])
        return _part(nodes, needed, required=needed - {only}, said=f"--only {only}")
    ends = list(by_name) if to is None else [to]
    needed = _needed(by_name, ends)
    if from_ is None:
        return _part(nodes, needed)
    forced = {name for name in needed if from_ in _needed(by_name, [name])}
    if not forced:
        raise UsageError(f"--from {from_} --to {to}: {to} does not depend on {from_}")
    needed = _needed(by_name, forced)
    return _part(nodes, needed, forced, needed - forced, f"--from {from_}")


def independent(node: Node, nodes: Iterable[Node]) -> bool:
    """Whether another of `nodes` may run at the same time as `node`."""
    by_name = {other.name: other for other in nodes}
    above = _needed(by_name, [node.name])
    return any(name not in above and node.name not in _needed(by_name, [name]) for name in by_name)


def _part(
    nodes: tuple[Node, ...],
    needed: set[str],
    forced: Iterable[str] = (),
    required: Iterable[str] = (),
    said: str = "",
) -> Selection:
    part = tuple(node for node in nodes if node.name in needed)
    return Selection(part, frozenset(forced), frozenset(required), said)


def _needed(by_name: dict[str, Node], ends: Iterable[str]) -> set[str]:
    """Returns `ends` and everything that they depend on."""
    needed: set[str] = set()
    pending = list(ends)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += by_name[name].depends_on
    return needed
