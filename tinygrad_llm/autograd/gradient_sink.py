"""Where the gradient of a leaf goes, and who may write it there.

The gradient of a leaf is ``leaf.grad``, usually an array of its own. An optimizer keeps the
gradients of all its parameters in one flat array, and a `GradientSink` at each parameter says which
part of that array is the parameter's place:

    flat gradient       [ wte .......... | wpe .. | qkv.weight ...... | ... ]
    GradientSink.array                     ^^^^^^

1. The engine adds each gradient that arrives to ``leaf.grad`` (`accumulate`). The first one of a
   pass is written to the parameter's place, so the optimizer need not gather anything.
2. An op may write its gradient to the place itself (`target`), and then returns that very array.
3. ``arrived`` is called after each addition: sums over several processes begin there.

The place is written only while no one else holds it. After ``g = p.grad; p.zero_grad()`` the next
pass must not change ``g``: if ``g`` still exists, its holder keeps the memory, and the optimizer
takes a new flat array (`optim.flat.FlatBuffer.leave_gradients`). Python counts references, so the
test is one comparison. (PyTorch decides in the same way whether a leaf may keep an array.)

The same test keeps two ops from one place: ``linear_cross_entropy`` writes the gradient of its
weight in the forward pass already, and holds the array until its ``backward``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.backend import Array, may_write

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Edge
    from tinygrad_llm.autograd.tensor_base import TensorBase


class Counted:
    """An array, with the number of references to it that are known.

    Attributes:
        array: for a flat gradient, the owner of the memory: views of it count as references.
        known: references that are the optimizer's own.
    """

    __slots__ = ("array", "known")

    def __init__(self, array: Array) -> None:
        self.array, self.known = array, 0

    def settle(self) -> None:
        """From now on the references there are at present are the known ones."""
        self.known = getrefcount(self.array)


class GradientSink:
    """Where the gradient of one parameter is to lie.

    Args:
        array: the place, of the parameter's shape.
        flat: the array that ``array`` is a part of; None where it stands alone.

    Attributes:
        arrived: called with the parameter after each contribution to its gradient, or None.
    """

    __slots__ = ("array", "flat", "arrived")

    def __init__(self, array: Array, flat: Counted | None = None) -> None:
        self.array, self.flat = array, flat
        self.arrived: Callable[[TensorBase], None] | None = None

    @property
    def dtype(self) -> np.dtype:
        """Type in which the gradients are summed; float32 for a parameter of 16 bits."""
        return self.array.dtype

    def is_free(self) -> bool:
        """Whether nobody else holds the array or a part of it.

        The answer is about a place that is not a parameter's ``grad`` at present.
        """
        if getrefcount(self.array) > _ALONE:
            return False
        return self.flat is None or getrefcount(self.flat.array) <= self.flat.known


def _references_to_a_free_array() -> int:
    sink = GradientSink(np.empty(0))
    return getrefcount(sink.array)


_ALONE = _references_to_a_free_array()


# ---- for the engine ------------------------------------------------------------------------------


def accumulate(leaf: TensorBase, grad: Array, fresh: bool) -> None:
    """Add ``grad`` to ``leaf.grad``. ``fresh`` says that no one else holds the array ``grad``."""
    sink = leaf.gradient_sink
    if leaf.grad is not None:
        if grad is not leaf.grad:  # an op may have added it there itself
            leaf.grad += grad
    elif sink is not None and (grad is sink.array or sink.is_free()):
        if grad is not sink.array:
            sink.array[...] = grad
        leaf.grad = sink.array
    else:
        leaf.grad = _own_array(grad, fresh, (leaf.data if sink is None else sink).dtype)
    if sink is not None and sink.arrived is not None:
        sink.arrived(leaf)


def _own_array(grad: Array, fresh: bool, dtype: np.dtype) -> Array:
    if isinstance(grad, np.generic):  # NumPy's product of arrays without axes
        return np.asarray(grad, dtype)
    return grad if fresh and may_write(grad) and grad.dtype == dtype else grad.astype(dtype)


# ---- for the ops, which ask by the methods of `Function` of similar names ------------------------


def target(edges: Sequence[Edge], index: int) -> tuple[Array | None, bool]:
    """Where an op may put the gradient that goes along ``edges[index]``: see `gradient_target`."""
    found = _parameter(edges, index)
    if found is None:
        return None, False
    leaf, sink = found
    if leaf.grad is None:
        return (sink.array if sink.is_free() else None), False
    return (leaf.grad, True) if leaf.grad is sink.array else (None, False)


def empty_target(edges: Sequence[Edge], index: int) -> Array | None:
    """`target` where there is nothing yet to add to, otherwise None."""
    array, add = target(edges, index)
    return None if add else array


def early_target(edges: Sequence[Edge], index: int, dtype: np.dtype | str) -> Array | None:
    """`empty_target` if it is of type ``dtype``, otherwise None."""
    array = empty_target(edges, index)
    return None if array is None or array.dtype != dtype else array


def summed_dtype(edges: Sequence[Edge], index: int) -> np.dtype | None:
    """Type in which an optimizer sums the gradient that goes there; None without an optimizer."""
    found = _parameter(edges, index)
    if found is None:
        return None
    leaf, sink = found
    return (sink if leaf.grad is None else leaf.grad).dtype


def _parameter(edges: Sequence[Edge], index: int) -> tuple[TensorBase, GradientSink] | None:
    """The parameter at the end of an edge, if it has a sink to which this op alone adds."""
    leaf = edges[index] if index < len(edges) else None
    if leaf is None or not leaf.is_leaf_edge or leaf._hooks is not None:
        return None
    if leaf.gradient_sink is None or sum(edge is leaf for edge in edges) > 1:
        return None
    return leaf, leaf.gradient_sink
