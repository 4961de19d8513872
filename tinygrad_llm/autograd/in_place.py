"""Writing into a Tensor: ``x[index] = value`` and ``x.copy_(value)``.

A write that no gradient depends on goes into the memory, where every view of it sees the new
values, and is logged (`versions`). A write that must be differentiated is an op like any other,
``setitem``: it makes a new array, and ``x`` is its result from then on. What was computed from the
old values, or is a view of them, keeps them and their gradients.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tinygrad_llm.autograd.arrays import plain_index, write_at
from tinygrad_llm.autograd.modes import state
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import GraphError


class InPlace:
    """Base of Tensor: everything that writes."""

    __slots__ = ()
    data: Array

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        needs_gradient = self.requires_grad or getattr(value, "requires_grad", False)
        if state.grad_enabled and needs_gradient and is_float(self.data.dtype):
            self._record_write(index, value)
        else:
            value = value.data if isinstance(value, InPlace) else value
            write_at(self.data, plain_index(index), value)
            note_write(self.data)

    def copy_(self: Any, value: Any) -> Any:
        """Overwrite all elements; returns the tensor.

        Raises:
            GraphError: this is a leaf that requires a gradient, or a view.
            ShapeError: the value does not fit.
        """
        self[...] = value
        return self

    def _record_write(self: Any, index: Any, value: Any) -> None:
        if self.requires_grad and self._node is None:
            raise GraphError(
                "assignment: this tensor is a leaf that requires a gradient; after the write it "
                "would be a result. Write inside `with tg.no_grad():`, or into a copy: x * 1."
            )
        if _is_view(self):
            raise GraphError(
                "assignment: this tensor shares the memory of another one, which would not learn "
                "where its new values come from. Write into that one, with one index: x[i, j] = v "
                "in place of x[i][j] = v; or into a copy, x * 1."
            )
        result = OPS["setitem"](self, value, index=index)
        self.data, self._node, self.requires_grad = result.data, result._node, True


def _is_view(x: InPlace) -> bool:
    """Whether somebody else holds the memory of which ``x.data`` is a part.

    The result of an op may be a view of an array that nobody else has: that is its own.
    """
    return getattr(x.data, "base", None) is not None and sys.getrefcount(x.data.base) > _ALONE


def _references_to_an_unshared_base() -> int:
    view = np.empty(1)[:]
    return sys.getrefcount(view.base)


_ALONE = _references_to_an_unshared_base()
