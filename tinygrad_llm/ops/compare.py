"""Comparisons and argmax: step functions, flat almost everywhere, so they carry no gradient."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import array_module
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._shape import broadcast_error, normalize_axes


def _comparison(name: str) -> Any:
    def compare(a: Any, b: Any) -> Tensor:
        x = a.data if isinstance(a, Tensor) else b.data
        a = a.data if isinstance(a, Tensor) else a
        b = b.data if isinstance(b, Tensor) else b
        try:
            return make_result(getattr(array_module(x), name)(a, b), None)
        except ValueError as error:
            raise broadcast_error(name, a, b) from error

    return compare


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the largest element along ``axis``, or of the flattened tensor; int64.

    Raises:
        ShapeError: the axis (or the whole tensor) has no element, or there is no such axis.
    """
    axes = normalize_axes("argmax", axis, x.ndim)
    if 0 in [x.shape[i] for i in axes]:
        raise ShapeError(f"argmax: a tensor of shape {x.shape} has no element to choose.")
    axis = axes[0] if axis is not None and axes else None
    return make_result(x.data.argmax(axis=axis, keepdims=keepdims), None)


for _name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
    OPS[_name] = _comparison(_name)
OPS["argmax"] = argmax
