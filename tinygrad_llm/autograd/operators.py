"""The operators and methods of Tensor that are ops: each one looks its op up by name.

What ``x * y`` or ``x.softmax()`` computes, and how it is differentiated, stands in the file of
that name under ``ops/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.errors import ShapeError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor

Axis = int | tuple[int, ...] | None


class Operators:
    """Base of Tensor: everything that is an op."""

    __slots__ = ()

    # ---- arithmetic: broadcasts like NumPy ---------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return OPS["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return OPS["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return OPS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return OPS["subtract"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return OPS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return OPS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return OPS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return OPS["divide"](other, self)

    def __pow__(self, other: Any) -> Tensor:
        return OPS["power"](self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return OPS["power"](other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return OPS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return OPS["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return OPS["negative"](self)

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)

    def __getitem__(self, index: Any) -> Tensor:
        return OPS["getitem"](self, index=index)

    # ---- comparison: boolean results, no gradient --------------------------------------------

    def __lt__(self, other: Any) -> Tensor:
        return OPS["less"](self, other)

    def __le__(self, other: Any) -> Tensor:
        return OPS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Tensor:
        return OPS["greater"](self, other)

    def __ge__(self, other: Any) -> Tensor:
        return OPS["greater_equal"](self, other)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return OPS["equal"](self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return OPS["not_equal"](self, other)

    __hash__ = object.__hash__  # by identity: == compares element by element

    # ---- reductions --------------------------------------------------------------------------

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over ``axis``: one, several, or all axes."""
        return OPS["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Arithmetic mean over ``axis``."""
        return OPS["mean"](self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Tensor:
        """Variance over ``axis``; divides by n - ``correction``, as PyTorch does."""
        return OPS["var"](self, axis=axis, keepdims=keepdims, correction=correction)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Largest element over ``axis``; equal largest ones share the gradient."""
        return OPS["max"](self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Smallest element over ``axis``; equal smallest ones share the gradient."""
        return OPS["min"](self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Index of the largest element; no gradient."""
        return OPS["argmax"](self, axis=axis, keepdims=keepdims)

    # ---- functions of each element -----------------------------------------------------------

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return OPS["exp"](self)

    def log(self) -> Tensor:
        """Natural logarithm."""
        return OPS["log"](self)

    def sqrt(self) -> Tensor:
        """Square root."""
        return OPS["sqrt"](self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return OPS["tanh"](self)

    def sin(self) -> Tensor:
        """Sine."""
        return OPS["sin"](self)

    def cos(self) -> Tensor:
        """Cosine."""
        return OPS["cos"](self)

    def sigmoid(self) -> Tensor:
        """Logistic function, 1 / (1 + e^-x)."""
        return OPS["sigmoid"](self)

    def relu(self) -> Tensor:
        """max(x, 0)."""
        return OPS["relu"](self)

    def gelu(self, approximate: str = "tanh") -> Tensor:
        """Gaussian error linear unit; ``approximate`` is ``"tanh"`` (GPT-2) or ``"none"``."""
        return OPS["gelu"](self, approximate=approximate)

    def abs(self) -> Tensor:
        """Absolute value."""
        return OPS["abs"](self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        """Elements limited to [low, high]; no gradient passes where the limit acts."""
        return OPS["clip"](self, low=low, high=high)

    # ---- functions of rows -------------------------------------------------------------------

    def softmax(self, axis: int = -1) -> Tensor:
        """Probabilities along ``axis``."""
        return OPS["softmax"](self, axis=axis)

    def log_softmax(self, axis: int = -1) -> Tensor:
        """Logarithms of the probabilities along ``axis``."""
        return OPS["log_softmax"](self, axis=axis)

    # ---- shape -------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one length may be -1."""
        return OPS["reshape"](self, shape=_flat(shape))

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in the order given (a permutation, as in NumPy); without any, reversed."""
        return OPS["transpose"](self, axes=_flat(axes) or None)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return OPS["swapaxes"](self, axis1=axis1, axis2=axis2)

    def broadcast_to(self, *shape: Any) -> Tensor:
        """Repeated, without a copy, to a larger shape."""
        return OPS["broadcast_to"](self, shape=_flat(shape))

    def masked_fill(self, mask: Any, value: float) -> Tensor:
        """``value`` where the boolean ``mask`` is true, the elements elsewhere."""
        return OPS["masked_fill"](self, mask=mask, value=value)

    def split(self, sections: int, axis: int = -1) -> tuple[Tensor, ...]:
        """Equal parts along ``axis``."""
        return OPS["split"](self, sections=sections, axis=axis)

    def flatten(self) -> Tensor:
        """All elements along one axis."""
        return self.reshape(-1)

    def unsqueeze(self, axis: int) -> Tensor:
        """A new axis of length 1 at ``axis``."""
        shape = list(self.shape)  # type: ignore[attr-defined]
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        return self.reshape(*shape)

    def squeeze(self, axis: int) -> Tensor:
        """Without the axis ``axis``, whose length must be 1."""
        shape = list(self.shape)  # type: ignore[attr-defined]
        if shape[axis] != 1:
            raise ShapeError(f"squeeze: axis {axis} of shape {tuple(shape)} has not length 1.")
        del shape[axis]
        return self.reshape(*shape)

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        return OPS["transpose"](self, axes=None)


def _flat(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)):
        return tuple(numbers[0])
    return numbers
