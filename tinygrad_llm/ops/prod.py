"""The product over axes."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import prove, register, sample
from tinygrad_llm.autograd.axes import Axis
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype, is_integer
from tinygrad_llm.ops.reduce import Reduction


@register("prod", family="reduction")
class Prod(Reduction):
    """y = x_1 x_2 ... x_n over the chosen axes

    dy/dx_i is the product of all other factors. It is not computed as y / x_i, which fails at 0,
    but as the product of those before times that of those behind:

        dx_i = dy (x_1 ... x_{i-1}) (x_{i+1} ... x_n)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    fresh = True

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        ctx.axes = ctx.prepare(x, axis, keepdims)
        ctx.save(x)
        wide = np.int64 if is_integer(x.dtype) else accumulate_dtype(x.dtype)
        y = x.prod(axis=ctx.axes, keepdims=keepdims, dtype=wide)
        return y if is_integer(x.dtype) else y.astype(x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        xp, rest = ctx.xp, [i for i in range(x.ndim) if i not in ctx.axes]
        order = (*rest, *ctx.axes)
        moved = x.transpose(order)
        rows = moved.reshape(*moved.shape[: len(rest)], ctx.count)  # a product's factors in a row
        others = _before(xp, rows) * xp.flip(_before(xp, xp.flip(rows, -1)), -1)
        back = tuple(order.index(i) for i in range(x.ndim))
        return ctx.spread(dy) * others.reshape(moved.shape).transpose(back)


def _before(xp: ArrayModule, rows: Array) -> Array:
    """The product of all factors in front of each one; 1 for the first."""
    out = xp.ones_like(rows)
    out[..., 1:] = rows[..., :-1].cumprod(axis=-1)
    return out


def _factors(rng: np.random.Generator) -> list[Sample]:
    x = rng.uniform(0.5, 1.5, (2, 3, 4)) * rng.choice([-1.0, 1.0], (2, 3, 4))
    with_zero = np.array([[0.0, 2.0, 3.0], [1.5, -0.5, 2.5], [0.0, 0.0, 2.0]])
    return [
        sample(x, axis=1),
        sample(x, axis=(0, 2), keepdims=True, label="two axes"),
        sample(with_zero, axis=-1, label="factors 0"),
        sample(with_zero[1], label="all"),
    ]


def _divided(ctx: Prod, dy: Array) -> Array:
    """Mistake: y / x_i for the product of the others, which is 0 / 0 at a factor 0."""
    (x,) = ctx.saved
    with np.errstate(invalid="ignore"):
        return ctx.spread(dy) * (x.prod(axis=ctx.axes, keepdims=True) / x)


prove(
    "prod",
    samples=_factors,
    wrong={"sum's rule": lambda ctx, dy: ctx.spread(dy) + 0, "divided by a factor 0": _divided},
)
