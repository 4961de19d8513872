"""The square root and its reciprocal, element by element."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.promotion import as_float


def _positive(rng: np.random.Generator) -> list[Sample]:
    return [sample(rng.uniform(0.5, 3.0, (3, 5)))]


@register(
    "sqrt",
    family="elementwise",
    samples=_positive,
    one_variable=True,
    wrong={"factor 2 lost": lambda ctx, dy: dy / ctx.saved[0]},
)
class Sqrt(Function):
    """y = x^(1/2),  x >= 0

    dy/dx = 1 / (2 x^(1/2)) = 1 / (2 y):

        dx = dy / (2 y)

    Shapes: x, y equal. At x = 0 the derivative is infinite.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.sqrt(as_float(x))
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy / (2 * y)


def rsqrt_composed(x: Tensor) -> Tensor:
    """1 divided by the square root, in small ops."""
    return 1 / x.sqrt()


@register(
    "rsqrt",
    family="elementwise",
    samples=_positive,
    one_variable=True,
    composed=rsqrt_composed,
    wrong={"y not cubed": lambda ctx, dy: dy * -0.5 * ctx.saved[0]},
)
class Rsqrt(Function):
    """y = x^(-1/2),  x > 0

    dy/dx = -1/2 x^(-3/2) = -1/2 y^3. RMSNorm divides by a root, which is to multiply by this:

        dx = -dy y^3 / 2

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = 1 / ctx.xp.sqrt(as_float(x))
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return -dy * (y * y * y) / 2
