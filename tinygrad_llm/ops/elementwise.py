"""Functions of one variable, applied to each element: y_i = f(x_i), so dx_i = dy_i f'(x_i)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, register, sample, true_gradient
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ConfigError


def _normal(rng: np.random.Generator) -> list[Any]:
    return [sample(rng.normal(size=(3, 5))), sample(rng.normal(size=()), label="scalar")]


def _positive(rng: np.random.Generator) -> list[Any]:
    return [sample(rng.uniform(0.5, 3.0, (3, 5)))]


def _away_from_zero(rng: np.random.Generator) -> list[Any]:
    """No element near the kink, where the derivative does not exist."""
    x = rng.uniform(0.2, 2.0, (3, 5)) * rng.choice([-1.0, 1.0], (3, 5))
    return [sample(x)]


@register(
    "exp", family="elementwise", samples=_normal, one_variable=True,
    wrong={"x in place of e^x": lambda ctx, dy: dy * ctx.xp.log(ctx.saved[0])},
)  # fmt: skip
class Exp(Function):
    """y = e^x

    The exponential is its own derivative, dy/dx = y:

        dx = dy y

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.exp(x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * y


@register(
    "log", family="elementwise", samples=_positive, one_variable=True,
    wrong={"times x": lambda ctx, dy: dy * ctx.saved[0]},
)  # fmt: skip
class Log(Function):
    """y = ln x,  x > 0

        dx = dy / x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.log(x)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return dy / x


@register(
    "sqrt", family="elementwise", samples=_positive, one_variable=True,
    wrong={"factor 2 lost": lambda ctx, dy: dy / ctx.saved[0]},
)  # fmt: skip
class Sqrt(Function):
    """y = x^(1/2),  x >= 0

    dy/dx = 1 / (2 x^(1/2)) = 1 / (2 y):

        dx = dy / (2 y)

    Shapes: x, y equal. At x = 0 the derivative is infinite.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.sqrt(x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy / (2 * y)


@register(
    "tanh", family="elementwise", samples=_normal, one_variable=True,
    wrong={"y not squared": lambda ctx, dy: dy * (1 - ctx.saved[0])},
)  # fmt: skip
class Tanh(Function):
    """y = tanh x = (e^x - e^-x) / (e^x + e^-x)

    By the quotient rule dy/dx = 1 - y^2:

        dx = dy (1 - y^2)

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.tanh(x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * (1 - y * y)


@register(
    "sigmoid", family="elementwise", samples=_normal, one_variable=True,
    wrong={"tanh's rule": lambda ctx, dy: dy * (1 - ctx.saved[0] ** 2)},
)  # fmt: skip
class Sigmoid(Function):
    """y = 1 / (1 + e^-x)

    dy/dx = e^-x / (1 + e^-x)^2 = y (1 - y):

        dx = dy y (1 - y)

    It is computed as (1 + tanh(x / 2)) / 2, which is the same function and cannot overflow.

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = 0.5 * ctx.xp.tanh(0.5 * x) + 0.5
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * (y * (1 - y))


@register(
    "relu", family="elementwise", samples=_away_from_zero, one_variable=True,
    wrong={"gradient everywhere": lambda ctx, dy: dy},
)  # fmt: skip
class Relu(Function):
    """y = max(x, 0)

    dy/dx = 1 where x > 0 and 0 where x < 0; at the kink 0 is chosen, as PyTorch does:

        dx = dy [x > 0]

    Shapes: x, y equal. Source: Nair and Hinton, "Rectified linear units", ICML 2010.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.maximum(x, 0)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * (y > 0)


@register(
    "abs", family="elementwise", samples=_away_from_zero, one_variable=True,
    wrong={"sign lost": lambda ctx, dy: dy},
)  # fmt: skip
class Abs(Function):
    """y = |x|

    dy/dx = sign x, and 0 at x = 0:

        dx = dy sign(x)

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.abs(x)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return dy * ctx.xp.sign(x)


@register(
    "sin", family="elementwise", samples=_normal, one_variable=True,
    wrong={"sign": lambda ctx, dy: -true_gradient(ctx, dy)},
)  # fmt: skip
class Sin(Function):
    """y = sin x

        dx = dy cos x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.sin(x)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return dy * ctx.xp.cos(x)


@register(
    "cos", family="elementwise", samples=_normal, one_variable=True,
    wrong={"sign": lambda ctx, dy: -true_gradient(ctx, dy)},
)  # fmt: skip
class Cos(Function):
    """y = cos x

        dx = -dy sin x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.cos(x)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return -dy * ctx.xp.sin(x)


def _between(rng: np.random.Generator) -> list[Any]:
    x = np.array([-2.0, -0.7, -0.2, 0.3, 0.9, 1.8])
    return [sample(x, low=-1.0, high=1.0), sample(x, low=0.0, label="one limit")]


@register(
    "clip", family="elementwise", samples=_between,
    wrong={"gradient everywhere": lambda ctx, dy: dy},
)  # fmt: skip
class Clip(Function):
    """y = min(max(x, low), high)

    Inside the limits y = x; where a limit acts y does not depend on x:

        dx = dy [low <= x <= high]

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array, low: float | None = None, high: float | None = None) -> Array:
        if low is None and high is None:
            raise ConfigError("clip: give low, high, or both.")
        y = x if low is None else ctx.xp.maximum(x, low)
        y = y if high is None else ctx.xp.minimum(y, high)
        ctx.save(x == y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (inside,) = ctx.saved
        return dy * inside
