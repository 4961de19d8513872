"""Elements put in order: argsort, sort, topk, and extremes with their index.

The order is a step function and carries no gradient. The values are taken by it with `gather`,
whose backward sends each gradient to the element that was taken.
"""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.methods.selection import Chosen
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import array_module
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops.compare import argmax, argmin
from tinygrad_llm.ops.gather import Gather


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """Indices (int64) that put x in order along ``axis``; equal elements keep theirs."""
    if not x.ndim:
        return make_result(array_module(x.data).zeros((), "int64"), None)
    axis = normalize_axis("argsort", axis, x.ndim)
    xp = array_module(x.data)
    data = x.data.astype(accumulate_dtype(x.dtype), copy=False)  # bfloat16 has no order with NaN
    if not descending:
        return make_result(xp.argsort(data, axis=axis, kind="stable"), None)
    # Rising order of the reversed elements, read backwards: equal ones then keep their order too.
    order = xp.flip(xp.argsort(xp.flip(data, axis), axis=axis, kind="stable"), axis)
    return make_result(data.shape[axis] - 1 - order, None)


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Chosen:
    """(values, indices) of x in order along ``axis``."""
    indices = argsort(x, axis, descending)
    return Chosen(_take(x, axis, indices), indices)


def topk(x: Tensor, k: int, axis: int = -1, largest: bool = True) -> Chosen:
    """(values, indices) of the ``k`` largest (or smallest) elements along ``axis``, in order.

    Raises:
        ShapeError: there are fewer than ``k``, or there is no such axis.
    """
    place = normalize_axis("topk", axis, x.ndim)
    if not hasattr(k, "__index__") or not 0 <= k <= x.shape[place]:
        raise ShapeError(
            f"topk: k must be 0 .. {x.shape[place]}, the length of axis {axis} of shape {x.shape}, "
            f"got {k}."
        )
    indices = argsort(x, place, descending=largest)[(slice(None),) * place + (slice(0, k),)]
    return Chosen(_take(x, place, indices), indices)


def _with_index(index_of: Callable[..., Tensor]) -> Callable[..., Chosen]:
    def extreme(x: Tensor, axis: int, keepdims: bool = False) -> Chosen:
        indices = index_of(x, axis=axis, keepdims=True)
        values = _take(x, axis, indices)
        if keepdims or not x.ndim:
            return Chosen(values, indices)
        return Chosen(values.squeeze(axis), indices.squeeze(axis))

    return extreme


def _take(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    return Gather.apply(x, axis=axis, index=indices.data) if x.ndim else x


OPS["argsort"] = argsort
OPS["sort"] = sort
OPS["topk"] = topk
OPS["max_with_index"] = _with_index(argmax)
OPS["min_with_index"] = _with_index(argmin)
