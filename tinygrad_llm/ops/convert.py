"""Another type, device or memory: the values stay, the gradient travels back the same way."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, register, sample
from tinygrad_llm.backend import Array, device_of
from tinygrad_llm.backend import to_device as move
from tinygrad_llm.backend.dtypes import DTypeLike


@register(
    "cast",
    family="conversion",
    samples=lambda rng: [sample(rng.normal(size=(3,)), dtype=np.dtype(np.float64))],
    wrong={"derivative of the steps, 0": lambda ctx, dy: 0 * dy},
)
class Cast(Function):
    """y = x rounded to another floating-point type

    Rounding is a staircase, whose true derivative is zero almost everywhere; what is wanted is
    that of the line it follows:

        dx = dy in the type of x

    Shapes: x, y equal.
    """

    def forward(ctx, x: Array, dtype: DTypeLike) -> Array:
        ctx.dtype = x.dtype
        return x.astype(dtype)

    def backward(ctx, dy: Array) -> Array:
        return dy.astype(ctx.dtype)


@register(
    "clone",
    family="conversion",
    samples=lambda rng: [sample(rng.normal(size=(2, 3)))],
    wrong={"cut off, as by detach": lambda ctx, dy: 0 * dy},
)
class Clone(Function):
    """y = x, in memory of its own and in C order

        dx = dy

    Shapes: x, y equal.
    """

    def forward(ctx, x: Array) -> Array:
        return x.copy()

    def backward(ctx, dy: Array) -> Array:
        return dy


@register(
    "to_device",
    family="conversion",
    samples=lambda rng: [sample(rng.normal(size=(3,)), device="cpu")],
    wrong={"cut off, as by detach": lambda ctx, dy: 0 * dy},
)
class ToDevice(Function):
    """y = x in the memory of another device

        dx = dy in the memory where x lies

    Shapes: x, y equal.
    """

    def forward(ctx, x: Array, device: str) -> Array:
        ctx.home = device_of(x)
        return move(x, device)

    def backward(ctx, dy: Array) -> Array:
        return move(dy, ctx.home)
