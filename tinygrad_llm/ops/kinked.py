"""Functions with a kink: the derivative is a choice there, and 0 where the input has no influence.

Such zeros are written, not multiplied: 0 times an infinite gradient would be NaN.
"""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, register, sample
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import FLOAT32, is_integer
from tinygrad_llm.backend.promotion import as_element, result_dtype
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.select import where_or_zero, zero_where

Limit = float | np.generic | None


def _away_from_zero(rng: np.random.Generator) -> list[Sample]:
    """No element near the kink, where the derivative does not exist."""
    x = rng.uniform(0.2, 2.0, (3, 5)) * rng.choice([-1.0, 1.0], (3, 5))
    return [sample(x)]


@register(
    "relu",
    family="elementwise",
    samples=_away_from_zero,
    one_variable=True,
    wrong={"gradient everywhere": lambda ctx, dy: dy},
)
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
        return zero_where(ctx.xp, y <= 0, dy)  # at a NaN too, which shall be seen


@register(
    "abs",
    family="elementwise",
    samples=_away_from_zero,
    one_variable=True,
    wrong={"sign lost": lambda ctx, dy: dy},
)
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


def _between(rng: np.random.Generator) -> list[Sample]:
    x = np.array([-2.0, -0.7, -0.2, 0.3, 0.9, 1.8])
    return [sample(x, low=-1.0, high=1.0), sample(x, low=0.0, label="one limit")]


@register(
    "clip",
    family="elementwise",
    samples=_between,
    wrong={"gradient everywhere": lambda ctx, dy: dy},
)
class Clip(Function):
    """y = min(max(x, low), high)

    Inside the limits y = x; where a limit acts y does not depend on x:

        dx = dy [low <= x <= high]

    A limit is one number. With one for each element: ``maximum(x, low)``, ``minimum(x, high)``.

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array, low: Limit = None, high: Limit = None) -> Array:
        if low is None and high is None:
            raise ConfigError("clip: give low, high, or both.")
        if not (x.dtype is FLOAT32 and type(low) in _LIMITS and type(high) in _LIMITS):
            x, low, high = _alike(x, low, high)
        y = x if low is None else ctx.xp.maximum(x, low)
        y = y if high is None else ctx.xp.minimum(y, high)
        ctx.save(x == y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (inside,) = ctx.saved
        return where_or_zero(ctx.xp, inside, dy)


_LIMITS = (float, int, type(None))


def _alike(x: Array, low: Limit, high: Limit) -> tuple[Array, Limit, Limit]:
    """x and its limits in one type: integers between fractions become float32.

    Raises:
        DTypeError: a limit is no number, or x is of integers that cannot hold it.
    """
    limits = [limit for limit in (low, high) if limit is not None]
    dtype = result_dtype(x, *limits) if is_integer(x.dtype) else x.dtype
    low, high = (None if y is None else as_element("clip", y, dtype) for y in (low, high))
    return x.astype(dtype, copy=False), low, high
