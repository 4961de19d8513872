"""Comparisons, argmax, one_hot: flat almost everywhere, so they carry no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result, tensor_of
from tinygrad_llm.backend import array_module
from tinygrad_llm.backend.promotion import agree, is_operand, of_one_dtype
from tinygrad_llm.errors import DTypeError, ShapeError
from tinygrad_llm.ops._ids import as_ids
from tinygrad_llm.ops._shape import broadcast_error


def _comparison(name: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def compare(a: Any, b: Any) -> Tensor:
        x = a.data if isinstance(a, Tensor) else b.data
        a, b = array_of(name, a), array_of(name, b)
        alike = type(a) is type(b) and a.dtype is b.dtype
        if not (alike or agree(a, b)) and is_operand(a) and is_operand(b):
            a, b = of_one_dtype((a, b))
        try:
            return make_result(getattr(array_module(x), name)(a, b), None)
        except ValueError as error:
            raise broadcast_error(name, a, b) from error
        except TypeError as error:
            raise DTypeError(f"{name}: expected numbers ({str(error).rstrip('.')}).") from error

    return compare


def _index_of_extreme(name: str) -> Callable[..., Tensor]:
    def index_of(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Index along ``axis``, or of the flattened tensor; int64.

        Raises:
            ShapeError: the axis (or the whole tensor) has no element, or there is no such axis.
        """
        if axis is not None:
            axis = normalize_axis(name, axis, max(x.ndim, 1))
        place = axis if x.ndim else None
        if 0 in (x.shape if place is None else x.shape[place : place + 1]):
            raise ShapeError(f"{name}: a tensor of shape {x.shape} has no element to choose.")
        return make_result(getattr(x.data, name)(axis=place, keepdims=keepdims), None)

    return index_of


def one_hot(ids: TensorLike, num_classes: int = -1) -> Tensor:
    """y[..., j] = 1 where j is the id, else 0; int64.

    Args:
        ids: integers (...) from 0 on.
        num_classes: length V of the new last axis; -1 for the largest id + 1.

    Returns:
        (..., V)

    Raises:
        IndexRangeError: an id is negative or not less than V.
        ShapeError: there is no id to tell V from.
    """
    ids = tensor_of(ids)
    if num_classes < 0:
        if not ids.size:
            raise ShapeError("one_hot: without any id, num_classes= must be given.")
        num_classes = int(ids.data.max()) + 1
    xp = array_module(ids.data)
    found = as_ids("one_hot", xp, ids, num_classes)
    return make_result((found[..., None] == xp.arange(num_classes)).astype("int64"), None)


for _name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
    OPS[_name] = _comparison(_name)
argmax = OPS["argmax"] = _index_of_extreme("argmax")
argmin = OPS["argmin"] = _index_of_extreme("argmin")
