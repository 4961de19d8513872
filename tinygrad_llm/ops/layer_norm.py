"""Layer normalization, alone and together with the residual addition before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import (
    as_rows,
    by_rows,
    empty,
    row_dot,
    row_mean,
    store,
    sum_rows,
    workspace,
)
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ShapeError


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


def layer_norm_forward(
    xp: ArrayModule,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    n: Array,
    y: Array,
) -> Array:
    """Write n = (x - mean) / std and y for rows x (N, C); returns r = 1 / std (N, 1)."""
    r = 1 / xp.sqrt(center(xp, x, n) + eps)  # (N, 1)
    n *= r
    xp.multiply(n, 1 if weight is None else weight, out=y)
    if bias is not None:
        y += bias
    return r


def layer_norm_backward(
    xp: ArrayModule, dy: Array, n: Array, r: Array, weight: Array | None, dx: Array
) -> tuple[Array, Array]:
    """Write dx = r (dn - mean(dn) - n mean(dn n)), dn = dy weight; returns dweight, dbias (C,).

    dy, n and dx are (N, C), r is (N, 1).
    """
    scratch = xp.multiply(dy, n, out=empty(xp, n.shape, n.dtype))
    dweight, dbias = sum_rows(xp, scratch), sum_rows(xp, dy)
    dn = xp.multiply(dy, 1 if weight is None else weight, out=dx)
    mean, along = row_mean(xp, dn), row_dot(xp, dn, n) / max(n.shape[-1], 1)  # (N, 1)
    dx -= mean
    dx -= xp.multiply(n, along, out=scratch)
    dx *= r
    return dweight, dbias


def layer_norm_composed(x: Tensor, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """The formula in small ops."""
    n = (x - x.mean(axis=-1, keepdims=True)) / (
        x.var(axis=-1, keepdims=True, correction=0) + eps
    ).sqrt()
    y = n if weight is None else n * weight
    return y if bias is None else y + bias


def add_layer_norm_composed(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """The two steps one after the other."""
    s = x + residual
    return s, layer_norm_composed(s, weight, bias, eps)


class Normalization(Function):
    """Base of the two ops: blocks of rows, precision and checks."""

    fresh = True

    def normalize(
        self, x: Array, weight: Any, bias: Any, eps: float, residual: Array | None = None
    ) -> tuple[Array, Array]:
        """(s, y): x with the residual added, and that normalized."""
        check_affine(self.name, x, weight, bias)
        xp, work = self.xp, accumulate_dtype(x.dtype)
        s = x if residual is None else empty(xp, x.shape, x.dtype)
        y, n = empty(xp, x.shape, x.dtype), empty(xp, x.shape, x.dtype)
        s2, y2, n2 = as_rows(s), as_rows(y), as_rows(n)  # (N, C)
        r = empty(xp, (len(s2), 1), work)

        def block(rows: slice) -> None:
            if residual is not None:
                xp.add(as_rows(x)[rows], as_rows(residual)[rows], out=s2[rows])
            targets = n2[rows], y2[rows]
            wide, outs = s2[rows].astype(work, copy=False), workspace(xp, work, *targets)
            r[rows] = layer_norm_forward(xp, wide, weight, bias, eps, *outs)
            store(targets, outs)

        by_rows(xp, block, *s2.shape)
        if self.requires_grad:
            self.save(n2, r, weight)
        return s, y

    def gradients(self, dy: Array, ds: Array | None = None) -> tuple[Array, Array, Array]:
        """dx (with ds, the gradient of s, added), dweight, dbias."""
        xp, (n, r, weight) = self.xp, self.saved
        dx = empty(xp, dy.shape, dy.dtype)
        dx2, dy2 = as_rows(dx), as_rows(dy)  # (N, C)

        def block(rows: slice) -> tuple[Array, Array]:
            wide, wide_n = (a[rows].astype(r.dtype, copy=False) for a in (dy2, n))
            outs = workspace(xp, r.dtype, dx2[rows])
            sums = layer_norm_backward(xp, wide, wide_n, r[rows], weight, *outs)
            if ds is not None:
                xp.add(outs[0], as_rows(ds)[rows], out=outs[0])
            store([dx2[rows]], outs)
            return sums

        parts = by_rows(xp, block, *dx2.shape)
        kind = dy.dtype if weight is None else weight.dtype
        dweight, dbias = (sum(p[1:], p[0]).astype(kind) for p in zip(*parts, strict=True))
        return dx, dweight, dbias


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


def _without_mean_term(ctx: Any, dy: Array) -> Any:
    n, r, weight = ctx.saved
    dn = (dy if weight is None else dy * weight).reshape(n.shape)
    dx = (dn - n * (dn * n).mean(axis=-1, keepdims=True)) * r
    return dx.reshape(dy.shape), *true_gradient(ctx, dy)[1:]


def _statistics_as_constants(ctx: Any, dy: Array) -> Any:
    n, r, weight = ctx.saved
    dn = (dy if weight is None else dy * weight).reshape(n.shape)
    return (dn * r).reshape(dy.shape), *true_gradient(ctx, dy)[1:]


def _norm_samples(rng: np.random.Generator) -> list[Any]:
    normal = rng.normal
    return [
        sample(normal(size=(2, 3, 5)), normal(size=(5,)), normal(size=(5,))),
        sample(normal(size=(4, 7)), None, None, label="no weight, no bias"),
        sample(normal(size=(3, 6)) + 5, normal(size=(6,)), None, eps=1e-3, label="far from 0"),
    ]


@register(
    "layer_norm",
    family="normalization",
    samples=_norm_samples,
    wrong={
        "mean term forgotten": _without_mean_term,
        "mean and std as constants": _statistics_as_constants,
    },
    composed=layer_norm_composed,
    kernel="layer_norm",
)
class LayerNorm(Normalization):
    """n = (x - m) r,   m = mean x,   r = 1 / sqrt(var x + eps),   y = n g + b   (each row alone)

    x_j acts on every n_i: directly, through the mean, and through the deviation. With
    dm / dx_j = 1/C and dr / dx_j = -r^2 n_j / C (since dvar / dx_j = 2 (x_j - m) / C):

        dn_i / dx_j = r (d_ij - 1/C - n_i n_j / C)

    With dn = dy g, summed over i:

        dx = r (dn - mean(dn) - n mean(dn n))        dg = sum dy n      db = sum dy   (over rows)

    So dx is dn without its parts along the vector of ones and along n: the two directions in
    which x can move without changing y.

    Shapes: x (..., C), g and b (C,) or None; y (..., C).
    Source: Ba, Kiros & Hinton, "Layer Normalization", 2016, section 3.
    """

    def forward(ctx, x: Array, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Array:
        return ctx.normalize(x, weight, bias, eps)[1]

    def backward(ctx, dy: Array) -> Any:
        dx, dweight, dbias = ctx.gradients(dy)
        wanted = zip((dx, dweight, dbias), ctx.needs, strict=False)
        return tuple(g if need else None for g, need in wanted)


def _residual_forgotten(ctx: Any, ds: Array | None, dy: Array | None) -> Any:
    gradients = true_gradient(ctx, ds, dy)
    return gradients[0], gradients[0] * 0, *gradients[2:]


def _sum_gradient_lost(ctx: Any, ds: Array | None, dy: Array | None) -> Any:
    return true_gradient(ctx, None if ds is None else ds * 0, dy)


@register(
    "add_layer_norm",
    family="normalization",
    samples=lambda rng: [
        sample(*rng.normal(size=(2, 2, 3, 5)), *rng.normal(size=(2, 5))),
        sample(*rng.normal(size=(2, 1, 7)), *rng.normal(size=(2, 7)), label="one row"),
    ],
    wrong={
        "residual branch forgotten": _residual_forgotten,
        "gradient of the sum lost": _sum_gradient_lost,
    },
    composed=add_layer_norm_composed,
    kernel="layer_norm",
)
class AddLayerNorm(Normalization):
    """s = x + residual,   y = layer_norm(s)   (two results)

    s goes on along the residual path and collects a gradient ds there; another comes back
    through the normalization (see `LayerNorm`). Both x and residual get their sum, for s
    depends on each with derivative 1:

        dx = dresidual = ds + layer_norm'(dy)

    Shapes: x, residual, s, y (..., C); weight, bias (C,).
    Source: Ba, Kiros & Hinton 2016; the pre-norm arrangement: Radford et al., "Language Models
    are Unsupervised Multitask Learners" (GPT-2), 2019, section 2.3.
    """

    fresh = False  # x and residual get the same array

    def forward(
        ctx, x: Array, residual: Array, weight: Array, bias: Array, eps: float = 1e-5
    ) -> tuple[Array, Array]:
        require_float("add_layer_norm", x, residual)
        if x.shape != residual.shape:
            raise ShapeError(
                f"add_layer_norm: x and residual must have one shape, got {x.shape} and "
                f"{residual.shape}."
            )
        return ctx.normalize(x, weight, bias, eps, residual)

    def backward(ctx, ds: Array | None, dy: Array | None) -> Any:
        if dy is None:
            return ds, ds, None, None
        dx, dweight, dbias = ctx.gradients(dy, ds)
        wanted = zip((dx, dx, dweight, dbias), ctx.needs, strict=False)
        return tuple(g if need else None for g, need in wanted)
