"""The type of a result of several operands, decided here for all ops by PyTorch's rules.

Types come in three kinds, bool < integer < floating point, and operands in three ranks: tensors
with axes, tensors without (0-d), Python numbers. The highest rank decides; a lower one is asked
only where it is of a higher kind, so that 1.5 does not turn a float16 tensor into float32, but
does turn an integer tensor into floats.

    int64 (N,)    with float32 (N,)  -> float32    any float wins over any integer
    float16 (N,)  with bfloat16 (N,) -> float32    neither holds the other's values
    uint8 (N,)    with int8 (N,)     -> int16
    float32 (N,)  with float64 ()    -> float32    a tensor without axes does not promote ...
    int64 (N,)    with float64 ()    -> float64    ... unless it is of a higher kind
    int64 (N,)    with 1.5           -> float32    a Python float stands for the default type

NumPy differs in the first (float64), the second (an error) and the fourth (float64).

Source: PyTorch's documentation, "Tensor Attributes", section "Type promotion".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import repeat
from typing import Any, TypeGuard, TypeVar

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import (
    FLOAT32,
    accumulate_dtype,
    default_float,
    is_float,
    is_integer,
)
from tinygrad_llm.errors import DTypeError

G = TypeVar("G", Array, Array | None)
Operand = Array | np.generic | float  # of an op; a Python number is a constant
_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
_NUMBERS = {bool: np.dtype(bool), int: np.dtype(np.int64), float: default_float()}


def result_dtype(*operands: Operand) -> np.dtype:
    """The type of a result of arrays and Python numbers (bool, int, float).

    Raises:
        DTypeError: an operand is neither. The sentence lacks the op's name, which the op adds.
    """
    with_axes: list[np.dtype] = []
    without: list[np.dtype] = []
    numbers: list[np.dtype] = []
    for operand in operands:
        if _is_typed(operand):
            (with_axes if operand.ndim else without).append(operand.dtype)
        else:
            numbers.append(_number_dtype(operand))
    return _decide(tuple(with_axes), tuple(without), tuple(numbers))


def fractional_dtype(*operands: Operand) -> np.dtype:
    """`result_dtype` where the result is a fraction (a quotient, a mean, e^x): never an integer."""
    dtype = result_dtype(*operands)
    return default_float() if is_integer(dtype) else dtype


def as_float(x: Array) -> Array:
    """``x``; integers and bools become float32, for functions whose values are fractions."""
    return x.astype(FLOAT32) if x.dtype is not FLOAT32 and is_integer(x.dtype) else x


def is_operand(x: object) -> TypeGuard[Operand]:
    """Whether ``x`` is an array or a Python number."""
    return hasattr(x, "dtype") or isinstance(x, (bool, int, float))


def require_float(op: str, *arrays: Array | None) -> None:
    """Raise a DTypeError unless the arrays are of one floating-point type."""
    for x in arrays:
        if x is not None and x.dtype is not FLOAT32:
            _check_float(op, {x.dtype for x in arrays if x is not None})


def _check_float(op: str, found: set[np.dtype]) -> None:
    if len(found) > 1 or any(is_integer(dtype) for dtype in found):
        numbers = "floating-point numbers" + " of one type" * (len(found) > 1)
        names = " and ".join(sorted(map(str, found)))
        raise DTypeError(f"{op}: expected {numbers}, got {names}. Use .astype('float32').")


def as_element(op: str, value: object, dtype: np.dtype) -> Any:
    """The number ``value`` (or a tensor without axes) as an element of an array of ``dtype``.

    Raises:
        DTypeError: it is no number, or integers of this type cannot hold it.
    """
    number = value.item() if hasattr(value, "item") and _shape(value) == () else value
    if not isinstance(number, (bool, int, float)):
        shape = _shape(value)
        got = type(value).__name__ if shape is None else f"a tensor of shape {shape}"
        raise DTypeError(f"{op}: expected one number, got {got}.")
    try:
        element = dtype.type(number)
        fits = not is_integer(dtype) or element == number
    except (OverflowError, ValueError):  # too large, infinite, NaN
        fits = False
    if not fits:
        raise DTypeError(f"{op}: {number!r} is no {dtype}. Use .astype('float32') before.")
    return element


def _shape(x: object) -> object:
    return getattr(x, "shape", None)


def _number_dtype(x: object) -> np.dtype:
    for kind, dtype in _NUMBERS.items():
        if isinstance(x, kind):
            return dtype
    raise DTypeError(
        f"expected tensors, arrays or Python numbers, got {type(x).__name__}. Make a tensor of it "
        "with tg.tensor(...)."
    )


@cache
def _decide(*ranks: tuple[np.dtype, ...]) -> np.dtype:
    result: np.dtype | None = None
    for dtypes in reversed(ranks):  # the lowest rank first
        if dtypes:
            own = dtypes[0]
            for dtype in dtypes[1:]:
                own = _common(own, dtype)
            lifts = result is not None and _kind(result) > _kind(own)
            result = _common(own, result) if lifts else own  # type: ignore[arg-type]
    if result is None:
        raise DTypeError("result_dtype: needs at least one operand.")
    return result


def _common(a: np.dtype, b: np.dtype) -> np.dtype:
    """The smallest type that holds both, where floats hold all integers."""
    if a == b:
        return a
    if _kind(a) != _kind(b):
        return max(a, b, key=_kind)
    if is_float(a):
        return FLOAT32 if a.itemsize == b.itemsize else max(a, b, key=lambda t: t.itemsize)
    common = np.promote_types(a, b)
    return np.dtype(np.int64) if common.kind == "f" else common  # uint64 with a signed integer


def _kind(dtype: np.dtype) -> int:
    return _KINDS["f" if is_float(dtype) else dtype.kind]


def agree(a: Any, b: Any) -> bool:
    """Whether NumPy's rules and ours agree at once: float32 with float32 or a Python number."""
    if type(b) is float or type(b) is int:
        return a.dtype is FLOAT32
    return (type(a) is float or type(a) is int) and b.dtype is FLOAT32


