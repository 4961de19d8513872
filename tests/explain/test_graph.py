"""The drawing of a graph: all nodes and edges are there, nothing overlaps, and it is valid XML."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import GraphError
from tinygrad_llm.explain.graph.layout import lay_out

SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture):
    root = ElementTree.fromstring(str(picture))
    boxes = root.findall(f"{SVG}g/{SVG}rect")
    titles = [group.find(f"{SVG}text").text for group in root.findall(f"{SVG}g")]
    return root, boxes, titles


def overlapping(boxes):
    spans = [tuple(float(b.get(k)) for k in ("x", "y", "width", "height")) for b in boxes]
    return [
        (a, b)
        for i, a in enumerate(spans)
        for b in spans[:i]
        if a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
    ]


@pytest.mark.parametrize("given", [3, np.ones(2), None])
def test_what_is_no_tensor_is_refused_by_name(given):
    with pytest.raises(GraphError, match=f"expected a Tensor.*got {type(given).__name__}"):
        tg.graph(given)


def test_small_graph():
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    h = x * x
    loss = (h + h.tanh()).sum()
    root, boxes, titles = parsed(tg.graph(loss))
    assert sorted(titles) == ["add", "leaf", "multiply", "sum", "tanh"]
    assert len(root.findall(f"{SVG}path")) == 6
    assert not overlapping(boxes)
    assert titles.index("sum") == 0, "the root is drawn first, in its own color"
    assert boxes[0].get("class") == "root"


def test_a_gpt(step):
    with tg.trace() as t:
        loss = step.model.loss(step.ids, step.targets)
    t.name_leaves(step.model)
    _, boxes, titles = parsed(tg.graph(loss))
    assert len(boxes) == len(t.ops) + len(t.leaves)
    assert "qkv.weight" in titles
    assert not overlapping(boxes)
    _, few, _ = parsed(tg.graph(loss, leaves=False))
    assert len(few) == len(t.ops)


def test_ops_stand_below_what_they_are_made_from():
    depth = {"a": 0, "b": 1, "c": 2, "d": 3}
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]
    layout = lay_out(depth, edges, dict.fromkeys(depth, 50.0))
    for above, below in edges:
        assert layout.place[above][1] < layout.place[below][1]
    long = layout.routes[3]
    assert len(long) == 4, "the long edge has a bend in each row that it passes"
    for x, y in long[1:-1]:
        for px, py in layout.place.values():
            assert py != y or abs(px - x) > 25, "and goes around the boxes"


def test_save_and_show(tmp_path):
    picture = tg.graph(tg.tensor([1.0], requires_grad=True).exp())
    path = picture.save(tmp_path / "g.svg")
    assert path.read_text(encoding="utf-8") == picture._repr_svg_()


def test_errors():
    x = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="not made by a recorded op"):
        tg.graph(x)
    loss = x.exp()
    loss.backward()
    with pytest.raises(GraphError, match="freed"):
        tg.graph(loss)
