"""Layer normalization."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import (
    Function,
    Gradients,
    Sample,
    Tensor,
    prove,
    register,
    sample,
    true_gradient,
)
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import empty, empty_like, row_dot, row_mean, rowwise, sum_rows
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ShapeError


@register("layer_norm", family="normalization", kernel="layer_norm")
class LayerNorm(Function):
    """y = xhat weight + bias,   xhat = (x - mean x) rstd,   rstd = 1 / sqrt(var x + eps)

    Each row alone. x_j acts on every xhat_i: directly, through the mean m, and through rstd:

        dm / dx_j = 1/C       dvar / dx_j = 2 (x_j - m) / C       drstd / dx_j = -rstd^2 xhat_j / C

    By the product rule, where x_i - m is xhat_i / rstd, and d_ij is 1 if i = j, else 0:

        dxhat_i / dx_j = rstd (d_ij - 1/C) + (x_i - m) drstd / dx_j
                       = rstd (d_ij - 1/C - xhat_i xhat_j / C)

    Multiplied by the gradient of xhat_i and summed over i; for the parameters, over the rows:

        dxhat = dy weight           dweight = sum dy xhat           dbias = sum dy
        dx    = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))

    So dx is dxhat without its parts along the vector of ones and along xhat: the two directions
    in which x can move without changing y.

    Shapes: x (..., C), weight and bias (C,) or None; y (..., C).
    Source: Ba, Kiros & Hinton, "Layer Normalization", 2016, section 3.
    """

    fresh = True

    def forward(
        ctx, x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
    ) -> Array:
        check_affine("layer_norm", x, weight, bias)
        y, xhat, rstd = empty_like(ctx.xp, x), empty_like(ctx.xp, x), empty_column(ctx.xp, x)
        rowwise(ctx.xp, layer_norm_forward, (x,), (weight, bias, eps), (y, xhat, rstd))
        if ctx.requires_grad:
            ctx.save(xhat, rstd, weight)
        return y

    def backward(ctx, dy: Array) -> Gradients:
        xhat, rstd, weight = ctx.saved
        dx = empty_like(ctx.xp, dy)
        sums = rowwise(ctx.xp, layer_norm_backward, (dy, xhat, rstd), (weight,), (dx,))
        return wanted(ctx.needs, dx, *in_dtype(dy if weight is None else weight, sums))


def layer_norm_forward(
    xp: ArrayModule,
    x: Array,  # (N, C)
    weight: Array | None,  # (C,)
    bias: Array | None,  # (C,)
    eps: float,
    y: Array,  # (N, C), written here, as are the two that follow
    xhat: Array,  # (N, C)
    rstd: Array,  # (N, 1)
) -> None:
    """Write y (N, C), and what the backward pass needs: xhat (N, C) and rstd (N, 1)."""
    # rstd = 1 / sqrt(var + eps),   with x - mean in the place of xhat
    rstd[...] = 1 / xp.sqrt(center(xp, x, out=xhat) + eps)
    # xhat = (x - mean) rstd
    xhat *= rstd
    # y = xhat weight + bias
    xp.multiply(xhat, 1 if weight is None else weight, out=y)
    if bias is not None:
        y += bias


def layer_norm_backward(
    xp: ArrayModule, dy: Array, xhat: Array, rstd: Array, weight: Array | None, dx: Array
) -> tuple[Array, Array]:
    """Write dx (N, C) from dy and xhat (N, C) and rstd (N, 1); return dweight and dbias (C,).

    dxhat   = dy weight
    dx      = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))
    dweight = sum over rows of dy xhat              dbias = sum over rows of dy
    """
    # dweight = sum dy xhat,   dbias = sum dy
    scratch = xp.multiply(dy, xhat, out=empty_like(xp, xhat))
    dweight, dbias = sum_rows(xp, scratch), sum_rows(xp, dy)
    # dxhat = dy weight,   in the place of dx
    dxhat = xp.multiply(dy, 1 if weight is None else weight, out=dx)
    mean = row_mean(xp, dxhat)  # mean(dxhat), (N, 1)
    along = row_dot(xp, dxhat, xhat) / max(xhat.shape[-1], 1)  # mean(dxhat xhat), (N, 1)
    # dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))
    dx -= mean
    dx -= xp.multiply(xhat, along, out=scratch)
    dx *= rstd
    return dweight, dbias


def center(xp: ArrayModule, x: Array, out: Array) -> Array:
    """Write x - mean to ``out`` for rows x (N, C); returns the variance (N, 1).

    A mean is rounded: that of 768 times 1000.0 may be 1000.00006, which is nothing beside a
    deviation of 1 and everything beside none. So rows far from 0 are centered a second time.
    """
    n = max(x.shape[-1], 1)
    mean = row_mean(xp, x)  # (N, 1)
    xp.subtract(x, mean, out=out)
    if xp is not np:  # all rows: to find the far ones would wait for the GPU
        out -= row_mean(xp, out)
        return row_dot(xp, out, out) / n
    variance = row_dot(xp, out, out) / n  # (N, 1)
    far = np.abs(mean) > 100 * np.sqrt(variance)
    if far.any():
        rows = far[:, 0]
        again = out[rows] - row_mean(xp, out[rows])
        out[rows], variance[rows] = again, row_dot(xp, again, again) / n
    return variance


def layer_norm_composed(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """The formula in small ops."""
    var = x.var(axis=-1, keepdims=True, correction=0)
    xhat = (x - x.mean(axis=-1, keepdims=True)) / (var + eps).sqrt()
    y = xhat if weight is None else xhat * weight
    return y if bias is None else y + bias


def empty_column(xp: ArrayModule, x: Array) -> Array:
    """Room for one number per row of x, (..., 1), of the dtype of statistics."""
    return empty(xp, (*x.shape[:-1], 1), accumulate_dtype(x.dtype))


def in_dtype(parameter: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
    """The gradients of weight and bias, rounded to their dtype."""
    return tuple(g.astype(parameter.dtype, copy=False) for g in sums)


def wanted(needs: tuple[bool, ...], *gradients: Array) -> Gradients:
    """The gradients that were asked for, None for the others."""
    return tuple(g if need else None for g, need in zip(gradients, needs, strict=False))


def check_affine(op: str, x: Array, weight: Array | None, bias: Array | None) -> None:
    """Raise an error unless x has an axis, weight and bias have its length, and all are floats."""
    require_float(op, x)
    require_float(op, weight, bias)
    if not x.ndim:
        raise ShapeError(f"{op}: x must have at least one axis to normalize along, got shape ().")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and p.shape != x.shape[-1:]:
            raise ShapeError(
                f"{op}: {name} must have the length of the last axis of x, shape "
                f"{x.shape[-1:]}, got {p.shape}."
            )


def _mean_term_forgotten(ctx: LayerNorm, dy: Array) -> Gradients:
    xhat, rstd, weight = ctx.saved
    dxhat = dy if weight is None else dy * weight
    dx = rstd * (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True))
    return dx, *true_gradient(ctx, dy)[1:]


def _statistics_as_constants(ctx: LayerNorm, dy: Array) -> Gradients:
    _, rstd, weight = ctx.saved
    dxhat = dy if weight is None else dy * weight
    return rstd * dxhat, *true_gradient(ctx, dy)[1:]


def _samples(rng: np.random.Generator) -> list[Sample]:
    normal = rng.normal
    return [
        sample(normal(size=(2, 3, 5)), normal(size=(5,)), normal(size=(5,))),
        sample(normal(size=(4, 7)), None, None, label="no weight, no bias"),
        sample(normal(size=(3, 6)) + 5, normal(size=(6,)), None, eps=1e-3, label="far from 0"),
    ]


prove(
    "layer_norm",
    samples=_samples,
    wrong={
        "mean term forgotten": _mean_term_forgotten,
        "mean and std as constants": _statistics_as_constants,
    },
    composed=layer_norm_composed,
)
