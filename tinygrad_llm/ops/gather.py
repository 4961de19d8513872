"""Elements taken and put by an index along one axis: gather, scatter, index_select.

For three axes and axis = 1, place [i, j, k] of the index names the element [i, index[i, j, k], k].
The index may be shorter than x along the other axes, as in PyTorch.
"""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample
from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.registry import OPS, Sample
from tinygrad_llm.backend import Array, ArrayModule, array_module, is_array
from tinygrad_llm.backend.compute import add_at
from tinygrad_llm.backend.promotion import as_element
from tinygrad_llm.errors import DTypeError, IndexRangeError, ShapeError
from tinygrad_llm.ops._shape import Like, unbroadcast
from tinygrad_llm.ops.arithmetic import Operand


@register("gather", family="selection")
class Gather(Function):
    """y[i, j] = x[i, index[i, j]]    (axis = 1)

    Each y is one of the x. An x that was taken several times gets the sum of their gradients:

        dx = 0;  dx[i, index[i, j]] += dy[i, j]

    Shapes: y as index; index with as many axes as x.
    """

    fresh = True

    def forward(ctx, x: Array, axis: int, index: TensorLike) -> Array:
        ctx.shape = x.shape
        ctx.save(*places("gather", ctx.xp, x, index, axis))
        return x[ctx.saved]

    def backward(ctx, dy: Array) -> Array:
        dx = ctx.xp.zeros(ctx.shape, dy.dtype)
        add_at(ctx.xp, dx, ctx.saved, dy)
        return dx


