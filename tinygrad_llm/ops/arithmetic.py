"""Sums, products, quotients and powers of two operands, element by element, with broadcasting.

In all of them an operand that was repeated to fit the other gets the sum of the gradients of its
copies (`unbroadcast`). A Python number is a constant and gets none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinygrad_llm.autograd import Function, register, sample, true_gradient
from tinygrad_llm.backend import Array, threads, to_numpy
from tinygrad_llm.backend.compute import elementwise
from tinygrad_llm.backend.dtypes import FLOAT32
from tinygrad_llm.backend.promotion import agree, converted, fractional_dtype, result_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import broadcast_error, unbroadcast


def pairs(rng: np.random.Generator) -> list[Any]:
    """Sample operands: equal shapes, unequal ranks, a repeated axis, a scalar, a constant."""
    a = rng.uniform(0.5, 2.0, (2, 3, 4))
    return [
        sample(a, rng.uniform(0.5, 2.0, (2, 3, 4))),
        sample(a, rng.uniform(0.5, 2.0, (4,)), label="unequal ranks"),
        sample(rng.uniform(0.5, 2.0, (1, 4)), a, label="repeated axis"),
        sample(a, rng.uniform(0.5, 2.0, ()), label="scalar tensor"),
        sample(a, 1.5, label="constant"),
    ]


def one_copy_only(ctx: Any, dy: Array) -> Any:
    """Mistake: a repeated operand gets the gradient of one copy instead of the sum of all."""
    grads = true_gradient(ctx, dy)
    return tuple(g if g is None else g * g.size / dy.size for g in grads)


class Elementwise(Function):
    """Base of the two-operand ops: types (`backend.promotion`), and shapes for `unbroadcast`."""

    dtype_of_result: ClassVar[Callable[..., Any]] = staticmethod(result_dtype)

    def compute(self, ufunc: Callable[..., Array], a: Any, b: Any) -> Array:
        """``ufunc(a, b)`` of the type that both together have.

        Raises:
            ShapeError: the shapes do not fit.
            DTypeError: the op does not take such a type.
        """
        if self.requires_grad:
            if self.needs[0]:
                self.a_like = a.shape, a.dtype
            if self.needs[1]:
                self.b_like = b.shape, b.dtype
        try:
            if type(a) is type(b) and a.dtype is b.dtype is FLOAT32:
                large = a.size >= threads.WORTH_SHARING
                return elementwise(ufunc, a, b) if large else ufunc(a, b)
            if agree(a, b):
                return ufunc(a, b)
            dtype = self.dtype_of_result(a, b)
            return elementwise(ufunc, *converted(a, b, dtype)).astype(dtype, copy=False)
        except ValueError as error:
            raise broadcast_error(self.name, a, b) from error
        except (TypeError, OverflowError) as error:
            raise DTypeError(f"{self.name}: {str(error).rstrip('.')}.") from error


def number_dtype(a: Any, b: Any) -> np.dtype:
    """`result_dtype` for ops that do not take two bools."""
    dtype = result_dtype(a, b)
    if dtype.kind == "b":
        raise DTypeError("expected numbers, got bools. Use .astype('int64') or .astype('float32').")
    return dtype


@register("add", family="arithmetic", samples=pairs, wrong={"one copy only": one_copy_only})
class Add(Elementwise):
    """y = a + b

    dy/da = 1 and dy/db = 1, so the gradient passes unchanged to both:

        da = dy          db = dy

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Any, b: Any) -> Array:
        return ctx.compute(ctx.xp.add, a, b)

    def backward(ctx, dy: Array) -> Any:
        da = unbroadcast(dy, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(dy, *ctx.b_like) if ctx.needs[1] else None
        return da, db


def _wrong_sign(ctx: Any, dy: Array) -> Any:
    da, db = true_gradient(ctx, dy)
    return da if da is None or db is not None else -da, None if db is None else -db


@register("subtract", family="arithmetic", samples=pairs, wrong={"sign": _wrong_sign})
class Subtract(Elementwise):
    """y = a - b

    dy/da = 1 and dy/db = -1:

        da = dy          db = -dy

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(number_dtype)

    def forward(ctx, a: Any, b: Any) -> Array:
        return ctx.compute(ctx.xp.subtract, a, b)

    def backward(ctx, dy: Array) -> Any:
        da = unbroadcast(dy, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(-dy, *ctx.b_like) if ctx.needs[1] else None
        return da, db


def _not_exchanged(ctx: Any, dy: Array) -> Any:
    """Mistake: an operand's gradient is scaled by the operand itself."""
    if not all(ctx.needs):
        return true_gradient(ctx, dy)
    b, a = ctx.saved
    return unbroadcast(dy * a, *ctx.a_like), unbroadcast(dy * b, *ctx.b_like)


@register(
    "multiply",
    family="arithmetic",
    samples=pairs,
    wrong={"one copy only": one_copy_only, "operands not exchanged": _not_exchanged},
)
class Multiply(Elementwise):
    """y = a b

    dy/da = b and dy/db = a: each operand's gradient is scaled by the *other* operand.

        da = dy b          db = dy a

    So next to a constant an operand need not be kept.

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Any, b: Any) -> Array:
        if ctx.requires_grad:
            ctx.save(b if ctx.needs[0] else None, a if ctx.needs[1] else None)
        return ctx.compute(ctx.xp.multiply, a, b)

    def backward(ctx, dy: Array) -> Any:
        b, a = ctx.saved
        da = unbroadcast(dy * b, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(dy * a, *ctx.b_like) if ctx.needs[1] else None
        return da, db


def _without_square(ctx: Any, dy: Array) -> Any:
    a, b = ctx.saved
    da = unbroadcast(dy / b, *ctx.a_like) if ctx.needs[0] and ctx.needs[1] else None
    if not ctx.needs[1]:
        return unbroadcast(dy * b, *ctx.a_like), None
    return da, unbroadcast(-dy * a / b, *ctx.b_like)


@register("divide", family="arithmetic", samples=pairs, wrong={"b not squared": _without_square})
class Divide(Elementwise):
    """y = a / b

    dy/da = 1 / b and dy/db = -a / b^2:

        da = dy / b          db = -dy a / b^2 = -dy (a / b) / b

    The last form has no b^2, which can be infinite or 0 where the gradient is neither.
    Integers divided by integers give float32.

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(fractional_dtype)

    def forward(ctx, a: Any, b: Any) -> Array:
        if ctx.requires_grad:
            ctx.save(a if ctx.needs[1] else None, b)
        return ctx.compute(ctx.xp.true_divide, a, b)

    def backward(ctx, dy: Array) -> Any:
        a, b = ctx.saved
        da = unbroadcast(dy / b, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(-dy * (a / b) / b, *ctx.b_like) if ctx.needs[1] else None
        return da, db


def _power_dtype(a: Any, b: Any) -> np.dtype:
    """`number_dtype`; a DTypeError for powers that integers do not have."""
    dtype = number_dtype(a, b)
    if dtype.kind in "iu" and (to_numpy(b) < 0 if hasattr(b, "dtype") else np.less(b, 0)).any():
        raise DTypeError("an integer to a negative power is a fraction. Use .astype('float32').")
    return dtype


@register(
    "power",
    family="arithmetic",
    samples=lambda rng: [*pairs(rng), sample(2.0, rng.normal(size=(3,)), label="constant base")],
    wrong={
        "one copy only": one_copy_only,
        "exponent not lowered": lambda ctx, dy: tuple(
            g if g is None else g * 1.5 for g in true_gradient(ctx, dy)
        ),
    },
)
class Power(Elementwise):
    """y = a^b

    From y = e^(b ln a): dy/da = b a^(b-1) and dy/db = a^b ln a.

        da = dy b a^(b-1)          db = dy y ln a

    Two places need care. a^0 is 1 everywhere, so its gradient is 0 at a = 0 too, where the formula
    reads 0 times infinity. And 0^b stays 0 when b moves (b >= 0), where it reads 0 ln 0. Under a
    negative base the exponent's gradient is NaN: a^b has no value beside b.

    An exponent 2 is computed as a product: NumPy's general power is two hundred times slower.

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(_power_dtype)

    def forward(ctx, a: Any, b: Any) -> Array:
        y = ctx.compute(_power(ctx.xp), a, b)
        ctx.save(a, b, y if ctx.needs[1] else None)
        return y.copy() if y is a else y

    def backward(ctx, dy: Array) -> Any:
        (a, b, y), xp = ctx.saved, ctx.xp
        da = db = None
        if ctx.needs[0]:
            da = unbroadcast(dy * b * _power(xp)(a, _lowered(xp, b)), *ctx.a_like)
        if ctx.needs[1]:
            base = xp.where((a == 0) & (b >= 0), 1, a).astype(y.dtype, copy=False)  # ln 1 = 0
            db = unbroadcast(dy * y * xp.log(base), *ctx.b_like)
        return da, db


def _power(xp: Any) -> Callable[[Any, Any], Array]:
    def power(a: Any, b: Any) -> Array:
        if isinstance(b, (int, float)) and b in (1, 2, 3):
            return a if b == 1 else a * a if b == 2 else a * a * a
        return xp.power(a, b)

    return power


def _lowered(xp: Any, b: Any) -> Any:
    """b - 1, but 0 for b = 0: there the factor b is 0, and a^-1 could be infinite."""
    if isinstance(b, (int, float)):
        return b - 1 if b else 0
    return xp.where(b == 0, b, b - 1)


@register(
    "negative",
    family="arithmetic",
    samples=lambda rng: [sample(rng.normal(size=(3, 4)))],
    wrong={"sign": lambda ctx, dy: dy},
    one_variable=True,
)
class Negative(Function):
    """y = -x

        dx = -dy

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        try:
            return -x
        except TypeError as error:
            raise DTypeError("negative: a bool has no sign. Use ~x for the opposite.") from error

    def backward(ctx, dy: Array) -> Array:
        return -dy
