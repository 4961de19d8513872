"""Choosing between two tensors, element by element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample
from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, ArrayModule, is_array
from tinygrad_llm.backend.promotion import as_element, converted, result_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import Like, broadcast_error, unbroadcast
from tinygrad_llm.ops.arithmetic import Operand, Pair, TwoOperands


def _as_mask(op: str, xp: ArrayModule, mask: TensorLike) -> Array:
    array = xp.asarray(array_of(op, mask))
    if array.dtype.kind != "b":
        raise DTypeError(
            f"{op}: the mask must be boolean, got {array.dtype}. Compare something: mask != 0."
        )
    return array


def choose(xp: ArrayModule, cond: Array, a: Operand, b: Operand) -> Array:
    """a where the condition is true, b elsewhere, of the type that both together have."""
    dtype = result_dtype(a, b)
    # A number alone has NumPy's type in `where`, and CuPy makes float32 of bfloat16.
    return xp.where(cond, *converted(a, b, dtype)).astype(dtype, copy=False)


def where_or_zero(xp: ArrayModule, mask: Array, dy: Array) -> Array:
    """dy where the mask is true, 0 elsewhere: a product would make NaN of 0 times infinity."""
    y = xp.where(mask, dy, 0)
    return y if y.dtype is dy.dtype else y.astype(dy.dtype)


def zero_where(xp: ArrayModule, mask: Array, dy: Array) -> Array:
    """0 where the mask is true, dy elsewhere."""
    y = xp.where(mask, 0, dy)
    return y if y.dtype is dy.dtype else y.astype(dy.dtype)


@register("where", family="selection")
class Where(Function):
    """y = a where the condition is true, b elsewhere

    The branch that was not taken had no influence and gets zero:

        da = dy [cond]          db = dy [not cond]

    The zeros are written, not multiplied: an infinite gradient of the other branch cannot turn
    into 0 * inf = NaN.

    Shapes: cond, a, b broadcastable.
    """

    fresh = True
    a_like: Like
    b_like: Like

    def forward(ctx, cond: TensorLike, a: Operand, b: Operand) -> Array:
        mask = _as_mask("where", ctx.xp, cond)
        ctx.save(mask)
        if is_array(a):
            ctx.a_like = a.shape, a.dtype
        if is_array(b):
            ctx.b_like = b.shape, b.dtype
        try:
            return choose(ctx.xp, mask, a, b)
        except ValueError as error:
            raise broadcast_error("where", a, b) from error

    def backward(ctx, dy: Array) -> tuple[None, Array | None, Array | None]:
        (cond,) = ctx.saved
        xp = ctx.xp
        da = unbroadcast(where_or_zero(xp, cond, dy), *ctx.a_like) if ctx.needs[1] else None
        db = unbroadcast(zero_where(xp, cond, dy), *ctx.b_like) if ctx.needs[2] else None
        return None, da, db


@register("masked_fill", family="selection")
class MaskedFill(Function):
    """y = value where the mask is true, x elsewhere

        dx = dy [not mask]

    Shapes: mask broadcastable to x; y as x. With value = -inf before a softmax the masked
    elements get probability 0: the causal mask of attention.
    """

    fresh = True

    def forward(ctx, x: Array, mask: TensorLike, value: float) -> Array:
        filled = _as_mask("masked_fill", ctx.xp, mask)
        value = as_element("masked_fill", value, x.dtype)
        ctx.save(filled)
        try:
            return choose(ctx.xp, ctx.xp.broadcast_to(filled, x.shape), value, x)
        except ValueError as error:
            raise broadcast_error("masked_fill", x, filled) from error

    def backward(ctx, dy: Array) -> Array:
        (mask,) = ctx.saved
        return zero_where(ctx.xp, mask, dy)


class _Larger(TwoOperands):
    """Base of maximum and minimum: the gradient goes to the chosen one, and equal ones share it."""

    def pick(ctx, ufunc: Callable[..., Array], a: Operand, b: Operand) -> Array:
        """The chosen elements; keeps whose they are."""
        y = ctx.compute(ufunc, a, b)
        if ctx.requires_grad:
            ctx.save(*((x == y) | (x != x) for x in (a, b)))  # a NaN wins, and equals nothing
        return y

    def backward(ctx, dy: Array) -> Pair:
        a_won, b_won = ctx.saved
        share = ctx.xp.where(a_won & b_won, dy * 0.5, dy)
        da = db = None
        if ctx.needs[0]:
            da = unbroadcast(where_or_zero(ctx.xp, a_won, share), *ctx.a_like)
        if ctx.needs[1]:
            db = unbroadcast(where_or_zero(ctx.xp, b_won, share), *ctx.b_like)
        return da, db


@register("maximum", family="selection")
class Maximum(_Larger):
    """y = the larger of a and b

    The smaller one had no influence. Where both are equal the derivative does not exist; each gets
    half, the middle of what is possible:

        da = dy ([a > b] + [a = b] / 2)          db = dy ([b > a] + [a = b] / 2)

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Operand, b: Operand) -> Array:
        return ctx.pick(ctx.xp.maximum, a, b)


@register("minimum", family="selection")
class Minimum(_Larger):
    """y = the smaller of a and b

        da = dy ([a < b] + [a = b] / 2)          db = dy ([b < a] + [a = b] / 2)   (see maximum)

    Shapes: a, b broadcastable; y their common shape.
    """

    def forward(ctx, a: Operand, b: Operand) -> Array:
        return ctx.pick(ctx.xp.minimum, a, b)


def _choices(rng: np.random.Generator) -> list[Sample]:
    mask = rng.random((3, 4)) < 0.5
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    return [
        sample(mask, a, b),
        sample(mask, a, rng.normal(size=(4,)), label="broadcast"),
        sample(mask, a, 0.0, label="constant"),
    ]


def _masks(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(2, 4, 4))
    causal = np.triu(np.ones((4, 4), dtype=bool), 1)
    return [sample(x, mask=causal, value=-1.5), sample(x, mask=x > 0, value=0.0)]


def _two(rng: np.random.Generator) -> list[Sample]:
    """No two elements near each other, where the derivative does not exist."""
    a, b = np.split(rng.permutation(24).reshape(6, 4) / 7.0, 2)
    return [sample(a, b), sample(a, b[0], label="broadcast"), sample(a, 1.5, label="constant")]


def _both_get_all(ctx: Where | _Larger, dy: Array) -> Pair:
    """Mistake: the sum's rule, dy for the one that was not chosen, too."""
    need_a, need_b = ctx.needs[-2:]
    da = unbroadcast(dy, *ctx.a_like) if need_a else None
    return da, unbroadcast(dy, *ctx.b_like) if need_b else None


prove(
    "where",
    samples=_choices,
    wrong={"both get all": lambda ctx, dy: (None, *_both_get_all(ctx, dy))},
)
prove("masked_fill", samples=_masks, wrong={"gradient through the filled": lambda ctx, dy: dy})
prove("maximum", samples=_two, wrong={"both get all": _both_get_all})
prove("minimum", samples=_two, wrong={"both get all": _both_get_all})
