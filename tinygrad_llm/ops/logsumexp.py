"""The logarithm of a sum of exponentials: softmax's normalizer, and a smooth maximum."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Tensor, prove, register, sample
from tinygrad_llm.autograd.axes import Axis
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import as_float
from tinygrad_llm.ops.reduce import Reduction


@register("logsumexp", family="probabilities")
class LogSumExp(Reduction):
    """y = log sum_i e^(x_i) over the chosen axes: a smooth maximum

    dy/dx_i = e^(x_i) / sum_j e^(x_j), which is softmax:

        dx = dy softmax(x) = dy e^(x - y)

    The largest x is subtracted before and added after, so that nothing overflows.

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    fresh = True

    def forward(ctx, x: Array, axis: Axis, keepdims: bool = False) -> Array:
        xp, axes = ctx.xp, ctx.prepare(x, axis, keepdims)
        x = as_float(x)
        wide = x.astype(accumulate_dtype(x.dtype), copy=False)
        top = (wide.max if ctx.count else wide.sum)(axis=axes, keepdims=True)  # of nothing: 0
        top = xp.where(xp.isfinite(top), top, 0)
        total = xp.exp(wide - top).sum(axis=axes, keepdims=True)
        with np.errstate(divide="ignore"):  # a row of -inf: log 0
            y = xp.log(total) + top
        ctx.save(wide, y)
        return (y if keepdims else y.squeeze(axes)).astype(x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        x, y = ctx.saved
        shares = ctx.xp.exp(x - ctx.xp.where(y == -ctx.xp.inf, 0, y))
        return (ctx.spread(dy) * shares).astype(dy.dtype, copy=False)


def logsumexp_composed(x: Tensor, axis: Axis, keepdims: bool = False) -> Tensor:
    """The logarithm of the sum of the exponentials, in small ops."""
    return x.exp().sum(axis=axis, keepdims=keepdims).log()


prove(
    "logsumexp",
    samples=lambda rng: [
        sample(rng.normal(size=(3, 5)), axis=-1),
        sample(rng.normal(size=(2, 3, 2)), axis=(0, 2), keepdims=True, label="two axes"),
    ],
    wrong={
        "sum's rule": lambda ctx, dy: ctx.spread(dy) + 0,
        "not divided by the sum": lambda ctx, dy: ctx.spread(dy) * ctx.xp.exp(ctx.saved[0]),
    },
    composed=logsumexp_composed,
)