class _Scattering(Function):
    """Base of scatter and scatter_add: checks index and source."""

    fresh = True
    src_like: Like

    def prepare(ctx, x: Array, src: Operand, axis: int, index: TensorLike) -> Array:
        """The source, cut to the index's shape, with the type of x."""
        axis = normalize_axis(ctx.name, axis, x.ndim)
        ctx.save(*places(ctx.name, ctx.xp, x, index, axis))
        shape = ctx.saved[axis].shape
        if is_array(src):
            src = ctx.source(src, shape, x.dtype)
        else:
            src = as_element(ctx.name, src, x.dtype)
        return ctx.xp.broadcast_to(src, shape)

    def source(ctx, src: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """An array as the source, in the type of x."""
        ctx.src_like = src.shape, src.dtype
        if src.shape not in ((), shape):
            raise ShapeError(
                f"{ctx.name}: src must be a number or have the index's shape {shape}, got "
                f"{src.shape}."
            )
        return src.astype(dtype, copy=False)

    def source_gradient(ctx, dy: Array) -> Array:
        """The gradient at the places written to."""
        return unbroadcast(dy[ctx.saved], *ctx.src_like)


@register("scatter", family="selection")
class Scatter(_Scattering):
    """y = x, and y[i, index[i, j]] = src[i, j]    (axis = 1)

    What was overwritten has no influence, what was put there has all of it:

        dx = dy, 0 at the places written to          dsrc[i, j] = dy[i, index[i, j]]

    Shapes: y as x; src a number, or as index. Where the index names an element twice, which of the
    two sources stays is not defined, nor are their gradients.
    """

    def forward(ctx, x: Array, src: Operand, axis: int, index: TensorLike) -> Array:
        src = ctx.prepare(x, src, axis, index)
        y = x.copy()
        y[ctx.saved] = src
        return y

    def backward(ctx, dy: Array) -> tuple[Array, Array | None]:
        dx = dy.copy()
        dx[ctx.saved] = 0
        return dx, ctx.source_gradient(dy) if ctx.needs[1] else None


@register("scatter_add", family="selection")
class ScatterAdd(_Scattering):
    """y = x, and y[i, index[i, j]] += src[i, j]    (axis = 1)

        dx = dy          dsrc[i, j] = dy[i, index[i, j]]

    Shapes: y as x; src a number, or as index, which may name an element several times.
    """

    fresh = False

    def forward(ctx, x: Array, src: Operand, axis: int, index: TensorLike) -> Array:
        src = ctx.prepare(x, src, axis, index)
        y = x.copy()
        add_at(ctx.xp, y, ctx.saved, src)
        return y

    def backward(ctx, dy: Array) -> tuple[Array, Array | None]:
        return dy, ctx.source_gradient(dy) if ctx.needs[1] else None


def places(op: str, xp: ArrayModule, x: Array, index: TensorLike, axis: int) -> tuple[Array, ...]:
    """One integer array for each axis of x, which together name the elements.

    Raises:
        ShapeError: the index has another number of axes, or is longer than x along another axis.
        IndexRangeError: it names an element outside.
        DTypeError: it does not hold integers.
    """
    axis = normalize_axis(op, axis, x.ndim)
    along = _integers(op, xp, index, x.shape[axis])
    others = [i for i in range(x.ndim) if i != axis]
    if along.ndim != x.ndim or any(along.shape[i] > x.shape[i] for i in others):
        raise ShapeError(
            f"{op}: the index of shape {along.shape} must have the axes of the tensor of shape "
            f"{x.shape}, and be no longer except along axis {axis}."
        )
    counting = (
        xp.arange(n).reshape((-1,) + (1,) * (x.ndim - 1 - i)) for i, n in enumerate(along.shape)
    )
    return tuple(along if i == axis else count for i, count in enumerate(counting))


def _integers(op: str, xp: ArrayModule, index: TensorLike, length: int) -> Array:
    """The index as an array of ``xp``; its range is checked where that stops no GPU."""
    given = array_of(op, index)
    array = given if is_array(given) else np.asarray(given)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{op}: the index must hold integers, got {array.dtype}. Use .long().")
    on_host = isinstance(array, np.ndarray) and array.size
    if on_host and not 0 <= array.min() <= array.max() < length:
        wrong = array.min() if array.min() < 0 else array.max()
        raise IndexRangeError(
            f"{op}: index {wrong} is out of range: expected 0 .. {length - 1}, the axis has "
            f"length {length}."
        )
    return xp.asarray(array)


def index_select(x: Tensor, axis: int, index: TensorLike) -> Tensor:
    """The slices of x along ``axis`` that the integers ``index`` (N,) name; an op of indexing."""
    axis = normalize_axis("index_select", axis, x.ndim)
    chosen = _integers("index_select", array_module(x.data), index, x.shape[axis])
    if chosen.ndim != 1:
        raise ShapeError(f"index_select: the index must have one axis, got shape {chosen.shape}.")
    return x[(*(slice(None),) * axis, chosen)]


OPS["index_select"] = index_select


def _gathered(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(3, 4))
    deep, front = rng.normal(size=(2, 3, 2)), np.array([[[1, 0], [0, 1]]])
    return [
        sample(x, axis=1, index=np.array([[0, 1], [3, 0], [2, 3]])),
        sample(x, axis=1, index=np.array([[1, 1, 1], [0, 2, 0]]), label="repeated, shorter"),
        sample(deep, axis=0, index=front, label="three axes"),
    ]


def _scattered(rng: np.random.Generator) -> list[Sample]:
    x, src, row = rng.normal(size=(3, 4)), rng.normal(size=(3, 2)), rng.normal(size=(1, 4))
    index = np.array([[0, 1], [3, 0], [2, 3]])
    return [
        sample(x, src, axis=1, index=index),
        sample(x, -1.5, axis=1, index=index, label="constant"),
        sample(x, row, axis=0, index=np.array([[2, 0, 1, 2]]), label="along axis 0"),
    ]


def _added(rng: np.random.Generator) -> list[Sample]:
    x, src = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    index = np.array([[0, 0], [3, 0], [2, 3]])
    return [
        sample(x, src, axis=1, index=index),
        sample(x, 2.0, axis=1, index=index, label="constant"),
    ]


def _last_copy_only(ctx: Gather, dy: Array) -> Array:
    """Mistake: dx[...] = dy, which keeps one of the gradients of a repeated element."""
    dx = ctx.xp.zeros(ctx.shape, dy.dtype)
    dx[ctx.saved] = dy
    return dx


def _both_get_all(ctx: Scatter, dy: Array) -> tuple[Array, Array | None]:
    """Mistake: dx = dy, for the elements too that were overwritten."""
    return dy, ctx.source_gradient(dy) if ctx.needs[1] else None


prove("gather", samples=_gathered, wrong={"last copy only": _last_copy_only})
prove("scatter", samples=_scattered, wrong={"both get all": _both_get_all})
prove("scatter_add", samples=_added, wrong={"scatter's rule": Scatter.backward})
