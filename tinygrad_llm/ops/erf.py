"""The error function, needed by the exact GELU."""

from __future__ import annotations

import math

from tinygrad_llm.autograd import Function, register, sample
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.promotion import as_float
from tinygrad_llm.backend.special import erf as erf_forward

_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


def erf_backward(xp: ArrayModule, dy: Array, x: Array) -> Array:
    """dx = dy 2 / sqrt(pi) e^(-x^2)."""
    return (dy * _TWO_OVER_SQRT_PI * xp.exp(-x * x)).astype(x.dtype, copy=False)


@register(
    "erf",
    family="elementwise",
    samples=lambda rng: [sample(rng.normal(size=(3, 5)) * 1.5)],
    wrong={"without the constant": lambda ctx, dy: dy * ctx.xp.exp(-(ctx.saved[0] ** 2))},
    one_variable=True,
)
class Erf(Function):
    """y = erf(x) = 2 / sqrt(pi) * integral from 0 to x of e^(-t^2) dt

    The derivative of an integral with respect to its upper end is the integrand there:

        dx = dy 2 / sqrt(pi) e^(-x^2)

    Shapes: x any, y the same.
    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 7.1.1 and 7.1.19.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return erf_forward(ctx.xp, as_float(x))

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return erf_backward(ctx.xp, dy, x)
