"""Copies of a Tensor: ``copy.deepcopy``, ``copy.copy`` and pickling.

A copy has values and a gradient of its own (a `Parameter` has no gradient then, as in PyTorch),
and no part in the graph, in the hooks or in the optimizer that holds the original. An optimizer
that is copied together with the model lays the copied parameters out anew (`optim.Optimizer`), so
that the pair trains as the original does.
"""

from __future__ import annotations

from typing import Any, SupportsIndex, TypeVar

from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import GraphError

T = TypeVar("T", bound=TensorBase)


class Copies(TensorBase):
    """Base of Tensor: how it is copied and pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        if self._node is not None:
            raise GraphError(
                f"copy: this tensor is a result of op {self._node.name!r}, and its graph is not "
                "copied. Copy x.detach(), the values alone."
            )
        parts = type(self), self.data, self.grad, self._requires_grad
        return rebuild, parts, getattr(self, "__dict__", None) or None


def rebuild(kind: type[T], data: Array, grad: Array | None, requires_grad: bool) -> T:
    """A leaf of class ``kind`` around the parts of another one."""
    out = kind.__new__(kind)
    out.data, out.grad, out._requires_grad = data, grad, requires_grad
    out.gradient_sink = out._node = out._hooks = None
    return out
