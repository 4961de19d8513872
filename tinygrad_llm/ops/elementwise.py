"""Functions of one variable, applied to each element: y_i = f(x_i), so dx_i = dy_i f'(x_i).

Each op is a class. Its two methods take arrays, and ``ctx`` in place of ``self``: the object is the
op's node in the graph, and carries what ``forward`` saves over to ``backward``.

    dy, dx           the gradients of the loss with respect to y and to x
    dy/dx            the derivative of y with respect to x
    ctx.xp           numpy, or cupy for arrays on a GPU
    ctx.save(y)      keeps y; ctx.saved is the tuple of what was kept
    fresh = True     promises that backward returns a new array, which the engine may add into
    @register        enters the class under its name, with inputs to check it on (samples), and
                     wrong derivatives that the check must notice (wrong)

Integers are taken too, as float32 (`as_float`).
"""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, register, sample
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import FLOAT32
from tinygrad_llm.backend.promotion import as_float


def sigmoid_forward(xp: ArrayModule, x: Array) -> Array:
    """1 / (1 + e^-x) in the type of x; 16 bits are computed in float32."""
    if x.dtype.itemsize == 2:
        return sigmoid_forward(xp, x.astype(FLOAT32)).astype(x.dtype)
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x)))


def _normal(rng: np.random.Generator) -> list[Sample]:
    return [sample(rng.normal(size=(3, 5))), sample(rng.normal(size=()), label="scalar")]


def _positive(rng: np.random.Generator) -> list[Sample]:
    return [sample(rng.uniform(0.5, 3.0, (3, 5)))]


@register(
    "exp",
    family="elementwise",
    samples=_normal,
    one_variable=True,
    wrong={"x saved in place of y": lambda ctx, dy: dy * ctx.xp.log(ctx.saved[0])},
)
class Exp(Function):
    """y = e^x

    The exponential is its own derivative, dy/dx = y:

        dx = dy y

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.exp(as_float(x))
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * y


@register(
    "log",
    family="elementwise",
    samples=_positive,
    one_variable=True,
    wrong={"multiplied by x": lambda ctx, dy: dy * ctx.saved[0]},
)
class Log(Function):
    """y = ln x,  x > 0

        dx = dy / x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.log(as_float(x))

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return dy / x


@register(
    "tanh",
    family="elementwise",
    samples=_normal,
    one_variable=True,
    wrong={"y not squared": lambda ctx, dy: dy * (1 - ctx.saved[0])},
)
class Tanh(Function):
    """y = tanh x = (e^x - e^-x) / (e^x + e^-x)

    By the quotient rule dy/dx = 1 - y^2:

        dx = dy (1 - y^2)

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        y = ctx.xp.tanh(as_float(x))
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * (1 - y * y)


@register(
    "sigmoid",
    family="elementwise",
    samples=_normal,
    one_variable=True,
    wrong={"tanh's rule": lambda ctx, dy: dy * (1 - ctx.saved[0] ** 2)},
)
class Sigmoid(Function):
    """y = 1 / (1 + e^-x)

    dy/dx = e^-x / (1 + e^-x)^2 = y (1 - y):

        dx = dy y (1 - y)

    It is computed as e^min(x, 0) / (1 + e^-|x|): for x < 0 both parts of the fraction are
    multiplied by e^x. No power can overflow, and y is precise as long as it can be told from 0.

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        x = as_float(x)
        y = sigmoid_forward(ctx.xp, x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return dy * (y * (1 - y))


@register(
    "sin",
    family="elementwise",
    samples=_normal,
    one_variable=True,
    wrong={"a minus sign": lambda ctx, dy: -dy * ctx.xp.cos(ctx.saved[0])},
)
class Sin(Function):
    """y = sin x

        dx = dy cos x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.sin(as_float(x))

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return dy * ctx.xp.cos(x)


@register(
    "cos",
    family="elementwise",
    samples=_normal,
    one_variable=True,
    wrong={"minus sign lost": lambda ctx, dy: dy * ctx.xp.sin(ctx.saved[0])},
)
class Cos(Function):
    """y = cos x

        dx = -dy sin x

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array) -> Array:
        ctx.save(x)
        return ctx.xp.cos(as_float(x))

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return -dy * ctx.xp.sin(x)
