"""What users pass, turned into the arrays that ops work on."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import (
    Array,
    ArrayLike,
    ArrayModule,
    array_module,
    is_array,
    module_for,
    plain_array,
    to_device,
)
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype, check_dtype, default_float
from tinygrad_llm.errors import DTypeError, IndexRangeError, ShapeError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor

# What ops take in place of a Tensor, as a constant: arrays, numbers and lists of numbers.
TensorLike: TypeAlias = "Tensor | ArrayLike"
# What may stand in x[...].
Index: TypeAlias = "TensorLike | slice | EllipsisType | tuple[Index, ...] | None"


def array_of(owner: str, x: object) -> Any:
    """The array of a Tensor; what else is given passes through `plain_array`.

    Raises:
        DTypeError: a masked array or an np.matrix.
    """
    return x.data if is_tensor(x) else plain_array(owner, x)


def is_tensor(x: object) -> TypeGuard[Tensor]:
    """Whether ``x`` is a Tensor, whose class is built on this module and cannot be named here."""
    return isinstance(x, TensorBase)


def as_array(data: object, dtype: DTypeLike = None, device: str | None = None) -> Array:
    """The array of a new tensor: Python floats become float32, NumPy's numbers keep their type.

    In a list the first element says which of the two its floats are.

    Raises:
        DTypeError: text, objects, dates, complex numbers, masked arrays, np.matrix, or lists of
            unequal lengths.
        DeviceError: the device is unknown or absent.
    """
    data = array_of("tensor", data)
    target = None if dtype is None else as_dtype(dtype)
    if not is_array(data):
        typed = hasattr(_first_element(data), "dtype")
        data = _from_lists(data)
        if data.dtype == np.float64 and target is None and not typed:
            target = default_float()
    found = check_dtype("tensor", data.dtype)
    target = found if target is None else target
    if data.dtype != target:
        data = data.astype(target)
    if device is None:
        return data
    module_for(device)
    return to_device(data, device)


def _first_element(data: object) -> object:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _from_lists(data: object) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise DTypeError(
            f"tensor: expected numbers nested to equal lengths, got {data!r:.60} ({error})."
        ) from error


def is_view_of(x: Array, source: object) -> bool:
    """Whether ``x`` is a NumPy array in the memory of the NumPy array ``source``."""
    both = isinstance(x, np.ndarray) and isinstance(source, np.ndarray)
    return both and np.may_share_memory(x, source)


def plain_index(index: Index) -> Any:
    """An index with arrays in place of Tensors and lists."""
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    if not isinstance(index, list):
        return array_of("indexing", index)
    array = np.asarray(index)
    return array if array.size else array.astype(np.intp)  # to NumPy [] is a list of floats


def write_at(target: Array, index: Any, value: object) -> None:
    """``target[index] = value``, for a plain index.

    Axes of length 1 in front of the value's shape are no matter, as in any broadcasting.

    Raises:
        DTypeError: the value is no number, array or list of numbers, or ``target`` cannot hold it.
        IndexRangeError: there is no such place.
        ShapeError: the value does not fit there.
    """
    if not isinstance(value, (bool, int, float)):
        value = _values("assignment", array_module(target), value)
    try:
        target[index] = value
    except IndexError as error:
        raise IndexRangeError(f"assignment: shape {target.shape}: {error}.") from error
    except OverflowError as error:
        raise DTypeError(f"assignment: {value!r} is no {target.dtype} ({error}).") from error
    except (ValueError, TypeError) as error:
        raise ShapeError(
            f"assignment: a value of shape {getattr(value, 'shape', ())} does not fit x[index] of "
            f"shape {target[index].shape} ({error})."
        ) from error


def _values(owner: str, xp: ArrayModule, given: object) -> Array:
    """An array, or lists of numbers, as an array of which the first axis is not of length 1."""
    x = array_of(owner, given)
    x = x if is_array(x) else xp.asarray(_from_lists(x))
    check_dtype(owner, x.dtype)
    extra = 0
    while extra < x.ndim and x.shape[extra] == 1:
        extra += 1
    return x.reshape(x.shape[extra:]) if extra else x
