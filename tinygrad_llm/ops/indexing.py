"""Reading and writing by index. Backwards each element's gradient goes back to its place."""

from __future__ import annotations

import math

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample, true_gradient
from tinygrad_llm.autograd.arrays import Index, plain_index, write_at
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, ArrayModule, is_array
from tinygrad_llm.backend.compute import add_at
from tinygrad_llm.errors import IndexRangeError
from tinygrad_llm.ops._shape import Like, unbroadcast
from tinygrad_llm.ops.arithmetic import Operand


def _arrays(index: Index) -> list[Array]:
    """The arrays in an index."""
    return [i for i in (index if isinstance(index, tuple) else (index,)) if is_array(i)]


def _places_differ(index: Index) -> bool:
    """Whether no element can be met twice; only arrays of integers may repeat one."""
    return all(i.dtype.kind == "b" for i in _arrays(index))


@register("getitem", family="shape")
class GetItem(Function):
    """y = x[index]: numbers, slices, None, ..., boolean masks, integer arrays, as in NumPy

    Each element of y is one element of x. An element that was taken several times gets the sum
    (np.add.at), one that was not taken gets zero:

        dx = 0;  dx[index] += dy

    Shapes: as in NumPy.
    """

    fresh = True

    def forward(ctx, x: Array, index: Index) -> Array:
        ctx.shape, ctx.index = x.shape, plain_index(index)
        ctx.save(*_arrays(ctx.index))
        try:
            return x[ctx.index]
        except IndexError as error:
            raise IndexRangeError(f"indexing: shape {x.shape}: {error}.") from error

    def backward(ctx, dy: Array) -> Array:
        dx = ctx.xp.zeros(ctx.shape, dy.dtype)
        if _places_differ(ctx.index):
            dx[ctx.index] = dy
        else:
            add_at(ctx.xp, dx, ctx.index, dy)
        return dx


@register("setitem", family="shape")
class SetItem(Function):
    """y = x, then y[index] = v: what ``x[index] = v`` records

    An element of y is one of x or one of v, never both:

        dx = dy;  dx[index] = 0         dv = dy[index], summed over the copies of a repeated v

    Where an array of integers names a place several times, the last value stays, and the others,
    which had no influence, get zero.

    Shapes: as in NumPy; v broadcastable to x[index], y as x.
    """

    value_like: Like

    def forward(ctx, x: Array, value: Operand, index: Index) -> Array:
        ctx.index = plain_index(index)
        ctx.save(*_arrays(ctx.index))
        if is_array(value):
            ctx.value_like = value.shape, value.dtype
        y = x.copy()
        write_at(y, ctx.index, value)
        return y

    def backward(ctx, dy: Array) -> tuple[Array | None, Array | None]:
        dx = dvalue = None
        if ctx.needs[1]:
            dvalue = ctx.xp.asarray(dy[ctx.index])
            if not _places_differ(ctx.index):
                dvalue = dvalue * _stays(ctx.xp, dy.shape, ctx.index, dvalue.shape)
            shape, dtype = ctx.value_like
            leading_ones = (1,) * (len(shape) - dvalue.ndim)  # which NumPy ignores in a value
            dvalue = unbroadcast(dvalue.reshape(leading_ones + dvalue.shape), shape, dtype)
        if ctx.needs[0]:
            dx = ctx.xp.array(dy)  # a copy
            dx[ctx.index] = 0
        return dx, dvalue


def _stays(xp: ArrayModule, shape: tuple[int, ...], index: Index, part: tuple[int, ...]) -> Array:
    """Whether each value written to x[index] (of shape ``part``) is the last one at its place."""
    number = xp.arange(math.prod(part)).reshape(part)
    last = xp.zeros(shape, number.dtype)
    last[index] = number
    return last[index] == number


def _read_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(2, 3, 4))
    return [
        sample(x, index=1),
        sample(x, index=(slice(None), slice(0, 3, 2)), label="slices"),
        sample(x, index=(..., None, -1), label="new axis"),
        sample(x, index=np.array([0, 1, 1, 1]), label="repeated index"),
        sample(x, index=x > 0, label="mask"),
        sample(x, index=(np.array([0, 1]), slice(None), np.array([3, 3])), label="two arrays"),
    ]


def _write_samples(rng: np.random.Generator) -> list[Sample]:
    def x() -> Array:
        return rng.normal(size=(3, 4))

    return [
        sample(x(), rng.normal(size=(4,)), index=1),
        sample(x(), rng.normal(size=(2, 1)), index=(slice(0, 3, 2), [1, 3]), label="broadcast"),
        sample(x(), rng.normal(size=()), index=np.eye(3, 4, dtype=bool), label="mask"),
        sample(x(), rng.normal(size=(3, 4)), index=np.array([2, 0, 2]), label="repeated index"),
        sample(x(), 0.0, index=(..., -1), label="a number"),
    ]


def _last_copy_only(ctx: GetItem, dy: Array) -> Array:
    """Mistake: dx[index] = dy, which keeps one of the gradients of a repeated element."""
    dx = ctx.xp.zeros(ctx.shape, dy.dtype)
    dx[ctx.index] = dy
    return dx


def _through_the_overwritten(ctx: SetItem, dy: Array) -> tuple[Array, Array | None]:
    """Mistake: dx = dy, for the elements too that are no longer there."""
    _, dvalue = true_gradient(ctx, dy)
    return dy, dvalue


def _replaced_counted(ctx: SetItem, dy: Array) -> tuple[Array | None, Array | None]:
    """Mistake: dv = dy[index], for values too that a later one at the same place replaced."""
    dx, dvalue = true_gradient(ctx, dy)
    if dvalue is None or _places_differ(ctx.index):
        return dx, dvalue
    return dx, dy[ctx.index]


prove("getitem", samples=_read_samples, wrong={"last copy only": _last_copy_only})
prove(
    "setitem",
    samples=_write_samples,
    wrong={
        "through the overwritten": _through_the_overwritten,
        "replaced values counted": _replaced_counted,
    },
)
