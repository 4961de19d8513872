"""The Tensor: an array, its gradient, and the node that made it.

Operators and methods hold no mathematics. Each looks its op up by name in the registry, so that
``x.gelu()`` leads to ``ops/gelu.py`` and nowhere else.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd import engine
from tinygrad_llm.autograd.arrays import TensorLike, as_array, is_view_of
from tinygrad_llm.autograd.copies import Copies
from tinygrad_llm.autograd.in_place import InPlace
from tinygrad_llm.autograd.left_out import LEFT_OUT
from tinygrad_llm.autograd.registry import REGISTRY, TENSOR_NAMES
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.errors import GraphError, ShapeError, missing_name

if TYPE_CHECKING:
    from typing import Self

    from tinygrad_llm.autograd.engine import Node


class Tensor(InPlace, Copies):
    """An n-dimensional array that remembers how it was computed.

    Attributes:
        data: the numpy or cupy array.
        grad: None, or an array of the same shape: the sum of the gradients that reached this leaf.
        requires_grad: whether the backward pass computes a gradient here.
        gradient_sink: what an optimizer has to say about where ``grad`` lies, or None.
    """

    __slots__ = ()
    __array_priority__ = 1000  # numpy_array * tensor is left to Tensor.__rmul__
    __array_ufunc__ = None

    def __init__(
        self,
        data: TensorLike,
        dtype: DTypeLike | None = None,
        device: str | None = None,
        requires_grad: bool = False,
    ) -> None:
        self.data = as_array(data, dtype, device)
        self.grad = self.gradient_sink = self._node = self._hooks = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # ---- gradients --------------------------------------------------------------------------

    def backward(self, gradient: TensorLike | None = None, retain_graph: bool = False) -> None:
        """Compute the gradient of this tensor with respect to every leaf it depends on.

        Args:
            gradient: gradient with respect to this tensor, of its shape; may be left out for a
                scalar, where it is 1.
            retain_graph: keep the graph for another call.

        Raises:
            GraphError: nothing here requires a gradient, the tensor is not a scalar and no
                gradient is given, the graph was freed, or a saved array was overwritten.
            ShapeError: the gradient has another shape than the tensor.
            DTypeError: it is no number, array or list of numbers.
            GradientError: an op's backward returned a gradient of another shape, type or number
                than its arguments.
        """
        if not self.requires_grad:
            raise GraphError(
                "backward: this tensor does not depend on anything with requires_grad=True. "
                "Set it on the parameters, and do not compute the loss inside no_grad()."
            )
        dy = self._seed_gradient(gradient)
        if self._node is None:
            engine.reach_leaf(self, dy)
        else:
            engine.run_backward(self._node, dy, retain_graph)

    def _seed_gradient(self, gradient: TensorLike | None) -> Array:
        if gradient is None:
            if self.data.size != 1:
                raise GraphError(
                    f"backward: only a scalar has a gradient of 1; this tensor has shape "
                    f"{self.shape}. Reduce it with .sum() or .mean(), or pass gradient=."
                )
            return engine.ones_like(self.data.reshape(())).reshape(self.shape)
        dy = array_module(self.data).asarray(as_array(gradient, self.data.dtype))
        if dy.shape != self.shape:
            raise ShapeError(
                f"backward: gradient must have the tensor's shape {self.shape}, got {dy.shape}."
            )
        return dy

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient; with ``set_to_none=False`` one that is there is filled with 0."""
        if set_to_none or self.grad is None:
            self.grad = None
        else:
            self.grad.fill(0)

    def detach(self) -> Tensor:
        """The same array as a constant: no gradient flows through it."""
        return make_result(self.data, None)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad``; returns the tensor."""
        self.requires_grad = requires_grad
        return self

    if not TYPE_CHECKING:  # a type checker would take every name for one that is there

        def __getattr__(self, name):
            op = REGISTRY.get(name)
            if op is not None and op.method:
                return partial(op.function.apply, self)
            instead = LEFT_OUT if op is None else {name: f"tg.functional.{name}(x)", **LEFT_OUT}
            there = (known for known in dir(type(self)) if not known.startswith("_"))
            # A protocol is only asked for, and wants its answer at once.
            raise missing_name("Tensor", name, instead, () if name.startswith("_") else there)


TENSOR_NAMES.update(dir(Tensor))


def make_result(data: Array | np.generic, node: Node | None) -> Tensor:
    """A Tensor around a computed array, without the checks of the constructor."""
    out = Tensor.__new__(Tensor)
    out.data = np.asarray(data) if isinstance(data, np.generic) else data
    out.grad = out.gradient_sink = out._hooks = None
    out._node = node
    out._requires_grad = node is not None
    return out


def tensor_of(x: TensorLike) -> Tensor:
    """``x`` itself if it is a Tensor, otherwise a constant with these values."""
    return x if isinstance(x, Tensor) else Tensor(x)


def tensor(
    data: TensorLike,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Make a Tensor from numbers, nested lists, an array or another Tensor.

    Args:
        data: the values; they are copied. (``Tensor(array)`` shares the array's memory.)
        dtype: such as ``"float32"``; by default that of the array or of NumPy's numbers, and
            float32 for Python floats.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        requires_grad: whether ``backward`` computes a gradient here.

    Raises:
        DTypeError: not numbers, or an integer type together with ``requires_grad``.
        DeviceError: the device is unknown or absent.
    """
    out = Tensor(data, dtype, device, requires_grad)
    source = data.data if isinstance(data, Tensor) else data
    if out.data is source or is_view_of(out.data, source):
        out.data = out.data.copy()
    return out
