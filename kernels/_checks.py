"""Argument checks that the kernels share. Every message: kernel, argument, expected, got, way out.

Each public kernel has a check function of the same parameters that raises KernelError and launches
nothing. The decorator ``checked_by`` attaches it as ``kernel.supports(...)``, which returns the
reason as a string, or None where the kernel takes the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from ._runtime import array_module
from .errors import KernelError

FLOATS = ("float32", "float16", "bfloat16")
INTEGERS = ("int32", "int64")
MAX_ROW = 16384  # longest row that layer_norm holds in registers at once, in float32 too


class Kernel(Protocol):
    """A public kernel: a function with ``supports``, which says why it cannot take arguments."""

    supports: Callable[..., str | None]
    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


F = TypeVar("F", bound=Callable[..., Any])


def checked_by(check: Callable[..., Any]) -> Callable[[F], F]:
    """Attach ``supports`` to a public kernel; `check` takes the kernel's own arguments."""

    def supports(*args: Any, **kwargs: Any) -> str | None:
        try:
            check(*args, **kwargs)
        except KernelError as error:
            return str(error)
        return None

    def attach(function: F) -> F:
        cast(Kernel, function).supports = supports
        return function

    return attach


def require_float(kernel: str, **arrays: Any) -> None:
    """Each array is float32, float16 or bfloat16; None passes."""
    for name, array in arrays.items():
        if array is not None and getattr(array, "dtype", None) not in _FLOAT_SET:
            raise KernelError(f"{kernel}: {name} must be an array of float32, float16 or bfloat16, "
                              f"got {_describe(array)}; convert it with astype")


def require_integer(kernel: str, **arrays: Any) -> None:
    """Each array is int32 or int64."""
    for name, array in arrays.items():
        if str(getattr(array, "dtype", None)) not in INTEGERS:
            raise KernelError(f"{kernel}: {name} must be an array of int32 or int64, "
                              f"got {_describe(array)}; convert it with astype")


def require_shape(kernel: str, shape: tuple[int, ...], **arrays: Any) -> None:
    """Each array has `shape`; None passes."""
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise KernelError(f"{kernel}: {name} must have shape {shape}, got {array.shape}")


def require_same_device(kernel: str, first: Any, **arrays: Any) -> None:
    """Each array is of the module of `first`; None passes."""
    on_host = isinstance(first, np.ndarray)
    for name, array in arrays.items():
        if array is not None and isinstance(array, np.ndarray) != on_host:
            here, there = ("NumPy", "CuPy") if on_host else ("CuPy", "NumPy")
            raise KernelError(f"{kernel}: {name} is a {there} array while the first argument is a "
                              f"{here} array; move it with cupy.asarray or cupy.asnumpy")


def require_row(kernel: str, n: int, limit: int = MAX_ROW) -> None:
    """The last axis is short enough to be held at once."""
    if n > limit:
        raise KernelError(f"{kernel}: the last axis has {n} elements, the kernel takes at most "
                          f"{limit}; use the array code")


def require_dropout(kernel: str, p: float, key: Any) -> None:
    """0 <= p < 1, and a key where something is dropped."""
    if not 0.0 <= p < 1.0:
        raise KernelError(f"{kernel}: dropout p must be in [0, 1), got {p}")
    if p > 0.0 and key is None:
        raise KernelError(f"{kernel}: dropout with p={p} needs key=(k0, k1), two 32-bit integers")


def as_rows(array: Any) -> tuple[Any, int]:
    """A view (M, N) of (..., N) and the distance between its rows; a copy where no view exists."""
    n = array.shape[-1]
    if not rows_evenly_spaced(array):
        array = array_module(array).ascontiguousarray(array)
    rows = array.reshape(math.prod(array.shape[:-1]), n)
    stride = rows.strides[0] // rows.itemsize if rows.shape[0] > 1 else n
    return rows, stride


def rows_evenly_spaced(array: Any) -> bool:
    """Whether (..., N) can be seen as (M, N) without a copy."""
    if array.flags.c_contiguous:
        return True
    if array.strides[-1] != array.itemsize:
        return False
    leading = range(array.ndim - 2)
    return all(array.strides[i] == array.shape[i + 1] * array.strides[i + 1] for i in leading)


def contiguous(array: Any) -> Any:
    """`array` itself where it is C-contiguous, otherwise a copy that is."""
    if array is None or array.flags.c_contiguous:
        return array
    return array_module(array).ascontiguousarray(array)


def output(out: Any, kernel: str, shape: tuple[int, ...], like: Any, dtype: Any = None) -> Any:
    """`out` if it fits, or a new array of `shape` and the dtype of `like`."""
    dtype = like.dtype if dtype is None else np.dtype(dtype)
    if out is None:
        return array_module(like).empty(shape, dtype)
    require_same_device(kernel, like, out=out)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise KernelError(f"{kernel}: out must be a C-contiguous array of shape {shape} and "
                          f"{dtype}, got {_describe(out)} of shape {out.shape}")
    return out


def _describe(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"an array of {dtype}"


def _float_dtypes() -> frozenset[np.dtype]:
    dtypes: set[np.dtype[Any]] = {np.dtype("float32"), np.dtype("float16")}
    try:
        import ml_dtypes
    except ImportError:  # then no array can be bfloat16
        return frozenset(dtypes)
    return frozenset(dtypes | {np.dtype(ml_dtypes.bfloat16)})


_FLOAT_SET = _float_dtypes()
