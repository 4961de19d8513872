"""The Euclidean length over axes."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Tensor, prove, register, sample
from tinygrad_llm.autograd.axes import Axis
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.ops.reduce import Reduction


@register("norm", family="reduction")
class Norm(Reduction):
    """y = (sum_i x_i^2)^(1/2) over the chosen axes: the Euclidean length

    By the chain rule dy/dx_i = x_i / y, a vector of length 1 in the direction of x. At x = 0, where
    all directions are equal, it is 0:

        dx_i = dy x_i / y

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    fresh = True

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        require_float("norm", x)
        axes = ctx.prepare(x, axis, keepdims)
        wide = x.astype(accumulate_dtype(x.dtype), copy=False)
        y = ctx.xp.sqrt((wide * wide).sum(axis=axes, keepdims=keepdims))
        ctx.save(x, y)
        return y.astype(x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        x, y = ctx.saved
        per_length = dy / ctx.xp.where(y == 0, 1, y)
        return (ctx.spread(per_length) * x).astype(x.dtype, copy=False)


def norm_composed(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The square root of the sum of the squares, in small ops."""
    return (x * x).sum(axis=axis, keepdims=keepdims).sqrt()


def _vectors(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(2, 3, 4))
    return [sample(x), sample(x, axis=-1, keepdims=True, label="rows"), sample(x, axis=(0, 1))]


prove(
    "norm",
    samples=_vectors,
    wrong={"not divided by y": lambda ctx, dy: ctx.spread(dy) * ctx.saved[0]},
    composed=norm_composed,
)
