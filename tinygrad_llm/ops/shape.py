"""Ops that move elements without changing them. Backwards each element's gradient moves back."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample, true_gradient
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.promotion import cast_back, of_one_dtype
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._shape import broadcast_error, unbroadcast


@register("reshape", family="shape")
class Reshape(Function):
    """y = the elements of x, in C order, in another shape

        dx = dy in the shape of x

    Shapes: as given; one length may be -1 and follows from the others.
    """

    def forward(ctx, x: Array, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        try:
            return x.reshape(shape)
        except (ValueError, TypeError) as error:
            raise ShapeError(
                f"reshape: {x.size} elements of shape {x.shape} do not fill shape {shape}."
            ) from error

    def backward(ctx, dy: Array) -> Array:
        return dy.reshape(ctx.shape)


@register("transpose", family="shape")
class Transpose(Function):
    """y = x with its axes in the order given: axis i of y is axis axes[i] of x

        dx = dy with the inverse permutation

    Shapes: y.shape[i] = x.shape[axes[i]]; without axes, all reversed.
    """

    def forward(ctx, x: Array, axes: tuple[int, ...] | None = None) -> Array:
        axes = tuple(range(x.ndim))[::-1] if axes is None else axes
        axes = tuple(normalize_axis("transpose", a, x.ndim) for a in axes)
        if sorted(axes) != list(range(x.ndim)):
            raise ShapeError(
                f"transpose: expected a permutation of all {x.ndim} axes of shape {x.shape}, got "
                f"{axes}. To exchange two axes use swapaxes."
            )
        ctx.inverse = tuple(axes.index(i) for i in range(x.ndim))
        return x.transpose(axes)

    def backward(ctx, dy: Array) -> Array:
        return dy.transpose(ctx.inverse)


@register("swapaxes", family="shape")
class SwapAxes(Function):
    """y = x with two axes exchanged

        dx = dy with the same two exchanged back

    Shapes: as x, with the two lengths exchanged.
    """

    def forward(ctx, x: Array, axis1: int, axis2: int) -> Array:
        ctx.pair = tuple(normalize_axis("swapaxes", a, x.ndim) for a in (axis1, axis2))
        return x.swapaxes(*ctx.pair)

    def backward(ctx, dy: Array) -> Array:
        return dy.swapaxes(*ctx.pair)


@register("broadcast_to", family="shape")
class BroadcastTo(Function):
    """y = x repeated to a larger shape, without a copy

        dx = the sum of dy over all copies

    Shapes: x broadcastable to the shape given.
    """

    def forward(ctx, x: Array, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        if any(n < 0 for n in shape):
            raise ShapeError(f"broadcast_to: lengths must be at least 0, got {tuple(shape)}.")
        try:
            return ctx.xp.broadcast_to(x, shape)
        except ValueError as error:
            raise broadcast_error("broadcast_to", x, ctx.xp.empty(shape, bool)) from error

    def backward(ctx, dy: Array) -> Array:
        return unbroadcast(dy, ctx.shape)


@register("concatenate", family="shape")
class Concatenate(Function):
    """y = tensors one behind the other along an axis

    Each tensor gets the stretch of dy that is its own:

        dx_k = dy[..., start_k : start_k + n_k, ...]

    Shapes: equal except along the axis.
    """

    def forward(ctx, *xs: Array, axis: int = 0) -> Array:
        if not xs:
            raise ShapeError("concatenate: needs at least one tensor.")
        ctx.axis = normalize_axis("concatenate", axis, xs[0].ndim)
        ctx.lengths = [x.shape[ctx.axis] if x.ndim else 0 for x in xs]
        ctx.dtypes = [x.dtype for x in xs]
        try:
            return ctx.xp.concatenate(of_one_dtype(xs), axis=ctx.axis)
        except ValueError as error:
            raise ShapeError(
                f"concatenate: shapes {[x.shape for x in xs]} differ in another axis than {axis}."
            ) from error

    def backward(ctx, dy: Array) -> tuple[Array, ...]:
        starts = np.cumsum(ctx.lengths)[:-1].tolist()
        parts = ctx.xp.split(dy, starts, axis=ctx.axis)
        return cast_back(parts, ctx.dtypes)


@register("stack", family="shape")
class Stack(Function):
    """y = tensors side by side along a new axis

        dx_k = dy at position k of the new axis

    Shapes: all equal; y has one axis more.
    """

    def forward(ctx, *xs: Array, axis: int = 0) -> Array:
        if not xs or any(x.shape != xs[0].shape for x in xs):
            raise ShapeError(
                f"stack: needs tensors of one shape, got shapes {[x.shape for x in xs]}."
            )
        ctx.axis = normalize_axis("stack", axis, xs[0].ndim + 1)
        ctx.dtypes = [x.dtype for x in xs]
        return ctx.xp.stack(of_one_dtype(xs), axis=ctx.axis)

    def backward(ctx, dy: Array) -> tuple[Array, ...]:
        parts = ctx.xp.moveaxis(dy, ctx.axis, 0)
        return cast_back(parts, ctx.dtypes)


@register("split", family="shape")
class Split(Function):
    """y_1, ..., y_n = equal parts of x along an axis (views, no copy)

        dx = dy_1, ..., dy_n one behind the other; zeros for a part that was not used

    Shapes: the axis must be divisible by the number of sections.
    """

    fresh = True

    def forward(ctx, x: Array, sections: int, axis: int = -1) -> tuple[Array, ...]:
        ctx.axis = normalize_axis("split", axis, x.ndim)
        length = x.shape[ctx.axis]
        if sections < 1 or length % sections:
            raise ShapeError(
                f"split: axis {axis} of shape {x.shape} has length {length}, which is not "
                f"divisible into {sections} equal parts."
            )
        parts = tuple(ctx.xp.split(x, sections, axis=ctx.axis))
        ctx.part = parts[0].shape
        return parts

    def backward(ctx, *dys: Array | None) -> Array:
        like = next(dy for dy in dys if dy is not None)
        zeros = ctx.xp.zeros(ctx.part, like.dtype)
        return ctx.xp.concatenate([zeros if dy is None else dy for dy in dys], axis=ctx.axis)


def _cube(rng: np.random.Generator) -> Array:
    return rng.normal(size=(2, 3, 4))


def _permuted(rng: np.random.Generator) -> list[Sample]:
    equal_lengths = rng.normal(size=(3, 3, 3))  # every permutation fits here
    return [
        sample(_cube(rng), axes=(1, 2, 0)),
        sample(_cube(rng), label="reversed"),
        sample(equal_lengths, axes=(1, 2, 0), label="equal lengths"),
    ]


def _joined(rng: np.random.Generator) -> list[Sample]:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    return [sample(a, b), sample(a, b, axis=-1, label="last axis")]


def _joined_unequal(rng: np.random.Generator) -> list[Sample]:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 1))
    return [*_joined(rng), sample(a, b, axis=1, label="unequal lengths")]


def _same_permutation(ctx: Transpose, dy: Array) -> Array:
    """Mistake: the axes permuted once more in place of back, where the lengths let it pass."""
    again = tuple(ctx.inverse.index(i) for i in range(dy.ndim))
    fits = len(set(dy.shape)) == 1
    return dy.transpose(again if fits else ctx.inverse)


def _mean_of_copies(ctx: BroadcastTo, dy: Array) -> Array:
    """Mistake: the average of the copies' gradients, which together moved the result."""
    dx = true_gradient(ctx, dy)
    return dx * (dx.size / dy.size)


