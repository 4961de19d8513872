"""Sums, means, variances and extremes over axes.

A reduction gives many x one y. Backwards, that y's gradient is spread over all the x it came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, register, sample
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._shape import normalize_axes

Axis = int | tuple[int, ...] | None


def _axes(rng: np.random.Generator) -> list[Any]:
    x = rng.permutation(24).reshape(2, 3, 4) / 7.0  # all different: the largest one is unique
    return [
        sample(x),
        sample(x, axis=1),
        sample(x, axis=-1, keepdims=True, label="keepdims"),
        sample(x, axis=(0, 2), label="two axes"),
    ]


class Reduction(Function):
    """Base of the reductions: checks the axes, and spreads a gradient back over them."""

    def prepare(self, x: Array, axis: Axis, keepdims: bool) -> tuple[int, ...]:
        """The reduced axes, counted from the front; remembers the shapes."""
        axes = normalize_axes(self.name, axis, x.ndim)
        self.shape = x.shape
        self.kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        self.count = int(np.prod([x.shape[i] for i in axes], dtype=np.int64))
        return axes

    def spread(self, dy: Array) -> Array:
        """``dy`` with the reduced axes back, as long as they were (a view)."""
        return self.xp.broadcast_to(dy.reshape(self.kept), self.shape)


def _mean_of_gradient(ctx: Any, dy: Array) -> Array:
    return ctx.spread(dy) / ctx.count


@register("sum", family="reduction", samples=_axes, wrong={"mean's rule": _mean_of_gradient})
class Sum(Reduction):
    """y = sum_i x_i over the chosen axes

    dy/dx_i = 1: each element gets the whole gradient.

        dx_i = dy

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        return x.sum(axis=axes, keepdims=keepdims)

    def backward(ctx, dy: Array) -> Array:
        return ctx.spread(dy)


@register(
    "mean", family="reduction", samples=_axes,
    wrong={"sum's rule": lambda ctx, dy: ctx.spread(dy)},
)  # fmt: skip
class Mean(Reduction):
    """y = (1/n) sum_i x_i over the chosen axes

        dx_i = dy / n

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    fresh = True

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        return x.mean(axis=axes, keepdims=keepdims)

    def backward(ctx, dy: Array) -> Array:
        return ctx.spread(dy / ctx.count) + 0  # + 0 makes an array of its own


@register(
    "var", family="reduction", samples=lambda rng: [
        *_axes(rng), sample(rng.normal(size=(5,)), correction=0, label="biased")],
    wrong={"n for n - correction": lambda ctx, dy: ctx.spread(dy) * ctx.saved[0] * 2 / ctx.count
           if ctx.correction else ctx.spread(dy) * ctx.saved[0] / ctx.count},
)  # fmt: skip
class Var(Reduction):
    """y = sum_i (x_i - m)^2 / (n - c),  m = (1/n) sum_i x_i,  c = correction

    By the chain rule dy/dx_i = 2/(n-c) [ (x_i - m) - (1/n) sum_j (x_j - m) ], and the second
    sum is zero, for deviations from the mean add up to nothing:

        dx_i = dy 2 (x_i - m) / (n - c)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    c = 1 is the unbiased estimate (PyTorch's default), c = 0 that of layer_norm.
    """

    fresh = True

    def forward(
        ctx, x: Array, axis: Axis = None, keepdims: bool = False, correction: int = 1
    ) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        ctx.correction = correction
        deviation = x - x.mean(axis=axes, keepdims=True)
        ctx.save(deviation)
        return (deviation * deviation).sum(axis=axes, keepdims=keepdims) / (ctx.count - correction)

    def backward(ctx, dy: Array) -> Array:
        (deviation,) = ctx.saved
        n = ctx.count - ctx.correction
        return ctx.spread(dy * (2 / n if n > 0 else np.nan)) * deviation


class _Extreme(Reduction):
    """max and min: the gradient goes to the winner, and ties share it."""

    fresh = True

    def refuse_empty(self) -> None:
        """Raise a ShapeError where an extreme of no elements is asked for."""
        if not self.count:
            raise ShapeError(
                f"{self.name}: the chosen axes of a tensor of shape {self.shape} hold no element "
                "to choose from. Check for the length 0 before, or reduce along another axis."
            )

    def choose(self, y: Array, x: Array) -> None:
        winners = x == y.reshape(self.kept)
        self.save(winners)

    def backward(ctx, dy: Array) -> Array:
        (winners,) = ctx.saved
        axes = tuple(i for i, n in enumerate(ctx.kept) if n == 1)
        ties = winners.sum(axis=axes, keepdims=True)
        return (ctx.spread(dy) * winners / ties).astype(dy.dtype, copy=False)


def _everyone_wins(ctx: Any, dy: Array) -> Array:
    return ctx.spread(dy) + 0


@register("max", family="reduction", samples=_axes, wrong={"everyone wins": _everyone_wins})
class Max(_Extreme):
    """y = max_i x_i over the chosen axes

    Only the largest element moves y: dy/dx_i = 1 for it and 0 for the others. Where k elements
    are equally large the derivative does not exist; each gets 1/k, the middle of what is possible.

        dx_i = dy [x_i = y] / k

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        ctx.refuse_empty()
        y = x.max(axis=axes, keepdims=keepdims)
        ctx.choose(ctx.xp.asarray(y), x)
        return y


@register("min", family="reduction", samples=_axes, wrong={"everyone wins": _everyone_wins})
class Min(_Extreme):
    """y = min_i x_i over the chosen axes

        dx_i = dy [x_i = y] / k,  k the number of equally small elements (see max)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        ctx.refuse_empty()
        y = x.min(axis=axes, keepdims=keepdims)
        ctx.choose(ctx.xp.asarray(y), x)
        return y