def converted(a: Operand, b: Operand, dtype: np.dtype) -> tuple[Operand, Operand]:
    """Operands for a computation whose result shall be rounded to ``dtype``.

    Arrays get that type; Python numbers stay. A 16-bit array beside a Python number is widened to
    float32, which holds the number where 16 bits may not, so that rounding happens once.
    """
    is_number = not (hasattr(a, "dtype") and hasattr(b, "dtype"))
    work = accumulate_dtype(dtype) if is_number else dtype
    return _cast(a, work), _cast(b, work)


def of_one_dtype(operands: Sequence[Operand]) -> list[Any]:
    """Arrays in the type that all have together; Python floats too, integers fit any."""
    if len({getattr(x, "dtype", None) for x in operands}) == 1:
        return list(operands)
    dtype = result_dtype(*operands)
    return [dtype.type(x) if isinstance(x, float) else _cast(x, dtype) for x in operands]


def cast_back(
    grads: Iterable[G], dtypes: Iterable[np.dtype | None], places: Iterable[object] = repeat(None)
) -> tuple[G, ...]:
    """Gradients of operands that `of_one_dtype` gave one type, each in the operand's own type.

    Args:
        grads: arrays; None stays None.
        dtypes: of the operands.
        places: where an optimizer wants a gradient; one that lies there keeps the place's type.
    """
    return tuple(
        g if g is None or g is place else g.astype(dtype, copy=False)
        for g, dtype, place in zip(grads, dtypes, places, strict=False)
    )


def _is_typed(x: Operand) -> TypeGuard[Array]:
    return hasattr(x, "dtype")


def _cast(x: Operand, dtype: np.dtype) -> Operand:
    return x.astype(dtype, copy=False) if _is_typed(x) else x
