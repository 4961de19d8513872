"""The only import of ``tinygrad_llm.kernels``, and what the array code takes from it: products.

The kernels are imported at the first call and not before: most runs on a CPU never need them.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule

_SIXTEEN_OR_32_BITS = ("float32", "float16", "bfloat16")


def kernels() -> ModuleType:
    """The package of kernels, imported when the first one is wanted."""
    import tinygrad_llm.kernels as package

    return package


def gpu_product(xp: ArrayModule, a: Array, b: Array, out: Array | None = None) -> Array:
    """``xp.matmul(a, b)`` of CuPy arrays, into ``out`` where given, such that a graph can hold it.

    CuPy raises an error at its own product while launches are recorded into a CUDA graph. So the
    product goes to cuBLAS by `kernels.matmul`, but for float64 and batches of unlike axes.

    Args:
        a: (..., M, K) or (K,).
        b: (..., K, N) or (K,).
    """
    if a.ndim == 1 and b.ndim > 1:
        return gpu_product(xp, a[None], b, None if out is None else out[..., None, :])[..., 0, :]
    if b.ndim == 1 and a.ndim > 1:
        return gpu_product(xp, a, b[:, None], None if out is None else out[..., None])[..., 0]
    if not _fit(a, b) or kernels().why_not(a):
        return _by_cupy(xp, a, b, out)
    (left, turned_a), (right, turned_b) = _as_stored(a), _as_stored(b)
    direct = out if out is not None and _takes_rows(out, a.dtype.name) else None
    y = kernels().matmul(left, right, direct, transpose_a=turned_a, transpose_b=turned_b)
    if out is None or direct is not None:
        return y
    out[...] = y
    return out


def _by_cupy(xp: ArrayModule, a: Array, b: Array, out: Array | None) -> Array:
    if max(a.ndim, b.ndim) > 2 and "bfloat16" in (a.dtype.name, b.dtype.name):
        a, b = a.astype(np.float32), b.astype(np.float32)  # CuPy has no such batches
    return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)


def _fit(a: Array, b: Array) -> bool:
    same = a.dtype == b.dtype and a.dtype.name in _SIXTEEN_OR_32_BITS
    return same and a.ndim == b.ndim > 1 and a.shape[:-2] == b.shape[:-2]


def _as_stored(x: Array) -> tuple[Array, bool]:
    """A matrix as it lies in memory, row by row, and whether that is the transpose of ``x``."""
    turned = x.strides[-1] != x.itemsize and x.strides[-2] == x.itemsize
    return (x.swapaxes(-1, -2), True) if turned else (x, False)


def _takes_rows(out: Array, dtype: str) -> bool:
    """Whether a product can be written there: whole rows one after the other, of a fitting type."""
    rows = out.flags.c_contiguous or (out.ndim == 2 and out.strides[-1] == out.itemsize)
    return rows and out.dtype.name in (dtype, "float32")
