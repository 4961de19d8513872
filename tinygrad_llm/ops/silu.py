"""The sigmoid linear unit (SiLU, swish), the nonlinearity of Llama's feed-forward networks."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.ops.elementwise import sigmoid_forward


@register("silu", family="activation", one_variable=True)
class Silu(Function):
    """y = x s,   s = 1 / (1 + e^-x)

    The sigmoid's derivative is s (1 - s), so by the product rule

        dx = dy (s + x s (1 - s)) = dy s (1 + x (1 - s))

    Shapes: x any, y the same.
    Source: Elfwing, Uchibe & Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", 2017; as swish: Ramachandran et al., 2017.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        require_float("silu", x)
        xp, dtype = ctx.xp, x.dtype
        x = x.astype(accumulate_dtype(dtype), copy=False)
        s = sigmoid_forward(xp, x)
        ctx.save(x, s)
        return (x * s).astype(dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        x, s = ctx.saved
        return (dy * (s * (1 + x * (1 - s)))).astype(dy.dtype, copy=False)


def silu_composed(x: Tensor) -> Tensor:
    """The formula in small ops, each with a derivative of its own."""
    return x * x.sigmoid()


def _product_rule_forgotten(ctx: Silu, dy: Array) -> Array:
    _, s = ctx.saved
    return dy * s


def _without_x(ctx: Silu, dy: Array) -> Array:
    _, s = ctx.saved
    return dy * (s + s * (1 - s))


prove(
    "silu",
    samples=lambda rng: [
        sample(rng.normal(size=(3, 5)) * 2),
        sample(np.array([-30.0, -0.5, 0.0, 0.5, 30.0]), label="far out"),
        sample(rng.normal(size=()), label="scalar"),
    ],
    wrong={"product rule forgotten": _product_rule_forgotten, "factor x lost": _without_x},
    composed=silu_composed,
)
