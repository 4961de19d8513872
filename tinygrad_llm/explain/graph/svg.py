"""``tg.graph(loss)``: the recorded graph as an SVG picture, without any outside program."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.engine import Node
from tinygrad_llm.autograd.function import Output
from tinygrad_llm.autograd.trace import trace_of
from tinygrad_llm.errors import GraphError
from tinygrad_llm.explain.graph.layout import Node as Place
from tinygrad_llm.explain.graph.layout import lay_out

_LETTER, _BOX_HEIGHT = 7.2, 34.0  # width of a letter at the font size; pixels
_STYLE = (
    "text{font:12px sans-serif;fill:#1c1f24;text-anchor:middle}.small{font-size:10px;fill:#5a6270}"
    "path{fill:none;stroke:#8a94a3;stroke-width:1.4}"
    ".op{fill:#dbe9fb;stroke:#1668b8}.leaf{fill:#e3f3e6;stroke:#1b7a43}"
    ".root{fill:#fbe3d6;stroke:#b4440e}"
)


class Picture:
    """An SVG picture: shown by Jupyter, ``save``d to a file, or taken as text with ``str``."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture; returns the path."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def __str__(self) -> str:
        return self.svg

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass
class _Box:
    """What is written into a node's box."""

    title: str
    subtitle: str
    kind: str

    @property
    def width(self) -> float:
        return max(44.0, _LETTER * max(len(self.title), 0.86 * len(self.subtitle)) + 16)


def graph(tensor: Tensor, leaves: bool = True) -> Picture:
    """Draw the ops that made ``tensor``, down from the leaves to it.

    Shapes and module names of the ops are known, and shown, where the tensor was computed inside
    ``with tg.trace():``.

    Args:
        tensor: a result of recorded ops whose graph has not been freed by ``backward``.
        leaves: draw parameters and other leaves too.

    Raises:
        GraphError: no Tensor is given, nothing was recorded, or the graph was freed.
    """
    if not isinstance(tensor, Tensor):
        raise GraphError(
            f"graph: expected a Tensor, such as the loss, got {type(tensor).__name__}."
        )
    root = tensor._node
    if root is None:
        raise GraphError(
            "graph: this tensor was not made by a recorded op. Compute it from tensors with "
            "requires_grad=True, outside no_grad()."
        )
    if not root.edges:
        raise GraphError(
            "graph: the graph was freed by backward(). Call graph() before it, or "
            "backward(retain_graph=True)."
        )
    boxes, edges = _collect(tensor, root, leaves)
    return Picture(_draw(boxes, edges))