def _one_step_off(ctx: Concatenate | Stack, dy: Array) -> tuple[Array, ...]:
    """Mistake: each part is read one place too far along the axis."""
    return true_gradient(ctx, ctx.xp.roll(dy, 1, axis=ctx.axis))


prove(
    "reshape",
    samples=lambda rng: [sample(_cube(rng), shape=(6, -1))],
    wrong={"columns first": lambda ctx, dy: dy.reshape(ctx.shape, order="F")},
)
prove("transpose", samples=_permuted, wrong={"permutation not inverted": _same_permutation})
prove(
    "swapaxes",
    samples=lambda rng: [sample(_cube(rng), axis1=0, axis2=-1)],
    wrong={"reshaped in place": lambda ctx, dy: dy.reshape(dy.swapaxes(*ctx.pair).shape)},
)
prove(
    "broadcast_to",
    samples=lambda rng: [
        sample(rng.normal(size=(3, 1)), shape=(2, 3, 4)),
        sample(rng.normal(size=(1, 4)), shape=(2, 4), label="rows"),
    ],
    wrong={"mean in place of sum": _mean_of_copies},
)
prove("concatenate", samples=_joined_unequal, wrong={"one step off": _one_step_off})
prove("stack", samples=_joined, wrong={"one step off": _one_step_off})
prove(
    "split",
    samples=lambda rng: [sample(rng.normal(size=(2, 6)), sections=3)],
    wrong={"parts exchanged": lambda ctx, *dys: true_gradient(ctx, *dys[::-1])},
)
