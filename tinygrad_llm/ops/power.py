"""Powers of two operands, element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_llm.autograd import prove, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule, to_numpy
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import unbroadcast
from tinygrad_llm.ops.arithmetic import Operand, Pair, TwoOperands, number_dtype, pairs


def _power_dtype(a: Operand, b: Operand) -> np.dtype:
    """`number_dtype`; a DTypeError for powers that integers do not have."""
    dtype = number_dtype(a, b)
    if dtype.kind in "iu" and np.any((b if isinstance(b, (int, float)) else to_numpy(b)) < 0):
        raise DTypeError("an integer to a negative power is a fraction. Use .astype('float32').")
    return dtype


@register("power", family="arithmetic")
class Power(TwoOperands):
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

    def forward(ctx, a: Operand, b: Operand) -> Array:
        y = ctx.compute(_power(ctx.xp), a, b)
        ctx.save(a, b, y if ctx.needs[1] else None)
        return y.copy() if y is a else y

    def backward(ctx, dy: Array) -> Pair:
        (a, b, y), xp = ctx.saved, ctx.xp
        da = db = None
        if ctx.needs[0]:
            da = unbroadcast(dy * b * _power(xp)(a, _lowered(xp, b)), *ctx.a_like)
        if ctx.needs[1]:
            base = xp.where((a == 0) & (b >= 0), 1, a).astype(y.dtype, copy=False)  # ln 1 = 0
            db = unbroadcast(dy * y * xp.log(base), *ctx.b_like)
        return da, db


def _power(xp: ArrayModule) -> Callable[[Array, Operand], Array]:
    def power(a: Array, b: Operand) -> Array:
        if isinstance(b, (int, float)) and b in (1, 2, 3):
            return a if b == 1 else a * a if b == 2 else a * a * a
        return xp.power(a, b)

    return power


def _lowered(xp: ArrayModule, b: Operand) -> Operand:
    """b - 1, but 0 for b = 0: there the factor b is 0, and a^-1 could be infinite."""
    if isinstance(b, (int, float)):
        return b - 1 if b else 0
    return xp.where(b == 0, b, b - 1)


def _exponent_kept(ctx: Power, dy: Array) -> Pair:
    """Mistake: b a^b in place of b a^(b-1)."""
    a, b, _ = ctx.saved
    _, db = true_gradient(ctx, dy)
    return unbroadcast(dy * b * a**b, *ctx.a_like) if ctx.needs[0] else None, db


def _logarithm_forgotten(ctx: Power, dy: Array) -> Pair:
    """Mistake: a^b taken for e^b, its own derivative."""
    da, _ = true_gradient(ctx, dy)
    return da, unbroadcast(dy * ctx.saved[2], *ctx.b_like) if ctx.needs[1] else None


prove(
    "power",
    samples=lambda rng: [*pairs(rng), sample(2.0, rng.normal(size=(3,)), label="constant base")],
    wrong={"exponent not lowered": _exponent_kept, "ln a forgotten": _logarithm_forgotten},
)
