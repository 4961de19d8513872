"""Running sums, products and lengths along axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample
from tinygrad_llm.autograd.axes import Axis, normalize_axis
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype, is_integer
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.ops.reduce import Reduction


def _rows(rng: np.random.Generator) -> list[Any]:
    x = rng.normal(size=(2, 3, 4))
    return [sample(x, axis=-1), sample(x, axis=0, label="first axis")]


@register(
    "cumsum", family="reduction", samples=_rows,
    wrong={"from the front": lambda ctx, dy: dy.cumsum(axis=ctx.axis)},
)  # fmt: skip
class CumSum(Function):
    """y_i = x_1 + ... + x_i along an axis

    x_j is a summand of y_j and of all behind it, so its gradient is a running sum from the end:

        dx_j = sum_{i >= j} dy_i

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array, axis: int) -> Array:
        ctx.axis = normalize_axis("cumsum", axis, max(x.ndim, 1))
        return _running_sum(x, ctx.axis)

    def backward(ctx, dy: Array) -> Array:
        if not dy.ndim:
            return dy
        back = ctx.xp.flip(dy, ctx.axis)
        return ctx.xp.flip(_running_sum(back, ctx.axis), ctx.axis)


def _running_sum(x: Array, axis: int) -> Array:
    if not x.ndim:
        return x.astype(np.int64) if is_integer(x.dtype) else x.copy()
    if is_integer(x.dtype):
        return x.cumsum(axis=axis, dtype=np.int64)
    return x.cumsum(axis=axis, dtype=accumulate_dtype(x.dtype)).astype(x.dtype, copy=False)


def _factors(rng: np.random.Generator) -> list[Any]:
    x = rng.uniform(0.5, 1.5, (2, 3, 4)) * rng.choice([-1.0, 1.0], (2, 3, 4))
    with_zero = np.array([[0.0, 2.0, 3.0], [1.5, -0.5, 2.5], [0.0, 0.0, 2.0]])
    return [
        sample(x, axis=1),
        sample(x, axis=(0, 2), keepdims=True, label="two axes"),
        sample(with_zero, axis=-1, label="factors 0"),
        sample(with_zero[1], label="all"),
    ]


@register(
    "prod", family="reduction", samples=_factors,
    wrong={"sum's rule": lambda ctx, dy: ctx.spread(dy) + 0},
)  # fmt: skip
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


def _before(xp: Any, rows: Array) -> Array:
    """The product of all factors in front of each one; 1 for the first."""
    out = xp.ones_like(rows)
    out[..., 1:] = rows[..., :-1].cumprod(axis=-1)
    return out


def norm_composed(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The square root of the sum of the squares, in small ops."""
    return (x * x).sum(axis=axis, keepdims=keepdims).sqrt()


def _vectors(rng: np.random.Generator) -> list[Any]:
    x = rng.normal(size=(2, 3, 4))
    return [sample(x), sample(x, axis=-1, keepdims=True, label="rows"), sample(x, axis=(0, 1))]


@register(
    "norm", family="reduction", samples=_vectors, composed=norm_composed,
    wrong={"not divided by y": lambda ctx, dy: ctx.spread(dy) * ctx.saved[0]},
)  # fmt: skip
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
