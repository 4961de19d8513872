"""Writing into a Tensor: ``x[index] = value``, ``p -= lr * p.grad``, ``x.zero_()``.

A write that no gradient depends on goes into the memory, where every view of it sees the new
values, and is logged (`versions`). A write that must be differentiated is an op like any other,
``setitem`` or that of the operator: it makes a new array, and ``x`` is its result from then on.
What was computed from the old values, or is a view of them, keeps them and their gradients.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tinygrad_llm.autograd.arrays import Index, TensorLike, plain_index, write_at
from tinygrad_llm.autograd.handles import Hooks, stop_keeping
from tinygrad_llm.autograd.methods import Conversion, Reductions, Selection, Shape
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array, ArrayLike, array_module, may_write
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import DTypeError, GraphError, ShapeError

if TYPE_CHECKING:
    from typing import Self

    from tinygrad_llm.autograd.tensor import Tensor

T = TypeVar("T", bound="InPlace")


def _operator(op: str) -> Callable[[T, TensorLike], T]:
    def in_place(self: T, other: TensorLike) -> T:
        return self._take_over(op, OPS[op](self, other))

    in_place.__doc__ = f"The result of {op!r} in place of the elements; returns the tensor."
    return in_place


class InPlace(Reductions, Shape, Selection, Conversion, Hooks):
    """Base of Tensor: everything that writes.

    All but the assignment return the tensor. All raise GraphError where the tensor is a leaf that
    requires a gradient, or a view, and the write would have to be differentiated.
    """

    __slots__ = ()

    def __setitem__(self, index: Index, value: TensorLike) -> None:
        needs_gradient = self.requires_grad or getattr(value, "requires_grad", False)
        if current.grad_enabled and needs_gradient and is_float(self.data.dtype):
            self._check_recordable()
            self._become(OPS["setitem"](self, value, index=index))
        else:
            value = value.data if isinstance(value, InPlace) else value
            self._write(plain_index(index), value)

    __iadd__ = _operator("add")
    __isub__ = _operator("subtract")
    __imul__ = mul_ = _operator("multiply")
    __itruediv__ = div_ = _operator("divide")
    __ipow__ = pow_ = _operator("power")
    __ifloordiv__ = _operator("floor_divide")
    __imod__ = _operator("remainder")
    __imatmul__ = _operator("matmul")
    __iand__ = _operator("bitwise_and")
    __ior__ = _operator("bitwise_or")
    __ixor__ = _operator("bitwise_xor")

    def add_(self, other: Tensor | Array | float, *, alpha: float = 1) -> Self:
        """Add ``alpha`` times ``other`` to the elements."""
        return self._take_over("add", self.add(other, alpha=alpha))

    def sub_(self, other: Tensor | Array | float, *, alpha: float = 1) -> Self:
        """Subtract ``alpha`` times ``other`` from the elements."""
        return self._take_over("subtract", self.sub(other, alpha=alpha))

    def copy_(self, value: TensorLike) -> Self:
        """Overwrite all elements.

        Raises:
            ShapeError: the value does not fit.
        """
        self[...] = value
        return self

    def fill_(self, value: float) -> Self:
        """Overwrite all elements with one number."""
        return self.copy_(value)

    def zero_(self) -> Self:
        """Overwrite all elements with 0."""
        return self.copy_(0)

    def masked_fill_(self, mask: TensorLike, value: float) -> Self:
        """Put ``value`` where the boolean ``mask`` is true."""
        return self._take_over("masked_fill", self.masked_fill(mask, value))

    def clamp_(self, min: float | None = None, max: float | None = None) -> Self:
        """Limit all elements to [min, max]."""
        return self._take_over("clip", self.clip(min, max))

    def normal_(
        self, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
    ) -> Self:
        """Overwrite all elements with Gaussian numbers."""
        drawn = (generator or default_generator()).normal(self.shape, std, self.dtype) + mean
        return self.copy_(array_module(self.data).asarray(drawn))

    def uniform_(
        self, low: float = 0.0, high: float = 1.0, generator: Generator | None = None
    ) -> Self:
        """Overwrite all elements with uniform numbers of [low, high)."""
        drawn = (generator or default_generator()).uniform(self.shape, low, high)
        return self.copy_(array_module(self.data).asarray(drawn))

    def _take_over(self, op: str, result: Tensor) -> Self:
        """Take the elements of an op's result on this tensor, and its place in the graph.

        Raises:
            ShapeError: the result has another shape.
            DTypeError: it is of a kind that this tensor's type cannot hold.
        """
        _check_fits(op, self, result)
        if result.requires_grad:
            self._check_recordable()
            self._become(result.astype(self.dtype))
        else:
            self._write(..., result.data)
        return self

    def _write(self, index: Index, value: ArrayLike) -> None:
        if not may_write(self.data):
            raise GraphError(
                f"assignment: several elements of this tensor of shape {self.shape} share one "
                "place in memory, or it is read-only. Write into a copy: x.clone()."
            )
        write_at(self.data, index, value)
        note_write(self.data)

    def _check_recordable(self) -> None:
        if self.requires_grad and self._node is None:
            raise GraphError(
                "assignment: this tensor is a leaf that requires a gradient; after the write it "
                "would be a result. Write inside `with tg.no_grad():`, or into a copy: x.clone()."
            )
        if _is_view(self):
            raise GraphError(
                "assignment: this tensor shares the memory of another one, which would not learn "
                "where its new values come from. Write into that one, with one index: x[i, j] = v "
                "in place of x[i][j] = v; or make a new one: x = x + y in place of x += y."
            )

    def _become(self, result: Tensor) -> None:
        """Be the result of a recorded op from now on, whose gradient is the one retained."""
        retained = stop_keeping(self._node, self)
        self.data = result.data
        self._node, self._requires_grad = result._node, True
        if retained:
            self.retain_grad()


def _check_fits(op: str, x: TensorBase, result: TensorBase) -> None:
    if result.shape != x.shape:
        raise ShapeError(
            f"in-place {op}: the result of shape {result.shape} does not fit into the tensor of "
            f"shape {x.shape}. Write x = x + y in place of x += y."
        )
    if _rank(result.dtype) > _rank(x.dtype):
        raise DTypeError(
            f"in-place {op}: a result of type {result.dtype} would be rounded into a tensor of "
            f"type {x.dtype}. Convert it first: x = x.astype({result.dtype.name!r})."
        )


def _rank(dtype: np.dtype) -> int:
    """Of bools, integers and floating-point numbers, each can hold those before it."""
    return 2 if is_float(dtype) else 1 if dtype.kind != "b" else 0


def _is_view(x: InPlace) -> bool:
    """Whether somebody else holds the memory of which ``x.data`` is a part.

    The result of an op may be a view of an array that nobody else has: that is its own.
    """
    return getattr(x.data, "base", None) is not None and sys.getrefcount(x.data.base) > _ALONE


def _references_to_an_unshared_base() -> int:
    view = np.empty(1)[:]
    return sys.getrefcount(view.base)


_ALONE = _references_to_an_unshared_base()
