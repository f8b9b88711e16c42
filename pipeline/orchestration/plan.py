"""What a run would do and why, found out without doing it."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.orchestration import fingerprint, step, why
from pipeline.orchestration.graph import Node
from pipeline.orchestration.selection import Selection
from pipeline.orchestration.step import Result
from pipeline.orchestration.store import Store

RUN, UNCHANGED, OPEN, MISSING = "would run", "unchanged", "perhaps", "missing"


@dataclass(frozen=True)
class Planned:
    """What a run would do with one component.

    Args:
        component: Its name.
        action: `RUN`, `UNCHANGED`, `OPEN` where that depends on what others will give, or
            `MISSING` where the selection wants it in the store and it is not.
        why: A line for each reason.
    """

    component: str
    action: str
    why: tuple[str, ...] = ()


def of(chosen: Selection, name: str, root: Path) -> list[Planned]:
    """Returns what a run of `chosen` would do, in the order of the graph.

    Args:
        chosen: The graph, or a part of it.
        name: Name of the pipeline.
        root: The pipeline root.
    """
    executions = Store(root)
    known: dict[str, Result] = {}
    planned = []
    for node in chosen.nodes:
        found = _planned(node, chosen, name, executions, known)
        if found.action in (RUN, OPEN) and node.name in chosen.required:
            found = Planned(node.name, MISSING, found.why)
        planned.append(found)
    return planned


def _planned(
    node: Node, chosen: Selection, name: str, executions: Store, known: dict[str, Result]
) -> Planned:
    """Returns what would be done with one node, whose result becomes known if it is unchanged."""
    before = executions.last_used(node.name)
    if node.name in chosen.forced:
        return Planned(node.name, RUN, (f"{chosen.said} was given",))
    if awaited := [source for source in node.depends_on if source not in known]:
        own = step.own_dependencies(node)
        if before is None:
            return Planned(node.name, RUN, ("it never ended well here",))
        kept = {key: value for key, value in before.dependencies.items() if key in own}
        if lines := why.changes(executions, kept, own):
            return Planned(node.name, RUN, tuple(lines))
        if not node.cacheable:
            return Planned(node.name, RUN, ("it runs each time: it works outside the store",))
        return Planned(node.name, OPEN, (f"runs if {' or '.join(awaited)} gives something else",))
    inputs = step.inputs_of(node, executions, known)
    dependencies = step.dependencies_of(node, name, inputs)
    key = fingerprint.digest(dependencies)
    found = executions.find(node.name, key)
    if found and (node.cacheable or node.name in chosen.required):
        known[node.name] = step.result_of(found, cached=True)
        return Planned(node.name, UNCHANGED, (f"as in {why.name_of(found)}",))
    if before is None:
        return Planned(node.name, RUN, ("it never ended well here",))
    if not node.cacheable:
        return Planned(node.name, RUN, ("it runs each time: it works outside the store",))
    if before.key == key:
        return Planned(node.name, RUN, tuple(why.stale(before)))
    sources = {key: source for key, (source, _) in (node.inputs | node.history).items()}
    lines = why.changes(executions, before.dependencies, dependencies, sources)
    return Planned(node.name, RUN, (f"since {why.name_of(before)}:", *lines))


def lines(planned: list[Planned]) -> list[str]:
    """Returns the plan for a person to read."""
    width = max(len(one.component) for one in planned)
    pad = " " * (width + 2)
    actions = max(len(one.action) for one in planned)
    text = []
    for one in planned:
        first, *rest = one.why
        text.append(f"{one.component:{width}}  {one.action:{actions}}  {first}")
        text += [f"{pad}{' ' * actions}    {line}" for line in rest]
    return text


def explained(planned: list[Planned], component: str) -> list[str]:
    """Returns, for a person to read, why `component` would run, and what runs in front of it."""
    (own,) = (one for one in planned if one.component == component)
    first, *rest = own.why
    if own.action == UNCHANGED:
        return [f"{component} is unchanged, {first}: its result is used again"]
    text = [f"{component} {own.action}: {first}" if own.action == RUN else f"{component} {first}"]
    text += [f"  {line}" for line in rest]
    above = [one for one in planned if one.action == RUN and one.component != component]
    if above:
        text += ["in front of it:", *(f"  {line}" for line in lines(above))]
    return text
