"""What the explorer's page needs to know about a traced step, as plain lists and dictionaries."""

from __future__ import annotations

import platform

import numpy as np

from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.trace import Trace
from tinygrad_llm.autograd.trace.records import Contribution, LeafRecord, OpRecord
from tinygrad_llm.explain.explorer.arrays import ArrayStore, Json
from tinygrad_llm.explain.explorer.attention import displayed_attention
from tinygrad_llm.explain.explorer.axes import AxisNames, name_axes
from tinygrad_llm.explain.explorer.shape_rules import Axes
from tinygrad_llm.explain.explorer.text import Decodes, find_text
from tinygrad_llm.explain.op.source import backward_source, forward_source
from tinygrad_llm.explain.typeset.docstring import docstring_html, formula_html, formula_in_use

# What an op is called in a textbook, where its own name says more than that.
PLAIN_NAMES = {
    "linear_cross_entropy": "cross-entropy",
    "cross_entropy": "cross-entropy",
    "attention_qkv": "attention",
    "scaled_dot_product_attention": "attention",
    "layer_norm": "layer norm",
    "add_layer_norm": "sum and layer norm",
    "gelu": "GELU",
    "mse_loss": "mean squared error",
}


def page_data(trace: Trace, title: str, max_bytes: int, tokenizer: Decodes | None = None) -> Json:
    """The whole content of the page. References to arrays are indices into ``"arrays"``."""
    arrays, axes = ArrayStore(), name_axes(trace)
    text = find_text(trace, axes)
    nodes = [_node(op, arrays, axes) for op in trace.ops]
    leaves = [_leaf(leaf, arrays, axes.leaves.get(leaf.index, ())) for leaf in trace.leaves]
    return {
        "title": title,
        "made_with": f"Python {platform.python_version()}, NumPy {np.__version__}",
        "peak_saved_bytes": trace.peak_saved_bytes,
        "plain": PLAIN_NAMES,
        "losses": [name for name, op in REGISTRY.items() if op.family == "loss"],
        "text": None if text is None else text.to_json(tokenizer),
        "ops": {name: _op(name) for name in {op.name for op in trace.ops}},
        "nodes": nodes,
        "leaves": leaves,
        "events": [[int(kind == "backward"), index] for kind, index in trace.events],
        "arrays": arrays.encode(max_bytes),
    }


def _op(name: str) -> dict[str, str]:
    """What holds for every call of an op."""
    op = REGISTRY.get(name)
    plain = PLAIN_NAMES.get(name, name)
    if op is None:
        empty = dict.fromkeys(("family", "formula", "doc", "forward", "backward"), "")
        return {"plain": plain, **empty}
    formula, _, rest = op.doc.partition("\n\n")
    return {
        "plain": plain,
        "family": op.family,
        "formula": formula_html(formula),
        "doc": docstring_html(rest),
        "forward": forward_source(op),
        "backward": backward_source(op),
    }


def _formula(record: OpRecord) -> str | None:
    """The formula of this call, where it is another than the op's first."""
    op = REGISTRY.get(record.name)
    formula = formula_in_use(op, record.options) if op else ""
    return None if op is None or op.doc.startswith(formula) else formula_html(formula)


def _node(op: OpRecord, arrays: ArrayStore, names: AxisNames) -> Json:
    values = op.values
    inputs, outputs = names.inputs[op.index], names.outputs[op.index]
    local = values.local if values else None
    return {
        "name": op.name,
        "scope": op.scope,
        "formula": _formula(op),
        "inputs": _inputs(op, arrays, inputs),
        "outputs": [
            arrays.add(y, a)
            for y, a in zip(values.outputs if values else [], outputs, strict=False)
        ],
        "dy": [
            arrays.add(dy, a) for dy, a in zip(values.dy if values else [], outputs, strict=False)
        ],
        "arrived": [_contribution(c, arrays, outputs[c.output]) for c in op.arrived],
        "attention": _attention(op, arrays),
        "local": None
        if local is None
        else {
            "elementwise": local.elementwise,
            "output": local.output,
            "element": list(local.element),
            "rows": [
                arrays.add(local.rows[i.position], a)
                for i, a in zip(op.inputs, inputs, strict=True)
            ],
        },
        "options": {k: _text(v) for k, v in op.options.items() if v is not None},
        "saved": [[list(a.shape), a.dtype, a.nbytes] for a in op.saved],
        "saved_bytes": op.saved_bytes,
        "us": [round(1e6 * op.seconds_forward, 1), round(1e6 * op.seconds_backward, 1)],
        "ran": op.ran,
    }


def _inputs(op: OpRecord, arrays: ArrayStore, names: list[Axes]) -> list[Json]:
    given = op.values.inputs if op.values else []
    sent = op.values.sent if op.values and op.values.sent else [None] * len(op.inputs)
    return [
        {
            "name": i.name,
            "source": i.source,
            "output": i.output,
            "leaf": i.leaf,
            "value": arrays.add(x, axes),
            "sent": arrays.add(dx, axes),
        }
        for i, x, dx, axes in zip(op.inputs, given, sent, names, strict=True)
    ]


def _attention(op: OpRecord, arrays: ArrayStore) -> Json | None:
    """The weights, and which of them a mask forces to 0."""
    shown = displayed_attention(op)
    if shown is None:
        return None
    weights, hidden = shown
    axes = ("batch", "head", "position", "position")
    return {"weights": arrays.add(weights, axes), "hidden": arrays.add(hidden, axes)}


def _leaf(leaf: LeafRecord, arrays: ArrayStore, axes: Axes) -> Json:
    gradient = _sum([c.gradient for c in leaf.arrived if c.gradient is not None])
    return {
        "name": leaf.name,
        "value": arrays.add(leaf.value, axes),
        "arrived": [_contribution(c, arrays, axes) for c in leaf.arrived],
        "gradient": arrays.add(gradient, axes),
    }


def _contribution(c: Contribution, arrays: ArrayStore, axes: Axes) -> Json:
    return {
        "source": c.source,
        "argument": c.argument,
        "output": c.output,
        "gradient": arrays.add(c.gradient, axes),
    }


def _sum(gradients: list[np.ndarray]) -> np.ndarray | None:
    return sum(gradients[1:], gradients[0]) if gradients else None


def _text(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
