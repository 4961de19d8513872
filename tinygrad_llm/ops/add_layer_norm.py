"""The residual addition and the layer normalization after it, in one pass over memory."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import (
    Function,
    Gradients,
    Tensor,
    prove,
    register,
    sample,
    true_gradient,
)
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import empty_like, rowwise
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops.layer_norm import (
    check_affine,
    empty_column,
    in_dtype,
    layer_norm_backward,
    layer_norm_composed,
    layer_norm_forward,
    wanted,
)


@register("add_layer_norm", family="normalization", kernel="layer_norm")
class AddLayerNorm(Function):
    """s = x + residual,   y = layer_norm(s)   (two results)

    s goes on along the residual path and collects a gradient ds there; another comes back
    through the normalization (see `LayerNorm`). Both x and residual get their sum, for s
    depends on each with derivative 1:

        dx = dresidual = layer_norm'(dy) + ds

    Shapes: x, residual, s, y (..., C); weight, bias (C,).
    Source: Ba, Kiros & Hinton 2016; the pre-norm arrangement: Radford et al., "Language Models
    are Unsupervised Multitask Learners" (GPT-2), 2019, section 2.3.
    """

    fresh = False  # x and residual get the same array

    def forward(
        ctx, x: Array, residual: Array, weight: Array, bias: Array, eps: float = 1e-5
    ) -> tuple[Array, Array]:
        check_summands(x, residual)
        check_affine("add_layer_norm", x, weight, bias)
        s, y, xhat = (empty_like(ctx.xp, x) for _ in range(3))
        rstd = empty_column(ctx.xp, x)
        shared, outs = (weight, bias, eps, x.dtype), (s, y, xhat, rstd)
        rowwise(ctx.xp, add_layer_norm_forward, (x, residual), shared, outs)
        if ctx.requires_grad:
            ctx.save(xhat, rstd, weight)
        return s, y

    def backward(ctx, ds: Array | None, dy: Array | None) -> Gradients:
        if dy is None:
            return ds, ds, None, None
        xhat, rstd, weight = ctx.saved
        dx = empty_like(ctx.xp, dy)
        if ds is None:
            sums = rowwise(ctx.xp, layer_norm_backward, (dy, xhat, rstd), (weight,), (dx,))
        else:
            ins = (dy, ds, xhat, rstd)
            sums = rowwise(ctx.xp, add_layer_norm_backward, ins, (weight,), (dx,))
        return wanted(ctx.needs, dx, dx, *in_dtype(dy if weight is None else weight, sums))


def add_layer_norm_forward(
    xp: ArrayModule,
    x: Array,  # (N, C)
    residual: Array,  # (N, C)
    weight: Array | None,  # (C,)
    bias: Array | None,  # (C,)
    eps: float,
    dtype: np.dtype,  # of s outside: it may be 16 bits where the rows here are float32
    s: Array,  # (N, C), written here, as are the three that follow
    y: Array,  # (N, C)
    xhat: Array,  # (N, C)
    rstd: Array,  # (N, 1)
) -> None:
    """Write s = x + residual, and its layer norm y with xhat and rstd."""
    # s = x + residual,   rounded to the dtype in which it goes on
    xp.add(x, residual, out=s)
    if s.dtype != dtype:
        s[...] = s.astype(dtype)
    layer_norm_forward(xp, s, weight, bias, eps, y, xhat, rstd)


def add_layer_norm_backward(
    xp: ArrayModule, dy: Array, ds: Array, xhat: Array, rstd: Array, weight: Array | None, dx: Array
) -> tuple[Array, Array]:
    """Write dx = layer_norm'(dy) + ds; return dweight, dbias (C,)."""
    sums = layer_norm_backward(xp, dy, xhat, rstd, weight, dx)
    dx += ds
    return sums


def add_layer_norm_composed(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """The two steps one after the other."""
    s = x + residual
    return s, layer_norm_composed(s, weight, bias, eps)


def check_summands(x: Array, residual: Array) -> None:
    """Raise an error unless x and residual are floats of one shape."""
    require_float("add_layer_norm", x, residual)
    if x.shape != residual.shape:
        raise ShapeError(
            f"add_layer_norm: x and residual must have one shape, got {x.shape} and "
            f"{residual.shape}."
        )


def _residual_forgotten(ctx: AddLayerNorm, ds: Array | None, dy: Array | None) -> Gradients:
    dx, _, *others = true_gradient(ctx, ds, dy)
    return dx, dx * 0, *others


def _sum_gradient_lost(ctx: AddLayerNorm, ds: Array | None, dy: Array | None) -> Gradients:
    return true_gradient(ctx, None if ds is None else ds * 0, dy)


prove(
    "add_layer_norm",
    samples=lambda rng: [
        sample(*rng.normal(size=(2, 2, 3, 5)), *rng.normal(size=(2, 5))),
        sample(*rng.normal(size=(2, 1, 7)), *rng.normal(size=(2, 7)), label="one row"),
    ],
    wrong={
        "residual branch forgotten": _residual_forgotten,
        "gradient of the sum lost": _sum_gradient_lost,
    },
    composed=add_layer_norm_composed,
)
