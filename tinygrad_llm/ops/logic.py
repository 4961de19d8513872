"""Bits, conditions and rounding: all are step functions, so they carry no gradient."""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.axes import Axis, normalize_axes
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.backend.promotion import of_one_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops._shape import broadcast_error


def _bitwise(name: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def combine(a: TensorLike, b: TensorLike) -> Tensor:
        xp = array_module(array_of(name, a if isinstance(a, Tensor) else b))
        x, y = of_one_dtype((_bits(name, a), _bits(name, b)))
        try:
            return make_result(getattr(xp, name)(x, y), None)
        except ValueError as error:
            raise broadcast_error(name, x, y) from error

    return combine


def _bits(name: str, x: TensorLike) -> Array | int:
    """The array or number of ``x``, which must be boolean or whole."""
    bits = array_of(name, x)
    kind = bits.dtype.kind if hasattr(bits, "dtype") else "i" if isinstance(bits, int) else "f"
    if kind not in "biu":
        raise DTypeError(
            f"{name}: expected booleans or integers, got "
            f"{getattr(bits, 'dtype', type(bits).__name__)}. Compare something: (x > 0) & (x < 1)."
        )
    return bits


def invert(x: Tensor) -> Tensor:
    """``~x``: not, for booleans; every bit the other way, for integers."""
    return make_result(array_module(x.data).invert(_bits("invert", x)), None)


def _over_axes(name: str) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
        axes = normalize_axes(name, axis, x.ndim)
        answer = getattr(array_module(x.data), name)
        return make_result(answer(x.data, axis=axes, keepdims=keepdims), None)

    return reduce


def _of_each_element(name: str) -> Callable[[Tensor], Tensor]:
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
