"""The drawing of a graph of components: who reads what of whom in, boxes and lines out."""

from collections.abc import Sequence
from dataclasses import dataclass

# Of a box along the direction of the graph and across it, and the room between two.
_ACROSS_THE_PAGE = {"size": (142.0, 56.0), "gap": (24.0, 22.0), "margin": (2.0, 46.0)}
_DOWN_THE_PAGE = {"size": (50.0, 136.0), "gap": (30.0, 8.0), "margin": (2.0, 24.0)}
_ARC, _ARC_PER_LAYER = 10.0, 11.0


@dataclass(frozen=True)
class Node:
    """A component to draw.

    Args:
        name: Of the component, unique in the graph.
        depends_on: The components that have to end well first.
    """

    name: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """Where a component is drawn."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """From one component to another: an SVG path.

    Args:
        source: Where it begins.
        target: Where it ends.
        path: The SVG path.
        far: Whether it passes by other components.
    """

    source: str
    target: str
    path: str
    far: bool


@dataclass(frozen=True)
class Drawing:
    """A graph in units of its `viewBox`; all boxes have one size."""

    width: float
    height: float
    box_width: float
    box_height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """Returns the components by the length of the longest way that leads to them.

    Args:
        nodes: Each behind those it depends on; names that are not among them are left out.
    """
    depth: dict[str, int] = {}
    found: list[list[Node]] = []
    for node in nodes:
        before = [depth[name] for name in node.depends_on if name in depth]
        depth[node.name] = max(before, default=-1) + 1
        while len(found) <= depth[node.name]:
            found.append([])
        found[depth[node.name]].append(node)
    return found


def draw(nodes: Sequence[Node], upright: bool = False) -> Drawing:
    """Draws a graph from the left to the right, or from the top downwards.

    Lines to the next layer are straight; those that pass others by are arcs beside the boxes.

    Args:
        nodes: Each behind those it depends on; names that are not among them are left out.
        upright: Whether it goes downwards, for narrow windows.
    """
    shape = _DOWN_THE_PAGE if upright else _ACROSS_THE_PAGE
    (length, breadth), (gap, space), (edge, side) = shape["size"], shape["gap"], shape["margin"]
    found = layers(nodes)
    widest = max((len(layer) for layer in found), default=0)
    whole = widest * (breadth + space) - space if widest else 0.0
    places: dict[str, tuple[int, float, float]] = {}
    for rank, layer in enumerate(found):
        own = len(layer) * (breadth + space) - space
        for index, node in enumerate(layer):
            across = side + (whole - own) / 2 + index * (breadth + space)
            places[node.name] = rank, edge + rank * (length + gap), across
    middle = side + whole / 2

    def point(along: float, across: float) -> str:
        x, y = (across, along) if upright else (along, across)
        return f"{x:g} {y:g}"

    def line(source: str, target: str) -> Line:
        (first, start, left), (last, end, right) = places[source], places[target]
        if last == first + 1:
            begin, stop = (start + length, left + breadth / 2), (end, right + breadth / 2)
            half = (begin[0] + stop[0]) / 2
            curve = (point(*begin), point(half, begin[1]), point(half, stop[1]), point(*stop))
        else:
            # Beside the boxes: on the side of the one that is nearer to the edge.
            out = _ARC + _ARC_PER_LAYER * (last - first)
            beyond = right + breadth / 2 > middle
            away, shift = (out, breadth) if beyond else (-out, 0.0)
            begin, stop = (start + 0.7 * length, left + shift), (end + 0.3 * length, right + shift)
            outer = (max if beyond else min)(begin[1], stop[1]) + away
            outer = min(max(outer, 0.0), whole + 2 * side)
            curve = (point(*begin), point(begin[0], outer), point(stop[0], outer), point(*stop))
        path = "M{}C{} {} {}".format(*curve)
        return Line(source, target, path, last > first + 1)

    lines = [
        line(source, node.name)
        for node in nodes
        for source in dict.fromkeys(node.depends_on)
        if source in places
    ]
    total = 2 * edge + len(found) * (length + gap) - gap if found else 0.0
    breadths = whole + 2 * side
    return Drawing(
        *((breadths, total) if upright else (total, breadths)),
        *((breadth, length) if upright else (length, breadth)),
        tuple(
            Box(name, *((across, along) if upright else (along, across)))
            for name, (_, along, across) in places.items()
        ),
        # The near ones lie above the far ones.
        tuple(sorted(lines, key=lambda line: not line.far)),
    )
