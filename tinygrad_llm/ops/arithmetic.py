"""Sums, differences, products and quotients of two operands, element by element, with broadcasting.

In all of them an operand that was repeated to fit the other gets the sum of the gradients of its
copies (`unbroadcast`). A Python number is a constant and gets none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, threads
from tinygrad_llm.backend.compute import parallel_ufunc
from tinygrad_llm.backend.dtypes import FLOAT32
from tinygrad_llm.backend.promotion import agree, converted, fractional_dtype, result_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import Like, broadcast_error, unbroadcast

Operand = Array | float  # a Python number is a constant
Pair = tuple[Array | None, Array | None]  # the gradients of two operands


class TwoOperands(Function):
    """Base of the ops with two operands: their common type, and their shapes for `unbroadcast`.

    Attributes:
        dtype_of_result: class attribute: the type of the result (`backend.promotion`).
        a_like, b_like: shape and type of each operand that wants a gradient.
    """

    dtype_of_result: ClassVar[Callable[..., np.dtype]] = staticmethod(result_dtype)
    a_like: Like
    b_like: Like

    def compute(ctx, ufunc: Callable[..., Array], a: Any, b: Any) -> Array:
        """``ufunc(a, b)`` of the type that both together have.

        Raises:
            ShapeError: the shapes do not fit.
            DTypeError: the op does not take such a type.
        """
        if ctx.requires_grad:
            if ctx.needs[0]:
                ctx.a_like = a.shape, a.dtype
            if ctx.needs[1]:
                ctx.b_like = b.shape, b.dtype
        try:
            if type(a) is type(b) and a.dtype is b.dtype is FLOAT32:
                large = a.size >= threads.WORTH_SHARING
                return parallel_ufunc(ufunc, a, b) if large else ufunc(a, b)
            if agree(a, b):
                return ufunc(a, b)
            dtype = ctx.dtype_of_result(a, b)
            return parallel_ufunc(ufunc, *converted(a, b, dtype)).astype(dtype, copy=False)
        except ValueError as error:
            raise broadcast_error(ctx.name, a, b) from error
        except (TypeError, OverflowError) as error:
            raise DTypeError(f"{ctx.name}: {str(error).rstrip('.')}.") from error


def number_dtype(a: Operand, b: Operand) -> np.dtype:
    """`result_dtype` for ops that do not take two bools."""
    dtype = result_dtype(a, b)
    if dtype.kind == "b":
        raise DTypeError("expected numbers, got bools. Use .astype('int64') or .astype('float32').")
    return dtype


@register("add", family="arithmetic")
class Add(TwoOperands):
    """y = a + b

    dy/da = 1 and dy/db = 1, so the gradient passes unchanged to both:

        da = dy          db = dy

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Operand, b: Operand) -> Array:
        return ctx.compute(ctx.xp.add, a, b)

    def backward(ctx, dy: Array) -> Pair:
        da = unbroadcast(dy, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(dy, *ctx.b_like) if ctx.needs[1] else None
        return da, db


@register("subtract", family="arithmetic")
class Subtract(TwoOperands):
    """y = a - b

    dy/da = 1 and dy/db = -1:

        da = dy          db = -dy

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(number_dtype)

    def forward(ctx, a: Operand, b: Operand) -> Array:
        return ctx.compute(ctx.xp.subtract, a, b)

    def backward(ctx, dy: Array) -> Pair:
        da = unbroadcast(dy, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(-dy, *ctx.b_like) if ctx.needs[1] else None
        return da, db


@register("multiply", family="arithmetic")
class Multiply(TwoOperands):
    """y = a b

    dy/da = b and dy/db = a: each operand's gradient is scaled by the *other* operand.

        da = dy b          db = dy a

    So next to a constant an operand need not be kept.

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Operand, b: Operand) -> Array:
        if ctx.requires_grad:
            ctx.save(b if ctx.needs[0] else None, a if ctx.needs[1] else None)
        return ctx.compute(ctx.xp.multiply, a, b)

    def backward(ctx, dy: Array) -> Pair:
        b, a = ctx.saved
        da = unbroadcast(dy * b, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(dy * a, *ctx.b_like) if ctx.needs[1] else None
        return da, db


@register("divide", family="arithmetic")
class Divide(TwoOperands):
    """y = a / b

    dy/da = 1 / b and dy/db = -a / b^2:

        da = dy / b          db = -dy a / b^2 = -dy (a / b) / b

    The last form has no b^2, which can be infinite or 0 where the gradient is neither.
    Integers divided by integers give float32.

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(fractional_dtype)

    def forward(ctx, a: Operand, b: Operand) -> Array:
        if ctx.requires_grad:
            ctx.save(a if ctx.needs[1] else None, b)
        return ctx.compute(ctx.xp.true_divide, a, b)

    def backward(ctx, dy: Array) -> Pair:
        a, b = ctx.saved
        da = unbroadcast(dy / b, *ctx.a_like) if ctx.needs[0] else None
        db = unbroadcast(-dy * (a / b) / b, *ctx.b_like) if ctx.needs[1] else None
        return da, db


@register("negative", family="arithmetic", one_variable=True)
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


def pairs(rng: np.random.Generator) -> list[Sample]:
    """Sample operands: equal shapes, unequal ranks, a repeated axis, a scalar, a constant."""
    a = rng.uniform(0.5, 2.0, (2, 3, 4))
    return [
        sample(a, rng.uniform(0.5, 2.0, (2, 3, 4))),
        sample(a, rng.uniform(0.5, 2.0, (4,)), label="unequal ranks"),
        sample(rng.uniform(0.5, 2.0, (1, 4)), a, label="repeated axis"),
        sample(a, rng.uniform(0.5, 2.0, ()), label="scalar tensor"),
        sample(a, 1.5, label="constant"),
    ]


def _first_copies(ctx: TwoOperands, da: Array, db: Array) -> Pair:
    """Mistake: a repeated operand gets the gradient of its first copy, not the sum of all."""

    def first(dy: Array, shape: tuple[int, ...]) -> Array:
        dy = dy[(0,) * (dy.ndim - len(shape))]
        return dy[tuple(slice(n) for n in shape)]

    need_a, need_b = ctx.needs
    return (
        first(da, ctx.a_like[0]) if need_a else None,
        first(db, ctx.b_like[0]) if need_b else None,
    )


def _sums(ctx: TwoOperands, da: Array, db: Array) -> Pair:
    """The gradients of whole results, summed over the copies of each operand."""
    need_a, need_b = ctx.needs
    return (
        unbroadcast(da, *ctx.a_like) if need_a else None,
        unbroadcast(db, *ctx.b_like) if need_b else None,
    )


def _not_exchanged(ctx: Multiply, dy: Array) -> Pair:
    """Mistake: an operand's gradient is scaled by the operand itself."""
    b, a = ctx.saved
    return _sums(ctx, dy * (b if a is None else a), dy * b)


def _not_squared(ctx: Divide, dy: Array) -> Pair:
    """Mistake: the quotient's derivative by b taken for -a / b."""
    a, b = ctx.saved
    return _sums(ctx, dy / b, dy if a is None else -dy * a / b)


prove("add", samples=pairs, wrong={"first copy only": lambda ctx, dy: _first_copies(ctx, dy, dy)})
prove(
    "subtract",
    samples=pairs,
    wrong={
        "sign of b lost": lambda ctx, dy: _sums(ctx, dy, dy),
        "first copy only": lambda ctx, dy: _first_copies(ctx, dy, -dy),
    },
)
prove("multiply", samples=pairs, wrong={"operands not exchanged": _not_exchanged})
prove("divide", samples=pairs, wrong={"b not squared": _not_squared})
prove(
    "negative",
    samples=lambda rng: [sample(rng.normal(size=(3, 4)))],
    wrong={"sign lost": lambda ctx, dy: dy},
)
