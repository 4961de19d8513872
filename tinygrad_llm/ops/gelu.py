"""The Gaussian error linear unit, the nonlinearity between the two halves of a feed-forward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import as_rows, by_rows, empty, store, workspace
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.special import erf
from tinygrad_llm.errors import ConfigError

C0 = math.sqrt(2.0 / math.pi)
C1 = 0.044715


def gelu_tanh_forward(xp: ArrayModule, x: Array, y: Array, slope: Array) -> None:
    """Write y = x h and its slope h + 2 x u' h (1 - h), where h = (1 + tanh u) / 2."""
    x2 = xp.multiply(x, x, out=empty(xp, x.shape, x.dtype))
    u = xp.multiply(x2, C0 * C1, out=y)
    u += C0
    u *= x
    h = xp.tanh(u, out=u)
    h += 1
    h *= 0.5
    x2 *= 6 * C0 * C1
    x2 += 2 * C0  # 2 u'
    x2 *= x
    xp.subtract(1, h, out=slope)
    slope *= h
    slope *= x2
    slope += h
    h *= x  # y


def gelu_erf_forward(xp: ArrayModule, x: Array, y: Array, slope: Array) -> None:
    """Write y = x F(x), F the normal distribution function, and its slope F(x) + x F'(x)."""
    probability = 0.5 * (1 + erf(xp, x * math.sqrt(0.5)))
    density = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    xp.multiply(x, probability, out=y)
    xp.add(probability, x * density, out=slope)


FORMS = {"tanh": gelu_tanh_forward, "none": gelu_erf_forward}


def gelu_and_slope(xp: ArrayModule, x: Array, approximate: str) -> tuple[Array, Array]:
    """y and its slope, of the shape and type of x."""
    work = accumulate_dtype(x.dtype)
    y, slope = empty(xp, x.shape, x.dtype), empty(xp, x.shape, x.dtype)
    x_rows, y_rows, slope_rows = (as_rows(a) for a in (x, y, slope))

    def block(rows: slice) -> None:
        targets = y_rows[rows], slope_rows[rows]
        outs = workspace(xp, work, *targets)
        FORMS[approximate](xp, x_rows[rows].astype(work, copy=False), *outs)
        store(targets, outs)

    by_rows(xp, block, *x_rows.shape)
    return y, slope


def times_slope(xp: ArrayModule, dy: Array, slope: Array) -> Array:
    """dx = dy slope."""
    dx = empty(xp, dy.shape, dy.dtype)
    dy2, slope2, dx2 = (as_rows(a) for a in (dy, slope, dx))
    by_rows(
        xp,
        lambda rows: xp.multiply(dy2[rows], slope2[rows], out=dx2[rows]),
        len(dx2),
        dx2.shape[1],
        one_pass=True,
    )
    return dx


def gelu_composed(x: Tensor, approximate: str = "tanh") -> Tensor:
    """The formula in small ops, each with a derivative of its own."""
    if approximate == "none":
        from tinygrad_llm.ops.erf import Erf

        return x * 0.5 * (1.0 + Erf.apply(x * math.sqrt(0.5)))
    return x * 0.5 * (1.0 + ((x + x * x * x * C1) * C0).tanh())


@register(
    "gelu",
    family="activation",
    samples=lambda rng: [
        sample(rng.normal(size=(3, 5)) * 2),
        sample(rng.normal(size=(2, 7)) * 2, approximate="none", label="exact"),
        sample(np.array([-30.0, -0.5, 0.0, 0.5, 30.0]), label="far out"),
    ],
    wrong={
        "product rule forgotten": lambda ctx, dy: dy * (ctx.saved[0] > 0.5),
        "sigmoid form's derivative": lambda ctx, dy: true_gradient(ctx, dy) + 1e-3 * dy,
    },
    composed=gelu_composed,
    one_variable=True,
    kernel="gelu",
)
class Gelu(Function):
    """y = x F(x), where F(x) = (1 + erf(x / sqrt 2)) / 2 is the normal distribution function

    GPT-2 uses the approximation by tanh, with c0 = sqrt(2 / pi) and c1 = 0.044715:

        u = c0 (x + c1 x^3)             y = x/2 (1 + tanh u)

    With h = (1 + tanh u) / 2 this is y = x h. Since tanh' u = 1 - tanh^2 u = 4 h (1 - h),
    the product and chain rules give, with u' = c0 (1 + 3 c1 x^2):

        dx = dy [ h + 2 x u' h (1 - h) ]

    and for the exact form, F' being the normal density:

        dx = dy [ F(x) + x e^(-x^2/2) / sqrt(2 pi) ]

    Everything in the brackets is known in the forward pass, so it is computed there, where
    tanh u is at hand, and kept instead of x: the backward pass is one multiplication.

    Shapes: x any, y the same.
    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, section 2.
    """

    fresh = True

    def forward(ctx, x: Array, approximate: str = "tanh") -> Array:
        if approximate not in FORMS:
            raise ConfigError(
                f'gelu: approximate must be "tanh" or "none" (exact), got {approximate!r}.'
            )
        require_float("gelu", x)
        y, slope = gelu_and_slope(ctx.xp, x, approximate)
        if ctx.requires_grad:
            ctx.save(slope)
        return y

    def backward(ctx, dy: Array) -> Any:
        (slope,) = ctx.saved
        return times_slope(ctx.xp, dy, slope)
