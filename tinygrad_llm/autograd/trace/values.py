"""The arrays of a traced step: what went in, what came out, which gradients arrived and left."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.returned import one_per_argument
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import Array, is_array, to_numpy

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Arrived, Gradients, Node

Copy = np.ndarray | None  # what passed by, as a NumPy array of its own; None where nothing did


@dataclass
class LocalDerivative:
    """What the op alone does to a gradient, apart from the gradient that arrived.

    Attributes:
        elementwise: True for a function of each element: ``rows[0]`` is then f'(x).
        output, element: otherwise which element of which result is differentiated: that of the
            last result with the largest gradient.
        rows: for each input, the derivative of that element with respect to all of the input.
    """

    elementwise: bool
    output: int
    element: tuple[int, ...]
    rows: list[Copy]


@dataclass
class Values:
    """NumPy copies of an op's arrays. Lists over inputs hold None where no gradient goes.

    Attributes:
        inputs, outputs: arguments and results.
        dy: the complete gradient of each result.
        sent: the gradient that went to each input.
        local: the op's own derivative, for registered ops.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    dy: list[Copy] = field(default_factory=list)
    sent: list[Copy] = field(default_factory=list)
    local: LocalDerivative | None = None


class ValueRecorder:
    """Copies arrays as they pass by: the engine adds gradients in place, and buffers are reused."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[TensorBase, np.ndarray]] = {}  # by argument

    def copy(self, x: Array | np.generic | None) -> Copy:
        """A NumPy copy of an array, or None."""
        return None if x is None else np.array(to_numpy(x))

    def forward(self, inputs: list[Array], outputs: tuple[Array, ...]) -> Values:
        """The values of a forward call."""
        return Values(
            [np.array(to_numpy(x)) for x in inputs], [np.array(to_numpy(y)) for y in outputs]
        )

    def before_backward(self, node: Node, dy: Arrived, values: Values | None) -> None:
        """Keep the arrived gradient, the local derivative, and what leaves hold by now."""
        if values is None:
            return
        values.dy = [self.copy(d) for d in (dy if isinstance(dy, list) else [dy])]
        values.local = self._local_derivative(node, dy)
        self._held = {}
        for position, edge in enumerate(node.edges):
            if isinstance(edge, TensorBase) and edge.grad is not None:
                self._held[position] = edge, np.array(to_numpy(edge.grad))

    def after_backward(self, node: Node, grads: Gradients) -> list[Copy]:
        """Copies of the gradients that the node sends out.

        An op may have added its share to a parameter's gradient itself and have returned that
        array; its share is then what the gradient grew by.
        """
        sent = [self.copy(g) for g in grads]
        for position, (leaf, before) in self._held.items():
            grad = grads[position]
            if grad is not None and grad is leaf.grad:
                sent[position] = to_numpy(grad) - before
        return sent

    def _local_derivative(self, node: Node, dy: Arrived) -> LocalDerivative | None:
        """Run the node's ``backward`` once more on a copy, with a gradient of ones or a unit one.

        Only for registered ops, whose ``backward`` does nothing but compute.
        """
        op = REGISTRY.get(node.name)
        if op is None or not isinstance(node, op.function):
            return None
        probe = copy.copy(node)
        probe.saved = tuple(a.copy() if is_array(a) else a for a in node.saved)
        probe.edges = (None,) * len(node.edges)  # no parameter's buffer may be written to
        dys = dy if isinstance(dy, list) else [dy]
        output, arrived = [(k, d) for k, d in enumerate(dys) if d is not None][-1]
        if not arrived.size:
            return None
        element = np.unravel_index(int(abs(arrived).argmax()), arrived.shape)
        unit = node.xp.zeros_like(arrived)
        unit[... if op.one_variable else element] = 1
        others = [None if d is None else node.xp.zeros_like(d) for d in dys]
        rows = _run_unobserved(probe, [*others[:output], unit, *others[output + 1 :]])
        place = tuple(int(i) for i in element)
        return LocalDerivative(op.one_variable, output, place, [self.copy(r) for r in rows])


def _run_unobserved(node: Node, dys: list[Array | None]) -> Gradients:
    """The node's ``backward``, which shall not itself appear in the trace."""
    observer, current.observer = current.observer, None
    try:
        rows = node.backward(*dys)
    finally:
        current.observer = observer
    return one_per_argument(node, rows)