def _collect(
    tensor: Tensor, made_by: Node, leaves: bool
) -> tuple[dict[int, _Box], list[tuple[int, int]]]:
    """Boxes by id of node or leaf, and edges from the made-from to the made."""
    shapes = _shapes_of_trace(tensor)
    root = _op_of(made_by)
    boxes = {id(root): _op_box(root, shapes, tensor.shape)}
    edges: list[tuple[int, int]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for edge in node.edges:
            if edge is None or (edge.is_leaf_edge and not leaves):
                continue
            source = edge if edge.is_leaf_edge else _op_of(edge)
            edges.append((id(source), id(node)))
            if id(source) in boxes:
                continue
            if source.is_leaf_edge:
                name = shapes.get(id(source), ("leaf", ""))[0]
                boxes[id(source)] = _Box(_last_two(name), str(source.shape), "leaf")
            else:
                boxes[id(source)] = _op_box(source, shapes)
                waiting.append(source)
    return boxes, edges


def _op_of(node: Node) -> Node:
    parent = node.parent if isinstance(node, Output) else None
    return node if parent is None else parent


def _op_box(
    node: Node, shapes: dict[int, tuple[str, str]], shape: tuple[int, ...] | None = None
) -> _Box:
    known = shapes.get(id(node), ("", "" if shape is None else str(shape)))
    subtitle = f"{_last_two(node.scope)} {known[1]}".strip()
    return _Box(node.name, subtitle, "op" if shape is None else "root")


def _last_two(path: str) -> str:
    """ "blocks.0.attention.qkv" -> "attention.qkv"; the whole would be too wide."""
    return ".".join(re.findall(r"[^.]+(?:\.\d+)*", path)[-2:])


def _shapes_of_trace(tensor: Tensor) -> dict[int, tuple[str, str]]:
    """id of node or leaf -> (name, shape), from the trace under which the tensor was made."""
    recorded = trace_of(tensor)
    if recorded is None:
        return {}
    found = {
        id(node): (record.name, " ".join(str(o.shape) for o in record.outputs))
        for node, record in recorded.alive()
    }
    found.update({id(leaf.tensor): (leaf.name, str(leaf.shape)) for leaf in recorded.leaves})
    return found


def _depths(boxes: dict[int, _Box], edges: list[tuple[int, int]]) -> dict[int, int]:
    """Rows: an op stands below all it is made from; a leaf right above its first user."""
    users: dict[int, list[int]] = {}
    for source, user in edges:
        users.setdefault(source, []).append(user)
    height: dict[int, int] = {}  # longest way down to the root
    order = [next(iter(boxes))]
    missing = {key: len(users.get(key, [])) for key in boxes}
    sources: dict[int, list[int]] = {}
    for source, user in edges:
        sources.setdefault(user, []).append(source)
    height[order[0]] = 0
    for node in order:
        for source in sources.get(node, []):
            height[source] = max(height.get(source, 0), height[node] + 1)
            missing[source] -= 1
            if not missing[source]:
                order.append(source)
    top = max(height.values())
    depth = {key: top - h for key, h in height.items()}
    for key, box in boxes.items():
        if box.kind == "leaf":
            depth[key] = min(depth[user] for user in users[key]) - 1
    return depth


def _draw(boxes: dict[int, _Box], edges: list[tuple[int, int]]) -> str:
    widths: dict[Place, float] = {key: box.width for key, box in boxes.items()}
    depth: dict[Place, int] = {key: d for key, d in _depths(boxes, edges).items()}
    layout = lay_out(depth, list(edges), widths)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width:.0f}" '
        f'height="{layout.height:.0f}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" '
        f'role="img" aria-label="graph of {len(boxes)} nodes"><style>{_STYLE}</style>'
        '<rect width="100%" height="100%" fill="#fff"/>'
    ]
    parts += [_route(route) for route in layout.routes]
    parts += [_box(boxes[key], *layout.place[key]) for key in boxes]
    return "".join([*parts, "</svg>"])


def _route(points: list[tuple[float, float]]) -> str:
    """A smooth curve from the lower edge of the first box to the upper edge of the last.

    At a bend it runs parallel to the line between the neighbouring points (Catmull-Rom).
    """
    (x0, y0), (xn, yn) = points[0], points[-1]
    p = [(x0, y0 + _BOX_HEIGHT / 2), *points[1:-1], (xn, yn - _BOX_HEIGHT / 2)]
    across = [0.0, *[(b[0] - a[0]) / 2 for a, b in zip(p, p[2:], strict=False)], 0.0]
    path = f"M{p[0][0]:.1f} {p[0][1]:.1f}"
    for i, ((x1, y1), (x2, y2)) in enumerate(zip(p, p[1:], strict=False)):
        third = (y2 - y1) / 3
        path += (
            f"C{x1 + across[i] / 3:.1f} {y1 + third:.1f},"
            f"{x2 - across[i + 1] / 3:.1f} {y2 - third:.1f},{x2:.1f} {y2:.1f}"
        )
    return f'<path d="{path}"/>'


def _box(box: _Box, x: float, y: float) -> str:
    title, subtitle = html.escape(box.title), html.escape(box.subtitle)
    low = f'<text class="small" x="{x:.1f}" y="{y + 12:.1f}">{subtitle}</text>' if subtitle else ""
    return (
        f'<g><rect class="{box.kind}" x="{x - box.width / 2:.1f}" y="{y - _BOX_HEIGHT / 2:.1f}" '
        f'width="{box.width:.1f}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text x="{x:.1f}" y="{y + (0 if subtitle else 4):.1f}">{title}</text>{low}</g>'
    )
