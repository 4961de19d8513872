"""The operators of Tensor, and functions of each element: each one looks its op up by name.

What ``x * y`` or ``x.gelu()`` computes, and how it is differentiated, stands in the op's file
under ``ops/``. The methods that go along axes or move elements are in ``methods/``, what writes is
in ``in_place.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tinygrad_llm.autograd.description import Description
from tinygrad_llm.autograd.registry import OPS

if TYPE_CHECKING:
    from typing import Self

    from tinygrad_llm.autograd.arrays import Index, TensorLike
    from tinygrad_llm.autograd.tensor import Tensor
    from tinygrad_llm.backend import Array


class Operators(Description):
    """Base of Tensor: operators, comparisons, and functions of each element."""

    __slots__ = ()

    # ---- arithmetic: broadcasts like NumPy ---------------------------------------------------

    def __add__(self, other: TensorLike) -> Tensor:
        return OPS["add"](self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return OPS["add"](other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return OPS["subtract"](self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return OPS["subtract"](other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return OPS["multiply"](self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return OPS["multiply"](other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return OPS["divide"](self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return OPS["divide"](other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return OPS["power"](self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return OPS["power"](other, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return OPS["floor_divide"](self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return OPS["floor_divide"](other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return OPS["remainder"](self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return OPS["remainder"](other, self)

    def __divmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __matmul__(self, other: TensorLike) -> Tensor:
        return OPS["matmul"](self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return OPS["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return OPS["negative"](self)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)

    def __getitem__(self, index: Index) -> Tensor:
        return OPS["getitem"](self, index=index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    # The same by name.
    mul, div, pow = __mul__, __truediv__, __pow__
    matmul = mm = bmm = __matmul__
    neg = __neg__

    def add(self, other: Tensor | Array | float, *, alpha: float = 1) -> Tensor:
        """self + alpha other."""
        return OPS["add"](self, other if alpha == 1 else alpha * other)

    def sub(self, other: Tensor | Array | float, *, alpha: float = 1) -> Tensor:
        """self - alpha other."""
        return OPS["subtract"](self, other if alpha == 1 else alpha * other)

    # ---- booleans and integers, bit by bit: no gradient ---------------------------------------

    def __and__(self, other: TensorLike) -> Tensor:
        return OPS["bitwise_and"](self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return OPS["bitwise_or"](self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return OPS["bitwise_xor"](self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__  # either order is the same

    def __invert__(self) -> Tensor:
        return OPS["invert"](self)

    # ---- comparison: boolean results, no gradient --------------------------------------------

    def __lt__(self, other: TensorLike) -> Tensor:
        return OPS["less"](self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return OPS["less_equal"](self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return OPS["greater"](self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return OPS["greater_equal"](self, other)

    def __eq__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return OPS["equal"](self, other)

    def __ne__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return OPS["not_equal"](self, other)

    lt, le, gt, ge, eq, ne = __lt__, __le__, __gt__, __ge__, __eq__, __ne__

    def isnan(self) -> Tensor:
        """True where an element is not a number."""
        return OPS["isnan"](self)

    def isinf(self) -> Tensor:
        """True where an element is infinite."""
        return OPS["isinf"](self)

    def isfinite(self) -> Tensor:
        """True where an element is neither infinite nor not a number."""
        return OPS["isfinite"](self)

    __hash__ = object.__hash__  # by identity: == compares element by element

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

    def rsqrt(self) -> Tensor:
        """One divided by the square root."""
        return OPS["rsqrt"](self)

    def square(self) -> Tensor:
        """Each element times itself."""
        return OPS["multiply"](self, self)

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

    def erf(self) -> Tensor:
        """Gauss error function."""
        return OPS["erf"](self)

    def gelu(self, approximate: str = "tanh") -> Tensor:
        """Gaussian error linear unit; ``approximate`` is ``"tanh"`` (GPT-2) or ``"none"``."""
        return OPS["gelu"](self, approximate=approximate)

    def abs(self) -> Tensor:
        """Absolute value."""
        return OPS["abs"](self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        """Elements limited to [low, high]; no gradient passes where the limit acts."""
        return OPS["clip"](self, low=low, high=high)

    def clamp(self, min: float | None = None, max: float | None = None) -> Tensor:
        """`clip` with PyTorch's names."""
        return OPS["clip"](self, low=min, high=max)

    def floor(self) -> Tensor:
        """The next whole number below; no gradient."""
        return OPS["floor"](self)

    def ceil(self) -> Tensor:
        """The next whole number above; no gradient."""
        return OPS["ceil"](self)

    def round(self) -> Tensor:
        """The nearest whole number, of two the even one; no gradient."""
        return OPS["round"](self)

    def sign(self) -> Tensor:
        """-1, 0 or 1; no gradient."""
        return OPS["sign"](self)
