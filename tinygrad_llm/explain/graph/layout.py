"""Layered drawing of a graph: rows by depth, few crossings, straight long edges.

Source: Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical system
structures", 1981: (1) a layer for each node, (2) long edges cut by invisible nodes, (3) order
within the layers by the mean position of the neighbours, (4) coordinates.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

Node = Hashable
SWEEPS = 12


@dataclass
class Layout:
    """Where everything stands, in units of the caller.

    Attributes:
        place: node -> (x, y) of its centre.
        routes: for each edge the points it runs through, ends included.
        width, height: of the whole drawing.
    """

    place: dict[Node, tuple[float, float]] = field(default_factory=dict)
    routes: list[list[tuple[float, float]]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def lay_out(
    depth: dict[Node, int],
    edges: list[tuple[Node, Node]],
    widths: dict[Node, float],
    gap: float = 18.0,
    row_height: float = 62.0,
) -> Layout:
    """Place nodes of given depths and widths; an edge goes from a smaller depth to a larger.

    Args:
        depth: node -> its row, from 0 at the top.
        edges: (from, to).
        widths: node -> width of its box.
        gap: between boxes of a row.
        row_height: from one row to the next.
    """
    layers: list[list[Node]] = [[] for _ in range(max(depth.values()) + 1)]
    for node, d in depth.items():
        layers[d].append(node)
    chains = [_chain(number, edge, depth, layers) for number, edge in enumerate(edges)]
    links = [pair for chain in chains for pair in zip(chain, chain[1:], strict=False)]
    above, below = _neighbours(links, 1), _neighbours(links, 0)
    size = {node: widths.get(node, 4.0) for layer in layers for node in layer}
    x = _order(layers, above, below, size, gap)
    left = min(x[n] - size[n] / 2 for n in x)
    out = Layout()
    y = {node: (d + 0.5) * row_height for d, layer in enumerate(layers) for node in layer}
    points = {node: (x[node] - left + gap, y[node]) for node in x}
    out.place = {node: points[node] for node in depth}
    out.routes = [[points[node] for node in chain] for chain in chains]
    out.width = max(points[n][0] + size[n] / 2 for n in points) + gap
    out.height = len(layers) * row_height
    return out


def _chain(
    number: int, edge: tuple[Node, Node], depth: dict[Node, int], layers: list[list[Node]]
) -> list[Node]:
    """The edge's ends and, for each row it passes, an invisible node."""
    start, end = edge
    chain: list[Node] = [start]
    for d in range(depth[start] + 1, depth[end]):
        bend = ("bend", number, d)
        layers[d].append(bend)
        chain.append(bend)
    return [*chain, end]


def _neighbours(links: list[tuple[Node, Node]], end: int) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {}
    for link in links:
        found.setdefault(link[end], []).append(link[1 - end])
    return found


def _order(
    layers: list[list[Node]],
    above: dict[Node, list[Node]],
    below: dict[Node, list[Node]],
    size: dict[Node, float],
    gap: float,
) -> dict[Node, float]:
    """Sweeps down and up to find the order, then sweeps that only straighten."""
    x: dict[Node, float] = {}
    both = {n: above.get(n, []) + below.get(n, []) for layer in layers for n in layer}
    for layer in layers:
        _pack(layer, {}, x, size, gap)
    for sweep in range(3 * SWEEPS):
        ordering = sweep < SWEEPS
        down = sweep % 2 == 0
        side = both if not ordering else above if down else below
        for layer in layers if down else reversed(layers):
            wish = {n: _mean(x[m] for m in side[n]) for n in layer if side.get(n)}
            if ordering:
                layer.sort(key=lambda n: wish.get(n, x[n]))
            _pack(layer, wish, x, size, gap)
    return x


def _pack(
    layer: list[Node],
    wish: dict[Node, float],
    x: dict[Node, float],
    size: dict[Node, float],
    gap: float,
) -> None:
    """The positions nearest to the wishes, in the layer's order and without overlap.

    Measured from where a node stands when all are pushed together, positions must not fall from
    left to right: isotonic regression, solved by merging neighbours that violate it (Ayer et al.,
    1955). A bend weighs more than a box, so that long edges are straight.
    """
    offset, offsets = 0.0, []
    blocks: list[list[float]] = []  # [mean position, weight, number of nodes]
    for node in layer:
        offsets.append(offset + size[node] / 2)
        offset += size[node] + gap
        weight = 0.01 if node not in wish else 4.0 if size[node] < 5 else 1.0
        blocks.append([wish.get(node, x.get(node, 0.0)) - offsets[-1], weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, more, n = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * more) / (last[1] + more)
            last[1] += more
            last[2] += n
    starts = [mean for mean, _, n in blocks for _ in range(int(n))]
    for node, start, place in zip(layer, starts, offsets, strict=True):
        x[node] = start + place


def _mean(numbers: Iterable[float]) -> float:
    values = list(numbers)
    return sum(values) / len(values)
