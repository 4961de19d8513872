"""The Gaussian error linear unit, the nonlinearity between the two halves of a feed-forward."""

from __future__ import annotations

import math

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, arguments_of, prove, register, sample
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import empty_like, parallel_ufunc, rowwise
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.special import erf
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.elementwise import sigmoid_forward

C0 = math.sqrt(2.0 / math.pi)
C1 = 0.044715


@register("gelu", family="activation", kernel="gelu", one_variable=True)
class Gelu(Function):
    """y = x F(x), where F(x) = (1 + erf(x / sqrt 2)) / 2 is the normal distribution function

    By the product rule, with the normal density F'(x) = e^(-x^2/2) / sqrt(2 pi):

        dx = dy slope,      slope = F(x) + x F'(x)

    With approximate="tanh", the default here and GPT-2's form (the one above is "none"):

        y = x h,      h = (1 + tanh u) / 2,      u = c0 (x + c1 x^3)
        c0 = sqrt(2 / pi),      c1 = 0.044715

    Since tanh' u = 1 - tanh^2 u = 4 h (1 - h), the product and chain rules give

        dx = dy slope,      slope = h + 2 x u' h (1 - h),           u' = c0 (1 + 3 c1 x^2)

    The slope is known in the forward pass, so it is computed there, where tanh u is at hand, and
    kept instead of x: the backward pass is one multiplication.

    Shapes: x any, y the same.
    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, section 2.
    """

    fresh = True

    def forward(ctx, x: Array, approximate: str = "tanh") -> Array:
        check_form(approximate)
        require_float("gelu", x)
        y, slope = empty_like(ctx.xp, x), empty_like(ctx.xp, x)
        rowwise(ctx.xp, FORMS[approximate], (x,), (), (y, slope))
        if ctx.requires_grad:
            ctx.save(slope)
        return y

    def backward(ctx, dy: Array) -> Array:
        (slope,) = ctx.saved
        return parallel_ufunc(ctx.xp.multiply, dy, slope)


def gelu_tanh_forward(xp: ArrayModule, x: Array, y: Array, slope: Array) -> None:
    """Write y = x h and its slope h + 2 x u' h (1 - h), where h = (1 + tanh u) / 2.

    u, h and y are one array, one after the other; what is called x2 ends as 2 x u'.
    """
    # u = c0 (x + c1 x^3) = (c0 c1 x^2 + c0) x
    x2 = xp.multiply(x, x, out=empty_like(xp, x))
    u = xp.multiply(x2, C0 * C1, out=y)
    u += C0
    u *= x
    # h = (1 + tanh u) / 2,   in the place of u
    h = xp.tanh(u, out=u)
    h += 1
    h *= 0.5
    # 2 x u' = (6 c0 c1 x^2 + 2 c0) x,   in the place of x^2
    x2 *= 6 * C0 * C1
    x2 += 2 * C0
    x2 *= x
    # slope = (1 - h) h 2 x u' + h
    xp.subtract(1, h, out=slope)
    slope *= h
    slope *= x2
    slope += h
    # y = x h,   in the place of h
    h *= x


def gelu_erf_forward(xp: ArrayModule, x: Array, y: Array, slope: Array) -> None:
    """Write y and its slope in the exact form.

    F(x)  = (1 + erf(x / sqrt 2)) / 2           F'(x) = e^(-x^2/2) / sqrt(2 pi)
    y     = x F(x)
    slope = F(x) + x F'(x)
    """
    probability = 0.5 * (1 + erf(xp, x * math.sqrt(0.5)))
    density = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    xp.multiply(x, probability, out=y)
    xp.add(probability, x * density, out=slope)


FORMS = {"tanh": gelu_tanh_forward, "none": gelu_erf_forward}


def gelu_composed(x: Tensor, approximate: str = "tanh") -> Tensor:
    """The formula in small ops, each with a derivative of its own."""
    if approximate == "none":
        from tinygrad_llm.ops.erf import Erf

        return x * 0.5 * (1.0 + Erf.apply(x * math.sqrt(0.5)))
    return x * 0.5 * (1.0 + ((x + x * x * x * C1) * C0).tanh())


def check_form(approximate: str) -> None:
    """Raise a ConfigError unless there is a form of GELU of that name."""
    if approximate not in FORMS:
        raise ConfigError(
            f'gelu: approximate must be "tanh" or "none" (exact), got {approximate!r}.'
        )


def _tanh_parts(ctx: Gelu) -> tuple[Array, Array]:
    """x, and h of the form with tanh."""
    x = arguments_of(ctx)["x"]
    return x, 0.5 * (1 + ctx.xp.tanh(C0 * (x + C1 * x * x * x)))


def _product_rule_forgotten(ctx: Gelu, dy: Array) -> Array:
    _, h = _tanh_parts(ctx)
    return dy * h


def _inner_derivative_forgotten(ctx: Gelu, dy: Array) -> Array:
    x, h = _tanh_parts(ctx)
    return dy * (h + 2 * x * h * (1 - h))


def _slope_of_the_sigmoid_form(ctx: Gelu, dy: Array) -> Array:
    """That of y = x sigmoid(1.702 x), another approximation."""
    x = arguments_of(ctx)["x"]
    s = sigmoid_forward(ctx.xp, 1.702 * x)
    return dy * (s + 1.702 * x * s * (1 - s))


prove(
    "gelu",
    samples=lambda rng: [
        sample(rng.normal(size=(3, 5)) * 2),
        sample(rng.normal(size=(2, 7)) * 2, approximate="none", label="exact"),
        sample(np.array([-30.0, -0.5, 0.0, 0.5, 30.0]), label="far out"),
    ],
    wrong={
        "product rule forgotten": _product_rule_forgotten,
        "u' forgotten": _inner_derivative_forgotten,
        "slope of the sigmoid form": _slope_of_the_sigmoid_form,
    },
    composed=gelu_composed,
)
