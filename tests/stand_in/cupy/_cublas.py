"""cuBLAS by NumPy on host memory, as cublas_api.h describes it; cuBLASLt is that of the tests.

Matrices lie column by column. Calls are noted while a graph is recorded, and replayed with it.
"""

import copy
import ctypes

import ml_dtypes
import numpy as np

from tests import stand_in_cublas_lt, stand_in_gpu

from . import _faults

_KIND = {0: np.dtype(np.float32), 2: np.dtype(np.float16), 14: np.dtype(ml_dtypes.bfloat16)}
_OBJECTS = (1, 4, 6, 9, 11)  # arguments of cublasLtMatmul: description, layouts of A, B, C, D
_ALGORITHM = ctypes.c_uint64(stand_in_cublas_lt.ALGORITHM)


def _matrix(address, kind, rows, columns, leading):
    """The matrix (rows, columns) at an address."""
    size = ((columns - 1) * leading + rows) * kind.itemsize
    flat = np.frombuffer((ctypes.c_char * size).from_address(address), kind)
    strides = (kind.itemsize, leading * kind.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)


def _wide(matrix, transposed):
    return (matrix.T if transposed else matrix).astype(np.float32)


def _gemm(ta, tb, m, n, k, alpha, a, ka, lda, b, kb, ldb, beta, c, kc, ldc, *_):
    one, kept = (ctypes.c_float.from_address(x).value for x in (alpha, beta))
    a = _matrix(a, _KIND[ka], *((k, m) if ta else (m, k)), lda)
    b = _matrix(b, _KIND[kb], *((n, k) if tb else (k, n)), ldb)
    c = _matrix(c, _KIND[kc], m, n, ldc)
    product = one * (_wide(a, ta) @ _wide(b, tb))
    c[...] = (product + kept * c.astype(np.float32) if kept else product).astype(c.dtype)


class _Library(stand_in_cublas_lt.Library):
    """Both libraries; what a call says of its stream is not looked at."""

    def cublasGemmEx(self, handle, *arguments):
        stand_in_gpu.done(_gemm, arguments, {}, _gemm(*arguments))

    def cublasGemmStridedBatchedEx(
        self,
        handle,
        ta,
        tb,
        m,
        n,
        k,
        alpha,
        a,
        ka,
        lda,
        step_a,
        b,
        kb,
        ldb,
        step_b,
        beta,
        c,
        kc,
        ldc,
        step_c,
        count,
        *_,
    ):
        steps = [s * _KIND[x].itemsize for s, x in ((step_a, ka), (step_b, kb), (step_c, kc))]
        for i in range(count):
            one, two, three = (x + i * step for x, step in zip((a, b, c), steps, strict=True))
            self.cublasGemmEx(
                handle, ta, tb, m, n, k, alpha, one, ka, lda, two, kb, ldb, beta, three, kc, ldc
            )

    def cublasCreate_v2(self, place):
        ctypes.c_void_p.from_address(place).value = 1

    def cublasSetStream_v2(self, handle, stream):
        pass

    def cublasSetWorkspace_v2(self, handle, address, size):
        pass

    def cublasLtMatmul(self, *arguments):
        given = (*arguments[:-1], stand_in_cublas_lt.STREAM)
        status = super().cublasLtMatmul(*given)
        # a graph keeps what the objects said, which may be destroyed before it is replayed
        kept = stand_in_cublas_lt.Library()
        kept.objects = {x: copy.deepcopy(self.objects[x]) for x in (given[i] for i in _OBJECTS)}
        kept.asked = {given[1]: self.asked[given[1]]}
        again = (*given[:12], ctypes.addressof(_ALGORITHM), *given[13:])
        stand_in_gpu.done(kept.cublasLtMatmul, again, {}, None)
        return status


class _Functions:
    """The library as ctypes gives it: a function by name, whose types can be set."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def call(*arguments):
            if name in ("cublasGemmEx", "cublasGemmStridedBatchedEx", "cublasLtMatmul"):
                _faults.before_launch()
            values = tuple(getattr(a, "value", a) for a in arguments)
            status = function(*values) or 0
            if self._library.mistakes:
                raise RuntimeError(f"cuBLASLt was told wrongly: {self._library.mistakes}")
            return status

        return call


LIBRARY = _Functions(_Library())
