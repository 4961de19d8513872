"""Division with a remainder: a = (a // b) b + a % b, where a % b has the sign of b."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import prove, register, sample
from tinygrad_llm.autograd.registry import OPS, Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.ops._shape import unbroadcast
from tinygrad_llm.ops.arithmetic import Operand, Pair, TwoOperands, number_dtype


@register("remainder", family="arithmetic")
class Remainder(TwoOperands):
    """y = a % b = a - b floor(a / b)

    The floor is a step function, flat where it does not jump:

        da = dy          db = -dy floor(a / b)

    Shapes: a, b broadcastable; y their common shape.
    """

    dtype_of_result = staticmethod(number_dtype)

    def forward(ctx, a: Operand, b: Operand) -> Array:
        if ctx.needs[1]:
            ctx.save(a, b)
        return ctx.compute(ctx.xp.remainder, a, b)

    def backward(ctx, dy: Array) -> Pair:
        da = unbroadcast(dy, *ctx.a_like) if ctx.needs[0] else None
        if not ctx.needs[1]:
            return da, None
        a, b = ctx.saved
        return da, unbroadcast(-dy * ctx.xp.floor_divide(a, b), *ctx.b_like)


class FloorDivide(TwoOperands):
    """y = floor(a / b): a step function. It has no backward, as in PyTorch: take it as a constant.

    Shapes: a, b broadcastable; y their common shape.
    """

    name = "floor_divide"
    dtype_of_result = staticmethod(number_dtype)

    def forward(ctx, a: Operand, b: Operand) -> Array:
        return ctx.compute(ctx.xp.floor_divide, a, b)


OPS["floor_divide"] = FloorDivide.apply


def _quotients(rng: np.random.Generator) -> list[Sample]:
    """No quotient near a whole number, where the remainder jumps."""
    b = rng.uniform(0.5, 2.0, (3, 4)) * rng.choice([-1.0, 1.0], (3, 4))
    a = b * (rng.integers(-3, 4, (3, 4)) + rng.uniform(0.2, 0.8, (3, 4)))
    row = np.array([0.7, 0.8, 0.9, 1.1])
    return [
        sample(a, b),
        sample(row * np.array([[1.3], [2.4]]), row, label="broadcast"),
        sample(np.array([-2.3, 0.4, 5.5]), 2.0, label="constant"),
    ]


def _quotient_forgotten(ctx: Remainder, dy: Array) -> Pair:
    """Mistake: a - b differentiated in place of a - b floor(a / b)."""
    db = unbroadcast(-dy, *ctx.b_like) if ctx.needs[1] else None
    return unbroadcast(dy, *ctx.a_like), db


def _not_rounded_down(ctx: Remainder, dy: Array) -> Pair:
    """Mistake: a / b in place of its floor."""
    da = unbroadcast(dy, *ctx.a_like)
    if not ctx.needs[1]:
        return da, None
    a, b = ctx.saved
    return da, unbroadcast(-dy * (a / b), *ctx.b_like)


prove(
    "remainder",
    samples=_quotients,
    wrong={
        "quotient forgotten": _quotient_forgotten,
        "quotient not rounded down": _not_rounded_down,
    },
)
