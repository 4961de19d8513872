"""What the axes of a step's arrays are: batch, head, position, channel, vocabulary.

The names follow the ops, from the embedding on. Each op has a rule that says what it does to axes;
where no rule says anything, or a shape contradicts it, an axis has no name (``""``) and the page
calls it by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinygrad_llm.autograd.trace import Trace
from tinygrad_llm.autograd.trace.records import OpRecord
from tinygrad_llm.explain.explorer.shape_rules import SHAPE_RULES, Axes, aligned, ending, unknown

ROWS = "batch × position"  # the two in one axis


@dataclass
class Call:
    """One op: its arrays' shapes, what is known of their axes, and what a rule adds."""

    op: OpRecord
    given: list[Axes]
    results: list[Axes] = field(default_factory=list)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the inputs."""
        return [i.shape for i in self.op.inputs]

    def name(self, argument: str, axes: Axes) -> None:
        """Name the axes of an input, where there is such an input with as many axes."""
        for k, i in enumerate(self.op.inputs):
            if i.name == argument and len(i.shape) == len(axes):
                self.given[k] = axes


@dataclass
class AxisNames:
    """The names, one tuple per array: by op and place, and by leaf."""

    inputs: list[list[Axes]] = field(default_factory=list)
    outputs: list[list[Axes]] = field(default_factory=list)
    leaves: dict[int, Axes] = field(default_factory=dict)


def name_axes(trace: Trace) -> AxisNames:
    """The axes of every array of a trace that keeps values."""
    names = AxisNames()
    for op in trace.ops:
        call = Call(op, [_known(names, i.source, i.output, i.leaf, i.shape) for i in op.inputs])
        rule = RULES.get(op.name)
        if rule:
            rule(call)
        shapes = [o.shape for o in op.outputs]
        found = call.results if call.results else _by_shape(call, shapes)
        found = [a if len(a) == len(s) else unknown(s) for a, s in zip(found, shapes, strict=True)]
        names.inputs.append(call.given)
        names.outputs.append(found)
        for i, axes in zip(op.inputs, call.given, strict=True):
            if i.leaf is not None and any(axes):
                names.leaves.setdefault(i.leaf, axes)
    return names


def _known(
    names: AxisNames, source: int | None, output: int, leaf: int | None, shape: tuple[int, ...]
) -> Axes:
    if source is not None:
        axes = names.outputs[source][output]
    else:
        axes = names.leaves.get(-1 if leaf is None else leaf, ())
    return axes if len(axes) == len(shape) else unknown(shape)


def _by_shape(call: Call, shapes: Sequence[tuple[int, ...]]) -> list[Axes]:
    """What moves axes says how; of other ops the results have the axes that broadcasting gives."""
    move = SHAPE_RULES.get(call.op.name)
    if move and call.given:
        return [move(call.op, call.given[0], shape) for shape in shapes]
    found = [aligned(call.given, call.shapes, shape) for shape in shapes]
    for k, shape in enumerate(call.shapes):
        if found and not any(call.given[k]):  # a weight or bias beside an array that is known
            call.given[k] = ending(found[0], shapes[0], shape)
    return found


# ---- what the ops of a GPT say about their arguments ---------------------------------------------


def _embedding(call: Call) -> None:
    values = call.op.values
    ids = values.inputs[0] if values else np.zeros(0)
    over = "position" if ids.ndim == 1 else "vocabulary"
    before = {1: ("position",), 2: ("batch", "position")}.get(ids.ndim)
    if before is None or (ids.ndim == 1 and not np.array_equal(ids, np.arange(len(ids)))):
        before, over = unknown(ids.shape), "vocabulary"
    call.name("ids", before)
    call.name("weight", (over, "channel"))
    call.results = [(*before, "channel")]


def _linear(call: Call) -> None:
    call.name("weight", ("output channel", "input channel"))
    call.name("bias", ("channel",))
    call.results = [(*call.given[0][:-1], "channel")]


def _layer_norm(call: Call) -> None:
    for argument in ("weight", "bias"):
        call.name(argument, call.given[0][-1:])


def _linear_cross_entropy(call: Call) -> None:
    call.name("weight", ("vocabulary", "channel"))
    call.name("bias", ("vocabulary",))
    call.name("targets", call.given[0][:-1])


def _cross_entropy(call: Call) -> None:
    call.given[0] = (*call.given[0][:-1], "vocabulary")
    call.name("targets", call.given[0][:-1])


def _attention(call: Call) -> None:
    for argument in ("q", "k", "v"):
        call.name(argument, ("batch", "head", "position", "channel"))
    call.results = [call.given[0]]


def _matmul(call: Call) -> None:
    a, b = call.given
    if len(a) < 2 or len(b) < 2:
        return
    if call.op.scope.rpartition(".")[2] == "embedding" and call.op.inputs[0].source is None:
        a, b = _one_hot_lookup(call)
    call.results = [(*a[:-1], b[-1].removeprefix("output "))]


def _one_hot_lookup(call: Call) -> tuple[Axes, Axes]:
    """An embedding in small ops: rows of ones and zeros times the table."""
    values = call.op.values
    one_hot = values.inputs[0] if values else np.zeros((0, 0))
    in_order = np.array_equal(one_hot, np.eye(*one_hot.shape))
    over, row = ("position", "position") if in_order else ("vocabulary", ROWS)
    call.given[:] = [(row, over), (over, "channel")]
    return call.given[0], call.given[1]


def _transpose(call: Call) -> None:
    if call.op.scope.rpartition(".")[2] == "linear" and call.op.inputs[0].leaf is not None:
        call.name("x", ("output channel", "input channel"))


RULES: dict[str, Callable[[Call], None]] = {
    "embedding": _embedding,
    "linear": _linear,
    "layer_norm": _layer_norm,
    "add_layer_norm": _layer_norm,
    "linear_cross_entropy": _linear_cross_entropy,
    "cross_entropy": _cross_entropy,
    "scaled_dot_product_attention": _attention,
    "attention_qkv": _attention,
    "matmul": _matmul,
    "transpose": _transpose,
}
