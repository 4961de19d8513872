"""What the explorer's page needs to know about a traced step, as plain lists and dictionaries."""

from __future__ import annotations

import platform

import numpy as np

from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.trace import Trace
from tinygrad_llm.autograd.trace.records import Contribution, LeafRecord, OpRecord
from tinygrad_llm.explain.explorer.arrays import ArrayStore, Json
from tinygrad_llm.explain.op.source import backward_source, forward_source


def page_data(trace: Trace, title: str, max_bytes: int) -> Json:
    """The whole content of the page. References to arrays are indices into ``"arrays"``."""
    arrays = ArrayStore()
    nodes = [_node(op, arrays) for op in trace.ops]
    leaves = [_leaf(leaf, arrays) for leaf in trace.leaves]
    return {
        "title": title,
        "made_with": f"Python {platform.python_version()}, NumPy {np.__version__}",
        "peak_saved_bytes": trace.peak_saved_bytes,
        "ops": {name: _op(name) for name in {op.name for op in trace.ops}},
        "nodes": nodes,
        "leaves": leaves,
        "events": [[int(kind == "backward"), index] for kind, index in trace.events],
        "arrays": arrays.encode(max_bytes),
    }


def _op(name: str) -> dict[str, str]:
    """What holds for every call of an op."""
    op = REGISTRY.get(name)
    if op is None:
        return {"family": "", "formula": "", "doc": "", "forward": "", "backward": ""}
    formula, _, rest = op.doc.partition("\n")
    return {
        "family": op.family,
        "formula": formula,
        "doc": rest.strip("\n"),
        "forward": forward_source(op),
        "backward": backward_source(op),
    }


def _node(op: OpRecord, arrays: ArrayStore) -> Json:
    values = op.values
    given = values.inputs if values else []
    sent = values.sent if values and values.sent else [None] * len(op.inputs)
    local = values.local if values else None
    return {
        "name": op.name,
        "scope": op.scope,
        "inputs": [
            {
                "name": i.name,
                "source": i.source,
                "output": i.output,
                "leaf": i.leaf,
                "value": arrays.add(x),
                "sent": arrays.add(dx),
            }
            for i, x, dx in zip(op.inputs, given, sent, strict=True)
        ],
        "outputs": [arrays.add(y) for y in (values.outputs if values else [])],
        "dy": [arrays.add(dy) for dy in (values.dy if values else [])],
        "arrived": [_contribution(c, arrays) for c in op.arrived],
        "local": None
        if local is None
        else {
            "elementwise": local.elementwise,
            "output": local.output,
            "element": list(local.element),
            "rows": [arrays.add(local.rows[i.position]) for i in op.inputs],
        },
        "options": {k: _text(v) for k, v in op.options.items() if v is not None},
        "saved": [[list(a.shape), a.dtype, a.nbytes] for a in op.saved],
        "saved_bytes": op.saved_bytes,
        "us": [round(1e6 * op.seconds_forward, 1), round(1e6 * op.seconds_backward, 1)],
        "ran": op.ran,
    }


def _leaf(leaf: LeafRecord, arrays: ArrayStore) -> Json:
    return {
        "name": leaf.name,
        "value": arrays.add(leaf.value),
        "arrived": [_contribution(c, arrays) for c in leaf.arrived],
        "gradient": arrays.add(_sum([c.gradient for c in leaf.arrived if c.gradient is not None])),
    }


def _contribution(c: Contribution, arrays: ArrayStore) -> Json:
    return {
        "source": c.source,
        "argument": c.argument,
        "output": c.output,
        "gradient": arrays.add(c.gradient),
    }


def _sum(gradients: list[np.ndarray]) -> np.ndarray | None:
    return sum(gradients[1:], gradients[0]) if gradients else None


def _text(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
