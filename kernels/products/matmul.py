"""Matrix products through cuBLAS with float32 accumulation, on CuPy arrays; NumPy for reference.

CuPy's own `@` lacks four things a training step needs: low precision in and float32 out, adding
onto the output (beta = 1), batches of float16 or bfloat16 on tensor cores, and being recorded into
a CUDA graph. ``cublasGemmEx`` has them (cublas.py). cuBLAS counts in columns, CuPy in rows:
C = A B in rows is C^T = B^T A^T in columns, hence the swapped operands below.
"""

from __future__ import annotations

import numpy as np

from .._checks import checked_by, require_float, require_same_device
from .._runtime import array_module
from .._types import Array, memory_of
from ..errors import KernelError

# cudaDataType_t, cublasComputeType_t and cublasGemmAlgo_t in CUDA's library_types.h, cublas_api.h
_CUDA_TYPE = {"float32": 0, "float16": 2, "bfloat16": 14}
_COMPUTE_FLOAT32, _COMPUTE_TF32, _DEFAULT_ALGORITHM = 68, 77, -1
_ONE, _ZERO = np.array(1, np.float32), np.array(0, np.float32)


def _check(a: Array, b: Array, out: Array | None = None, *, transpose_a: bool = False,
           transpose_b: bool = False, accumulate: bool = False, tf32: bool = False) -> None:
    require_float(a=a, b=b, out=out)
    require_same_device(a, b=b, out=out)
    if a.dtype != b.dtype:
        raise KernelError(f"a is {a.dtype} and b is {b.dtype}; convert one of them")
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise KernelError(f"a {a.shape} and b {b.shape} must both be matrices, or batches "
                          "of them with equal leading axes")
    inner_a = a.shape[-2] if transpose_a else a.shape[-1]
    inner_b = b.shape[-1] if transpose_b else b.shape[-2]
    if inner_a != inner_b:
        raise KernelError(f"a {a.shape} and b {b.shape} do not fit: {inner_a} columns of "
                          f"op(a) against {inner_b} rows of op(b)")
    if accumulate and out is None:
        raise KernelError("accumulate=True adds onto out, which is missing")
    check_out(a, b, out, transpose_a, transpose_b)


def check_out(a: Array, b: Array, out: Array | None, transpose_a: bool, transpose_b: bool) -> None:
    """`out` is None or takes op(a) @ op(b)."""
    shape = _product_shape(a, b, transpose_a, transpose_b)
    if out is None:
        return
    if out.shape != shape or out.dtype not in {a.dtype, np.dtype("float32")}:
        raise KernelError(f"out must have shape {shape} and dtype {a.dtype} or float32, "
                          f"got {out.shape} and {out.dtype}")
    if _row_stride(out) is None:
        raise KernelError("out must be C-contiguous, or a matrix whose rows are; pass such "
                          "a buffer")


def _row_stride(array: Array) -> int | None:
    """Elements from one row to the next, cuBLAS's leading dimension; None where a copy is needed.

    A matrix may be a part of wider rows. That is how a product with an odd number of columns, such
    as a vocabulary of 50257, gets rows at aligned addresses.
    """
    columns = array.shape[-1]
    if array.flags.c_contiguous:
        return columns
    stride = array.strides[0] // array.itemsize if array.ndim == 2 else 0
    return stride if stride >= columns and array.strides[-1] == array.itemsize else None


def _product_shape(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> tuple[int, ...]:
    rows = a.shape[-1] if transpose_a else a.shape[-2]
    columns = b.shape[-2] if transpose_b else b.shape[-1]
    return (*a.shape[:-2], rows, columns)


@checked_by(_check)
def matmul(a: Array, b: Array, out: Array | None = None, *, transpose_a: bool = False,
           transpose_b: bool = False, accumulate: bool = False, tf32: bool = False) -> Array:
    """op(a) @ op(b), added onto `out` where `accumulate`; sums are float32 whatever the dtype.

    a: (..., M, K) or (..., K, M) with transpose_a; b: (..., K, N) or (..., N, K) with transpose_b;
        one dtype of float32, float16, bfloat16; equal leading axes
    out: (..., M, N) in the dtype of a or float32; tf32: float32 inputs rounded to 10 bits, faster
    """
    xp = array_module(a)
    if out is None:
        out = xp.empty(_product_shape(a, b, transpose_a, transpose_b), a.dtype)
    if not out.size:
        return out
    if not a.size:  # an inner axis of length 0: a sum of nothing
        if not accumulate:
            out.fill(0)
        return out
    if xp is np:
        return _on_host(a, b, out, transpose_a, transpose_b, accumulate)
    return _on_gpu(a, b, out, transpose_a, transpose_b, accumulate, tf32)


def _on_host(a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool,
             accumulate: bool) -> Array:
    a32, b32 = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    product = (a32.swapaxes(-1, -2) if transpose_a else a32) @ (
        b32.swapaxes(-1, -2) if transpose_b else b32)
    if accumulate:
        product = product + out.astype(np.float32, copy=False)
    out[...] = product.astype(out.dtype, copy=False)
    return out


def _on_gpu(a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool, accumulate: bool,
            tf32: bool) -> Array:
    import cupy

    from . import cublas
    a, b = (x if _row_stride(x) else cupy.ascontiguousarray(x) for x in (a, b))
    m, n = out.shape[-2:]
    k = a.shape[-2] if transpose_a else a.shape[-1]
    sizes = (int(transpose_b), int(transpose_a), n, m, k, _ONE.ctypes.data)
    first, second, result = ((memory_of(x).ptr, _CUDA_TYPE[x.dtype.name], _row_stride(x))
                             for x in (b, a, out))
    beta = (_ONE if accumulate else _ZERO).ctypes.data
    compute = _COMPUTE_TF32 if tf32 else _COMPUTE_FLOAT32
    batch = out.size // (m * n)
    if batch == 1:
        cublas.gemm_ex(*sizes, *first, *second, beta, *result, compute, _DEFAULT_ALGORITHM)
    else:
        cublas.gemm_strided_batched_ex(
            *sizes, *first, n * k, *second, m * k, beta, *result, m * n, batch, compute,
            _DEFAULT_ALGORITHM)
    return out
