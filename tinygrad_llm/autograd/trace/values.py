"""The arrays of a traced step: what went in, what came out, which gradients arrived and left."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.backend import is_array, to_numpy


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
    rows: list[Any]


@dataclass
class Values:
    """NumPy copies of an op's arrays. Lists over inputs hold None where no gradient goes.

    Attributes:
        inputs, outputs: arguments and results.
        dy: the complete gradient of each result.
        sent: the gradient that went to each input.
        local: the op's own derivative, for registered ops.
    """

    inputs: list[Any]
    outputs: list[Any]
    dy: list[Any] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    local: LocalDerivative | None = None


class ValueRecorder:
    """Copies arrays as they pass by: the engine adds gradients in place, and buffers are reused."""

    def __init__(self) -> None:
        self._buffers: dict[int, np.ndarray] = {}

    def copy(self, x: Any) -> Any:
        """A NumPy copy of an array; None and scalars become what they are."""
        return np.array(to_numpy(x)) if is_array(x) or isinstance(x, np.generic) else x

    def forward(self, inputs: list[Any], outputs: tuple[Any, ...]) -> Values:
        """The values of a forward call."""
        return Values([self.copy(x) for x in inputs], [self.copy(y) for y in outputs])

    def before_backward(self, node: Any, dy: Any, values: Values | None) -> None:
        """Keep the arrived gradient, the local derivative, and what leaves hold by now."""
        if values is None:
            return
        arrived = list(dy) if node.n_outputs > 1 else [dy]
        values.dy = [self.copy(d) for d in arrived]
        values.local = self._local_derivative(node, dy)
        self._buffers = {}
        for position, edge in enumerate(node.edges):
            if edge is not None and edge.is_leaf_edge and edge.grad is not None:
                self._buffers[position] = self.copy(edge.grad)

    def after_backward(self, node: Any, grads: tuple[Any, ...]) -> list[Any]:
        """Copies of the gradients that the node sends out.

        An op may have added its share into a parameter's gradient buffer itself and have returned
        that buffer; its share is then what the buffer grew by.
        """
        sent = [self.copy(g) for g in grads]
        for position, before in self._buffers.items():
            if grads[position] is not None and grads[position] is node.edges[position].grad:
                sent[position] = sent[position] - before
        return sent

    def _local_derivative(self, node: Any, dy: Any) -> LocalDerivative | None:
        """Run the node's ``backward`` once more on a copy, with a gradient of ones or a unit one.

        Only for registered ops, whose ``backward`` does nothing but compute.
        """
        op = REGISTRY.get(node.name)
        if op is None or not issubclass(type(node), op.function):
            return None
        probe: Any = copy.copy(node)
        probe.saved = tuple(a.copy() if is_array(a) else a for a in node.saved)
        probe.edges = (None,) * len(node.edges)  # no parameter's buffer may be written to
        dys = list(dy) if node.n_outputs > 1 else [dy]
        output = max(k for k, d in enumerate(dys) if d is not None)
        if not dys[output].size:
            return None
        element = np.unravel_index(int(abs(dys[output]).argmax()), dys[output].shape)
        unit = node.xp.zeros_like(dys[output])
        unit[... if op.one_variable else element] = 1
        others = [None if d is None else node.xp.zeros_like(d) for d in dys]
        rows = _run_unobserved(probe, [*others[:output], unit, *others[output + 1 :]])
        place = tuple(int(i) for i in element)
        return LocalDerivative(op.one_variable, output, place, [self.copy(r) for r in rows])


def _run_unobserved(node: Any, dys: list[Any]) -> tuple[Any, ...]:
    """The node's ``backward``, which shall not itself appear in the trace."""
    observer, current.observer = current.observer, None
    try:
        rows = node.backward(*dys)
    finally:
        current.observer = observer
    return rows if type(rows) is tuple else (rows,)
