"""Argument checks that the kernels share. Every message: argument, expected, got, way out.

Each public kernel has a check function of the same parameters, which launches nothing. It raises a
KernelError that need not name the kernel: the decorator ``checked_by`` makes a `Kernel` of the two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import numpy as np

from ._runtime import array_module
from ._types import Array, DType, Key
from .errors import KernelError

INTEGERS = ("int32", "int64")
MAX_ROW = 16384  # longest row that layer_norm holds in registers at once, in float32 too

P = ParamSpec("P")
R = TypeVar("R")
MaybeArray = TypeVar("MaybeArray", bound=Array | None)


class Kernel(Generic[P, R]):
    """A public kernel: called, it checks its arguments and runs.

    unchecked: runs without the checks, for a caller that has asked `supports` before
    """

    def __init__(self, function: Callable[P, R], check: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self.unchecked, self._check = function, check
        check.__qualname__ = function.__qualname__  # Python's errors about unknown parameters

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        reason = self.supports(*args, **kwargs)
        if reason is not None:
            raise KernelError(f"{self.unchecked.__name__}: {reason}")
        return self.unchecked(*args, **kwargs)

    def supports(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Why the kernel cannot take these arguments, or None."""
        try:
            self._check(*args, **kwargs)
        except KernelError as refusal:
            return str(refusal)
        return None


def checked_by(check: Callable[..., None]) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Decorator of a public kernel: `check` is called first, with the kernel's own arguments."""

    def attach(function: Callable[P, R]) -> Kernel[P, R]:
        return Kernel(function, check)

    return attach


def require_float(**arrays: Array | None) -> None:
    """Each array is float32, float16 or bfloat16; None passes."""
    for name, array in arrays.items():
        if array is not None and getattr(array, "dtype", None) not in _FLOAT_SET:
            raise KernelError(f"{name} must be an array of float32, float16 or bfloat16, "
                              f"got {_describe(array)}; convert it with astype")


def require_integer(**arrays: Array | None) -> None:
    """Each array is int32 or int64."""
    for name, array in arrays.items():
        if str(getattr(array, "dtype", None)) not in INTEGERS:
            raise KernelError(f"{name} must be an array of int32 or int64, "
                              f"got {_describe(array)}; convert it with astype")


def require_shape(shape: tuple[int, ...], **arrays: Array | None) -> None:
    """Each array has `shape`; None passes."""
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise KernelError(f"{name} must have shape {shape}, got {array.shape}")


def require_same_device(first: Array, **arrays: Array | None) -> None:
    """Each array is of the module of `first`; None passes."""
    on_host = isinstance(first, np.ndarray)
    for name, array in arrays.items():
        if array is not None and isinstance(array, np.ndarray) != on_host:
            here, there = ("NumPy", "CuPy") if on_host else ("CuPy", "NumPy")
            raise KernelError(f"{name} is a {there} array while the first argument is a "
                              f"{here} array; move it with cupy.asarray or cupy.asnumpy")


def require_row(n: int, limit: int = MAX_ROW) -> None:
    """The last axis is short enough to be held at once."""
    if n > limit:
        raise KernelError(f"the last axis has {n} elements, the kernel takes at most "
                          f"{limit}; use the array code")


def require_dropout(p: float, key: Key | None) -> None:
    """0 <= p < 1, and a key where something is dropped."""
    if not 0.0 <= p < 1.0:
        raise KernelError(f"dropout p must be in [0, 1), got {p}")
    if p > 0.0 and key is None:
        raise KernelError(f"dropout with p={p} needs key=(k0, k1), two 32-bit integers")


def as_rows(array: Array) -> tuple[Array, int]:
    """A view (M, N) of (..., N) and the distance between its rows; a copy where no view exists."""
    n = array.shape[-1]
    if not rows_evenly_spaced(array):
        array = array_module(array).ascontiguousarray(array)
    rows = array.reshape(math.prod(array.shape[:-1]), n)
    stride = rows.strides[0] // rows.itemsize if rows.shape[0] > 1 else n
    return rows, stride


def rows_evenly_spaced(array: Array) -> bool:
    """Whether (..., N) can be seen as (M, N) without a copy."""
    if array.flags.c_contiguous:
        return True
    if array.strides[-1] != array.itemsize:
        return False
    leading = range(array.ndim - 2)
    return all(array.strides[i] == array.shape[i + 1] * array.strides[i + 1] for i in leading)


def contiguous(array: MaybeArray) -> MaybeArray:
    """`array` itself where it is C-contiguous, otherwise a copy that is."""
    if array is None or array.flags.c_contiguous:
        return array
    return array_module(array).ascontiguousarray(array)


def require_out(out: Array | None, shape: tuple[int, ...], like: Array,
                dtype: DType | None = None) -> None:
    """`out` is None, or an array for a result of `shape` and `dtype`, by default that of `like`."""
    if out is None:
        return
    require_same_device(like, out=out)
    dtype = like.dtype if dtype is None else dtype
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise KernelError(f"out must be a C-contiguous array of shape {shape} and {dtype}, got "
                          f"{_describe(out)} of shape {out.shape}")


def out_or_new(out: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """`out`, which was checked, or a new array of `shape` and the dtype of `like`."""
    return array_module(like).empty(shape, like.dtype) if out is None else out


def _describe(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"an array of {dtype}"


def _float_dtypes() -> frozenset[np.dtype]:
    dtypes: set[np.dtype] = {np.dtype("float32"), np.dtype("float16")}
    try:
        import ml_dtypes
    except ImportError:  # then no array can be bfloat16
        return frozenset(dtypes)
    return frozenset(dtypes | {np.dtype(ml_dtypes.bfloat16)})


_FLOAT_SET = _float_dtypes()
