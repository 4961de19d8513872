"""Bits, conditions and rounding: all are step functions, so they carry no gradient."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.arrays import array_of
from tinygrad_llm.autograd.axes import normalize_axes
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import array_module
from tinygrad_llm.backend.promotion import of_one_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import broadcast_error


def _bitwise(name: str) -> Any:
    def combine(a: Any, b: Any) -> Tensor:
        xp = array_module((a if isinstance(a, Tensor) else b).data)
        a, b = of_one_dtype((_bits(name, a), _bits(name, b)))
        try:
            return make_result(getattr(xp, name)(a, b), None)
        except ValueError as error:
            raise broadcast_error(name, a, b) from error

    return combine


def _bits(name: str, x: Any) -> Any:
    """The array or number of ``x``, which must be boolean or whole."""
    x = array_of(name, x)
    kind = x.dtype.kind if hasattr(x, "dtype") else "i" if isinstance(x, int) else "f"
    if kind not in "biu":
        raise DTypeError(
            f"{name}: expected booleans or integers, got {getattr(x, 'dtype', type(x).__name__)}. "
            "Compare something: (x > 0) & (x < 1)."
        )
    return x


def invert(x: Tensor) -> Tensor:
    """``~x``: not, for booleans; every bit the other way, for integers."""
    return make_result(array_module(x.data).invert(_bits("invert", x)), None)


def _over_axes(name: str) -> Any:
    def reduce(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
        axes = normalize_axes(name, axis, x.ndim)
        answer = getattr(array_module(x.data), name)
        return make_result(answer(x.data, axis=axes, keepdims=keepdims), None)

    return reduce


def _of_each_element(name: str) -> Any:
    def step(x: Tensor) -> Tensor:
        try:
            return make_result(getattr(array_module(x.data), name)(x.data), None)
        except TypeError as error:
            raise DTypeError(f"{name}: expected numbers, got {x.dtype}.") from error

    return step


def nonzero(x: Tensor) -> Tensor:
    """Places of the elements that are not 0, in C order: int64 (number found, ndim)."""
    return make_result(array_module(x.data).argwhere(x.data), None)


for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    OPS[_name] = _bitwise(_name)
for _name in ("all", "any"):
    OPS[_name] = _over_axes(_name)
for _name in ("isnan", "isinf", "isfinite", "floor", "ceil", "round", "sign"):
    OPS[_name] = _of_each_element(_name)
OPS["invert"] = invert
OPS["nonzero"] = nonzero
