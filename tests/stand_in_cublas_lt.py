"""cuBLASLt's functions on host memory, as cublasLt.h describes them: in columns, in NumPy.

`Library` computes what it is told by attributes, layouts and addresses, and knows nothing of the
arrays that the caller means. It keeps count of its objects, and refuses like the real one.
"""

import contextlib
import ctypes
import functools
import math
import sys
import types
from collections import Counter

import ml_dtypes
import numpy as np
from tinygrad_llm.kernels.products import cublas, cublas_lt, epilogues

from tests.stand_in_gpu import MODULE, DeviceArray

KINDS = {0: np.float32, 2: np.float16, 14: ml_dtypes.bfloat16}  # cudaDataType_t
STREAM = 0x51
SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 7, 15
ALGORITHM = 99
GELU, BGRAD = 32, 16  # bits of the epilogue; 64 is GELU's derivative, 128 its matrix, 4 a bias


def gelu(z):
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def gelu_slope(z, step=1e-5):
    z = z.astype(np.float64)
    return (gelu(z + step) - gelu(z - step)) / (2 * step)


class Library:
    """cuBLASLt.

    wrong: added to every D, for a library that computes something else
    refuses: (epilogue, vector's type, sizes of D) -> whether no algorithm is known
    narrow: sums into vectors of 16 bits, whatever type was asked for
    """

    def __init__(self, wrong=0.0, refuses=lambda epilogue, vector, size: False, narrow=False):
        self.wrong, self.refuses, self.narrow = wrong, refuses, narrow
        self.objects, self.asked, self.created = {}, {}, Counter()
        self.epilogues, self.mistakes, self.before_product = [], [], lambda: None

    def __getitem__(self, name):
        return getattr(self, name)

    def alive(self, kind):
        return sum(found == kind for found, _ in self.objects.values())

    def _create(self, place, kind, value):
        address = 1 + sum(self.created.values())
        self.created[kind] += 1
        self.objects[address] = (kind, value)
        ctypes.c_void_p.from_address(place).value = address
        return SUCCESS

    def _destroy(self, kind, address):
        if self.objects.pop(address, ("nothing",))[0] != kind:
            self.mistakes.append(f"{kind} {address} is destroyed and is none")
        return SUCCESS

    def cublasLtCreate(self, place):
        return self._create(place, "handle", None)

    def cublasLtMatmulDescCreate(self, place, compute, scale):
        assert (compute, scale) == (68, 0)  # sums and factors in float32
        return self._create(place, "MatmulDesc", {})

    def cublasLtMatrixLayoutCreate(self, place, kind, rows, columns, leading):
        return self._create(place, "MatrixLayout", (KINDS[kind], rows, columns, leading))

    def cublasLtMatmulPreferenceCreate(self, place):
        return self._create(place, "MatmulPreference", {})

    def _set(self, target, attribute, address, size):
        kind = {4: ctypes.c_uint32, 8: ctypes.c_uint64}[size]
        self.objects[target][1][attribute] = kind.from_address(address).value
        return SUCCESS

    cublasLtMatmulDescSetAttribute = cublasLtMatmulPreferenceSetAttribute = _set
    cublasLtMatmulDescDestroy = functools.partialmethod(_destroy, "MatmulDesc")
    cublasLtMatrixLayoutDestroy = functools.partialmethod(_destroy, "MatrixLayout")
    cublasLtMatmulPreferenceDestroy = functools.partialmethod(_destroy, "MatmulPreference")

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle, desc, a, b, c, d, preference, n, result, found
    ):
        told, wanted = self.objects[desc][1], self.objects[preference][1]
        assert wanted[1] == cublas_lt.WORKSPACE
        assert sorted(wanted) == [1, 5, 6, 7, 8]
        rows, columns = self.objects[d][1][1:3]
        if not told.get(8) or told[7] & 128 and not told.get(11):
            self.mistakes.append("asked before the epilogue's pointers were set")
        if told[7] & 128 and (told[12] % 8 or told[12] < rows):
            return INVALID_VALUE
        if self.refuses(told[7], KINDS[told[26]], (rows, columns)):
            return NOT_SUPPORTED
        self.asked[desc] = wanted
        ctypes.c_uint64.from_address(result).value = ALGORITHM
        ctypes.c_int.from_address(found).value = 1
        return SUCCESS

    def _matrix(self, address, layout):
        """The matrix (rows, columns) at an address, whose columns are contiguous."""
        kind, rows, columns, leading = layout
        assert leading >= rows
        size = leading * columns * np.dtype(kind).itemsize
        buffer = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(buffer, kind).reshape(columns, leading).T[:rows]

    def _vector(self, address, kind, length):
        return self._matrix(address, (kind, length, 1, length))[:, 0]

    def cublasLtMatmul(
        self,
        handle,
        desc,
        alpha,
        a,
        la,
        b,
        lb,
        beta,
        c,
        lc,
        d,
        ld,
        algorithm,
        workspace,
        size,
        stream,
    ):
        self.before_product()
        told, wanted = self.objects[desc][1], self.asked[desc]
        assert all(x % wanted[i] == 0 for x, i in zip((a, b, c, d), (5, 6, 7, 8), strict=True))
        assert ctypes.c_uint64.from_address(algorithm).value == ALGORITHM
        assert (c, lc, size, stream) == (d, ld, cublas_lt.WORKSPACE, STREAM)
        if told[8] % 16 or told.get(11, 0) % 16:
            self.mistakes.append("misaligned address")
            return SUCCESS
        left, right, out = (
            self._matrix(x, self.objects[layout][1]) for x, layout in ((a, la), (b, lb), (d, ld))
        )
        left, right = (
            (x.T if told[i] else x).astype(np.float64) for i, x in ((3, left), (4, right))
        )
        one, kept = (ctypes.c_float.from_address(x).value for x in (alpha, beta))
        product = one * (left @ right) + (kept * out.astype(np.float64) if kept else 0)
        self._finish(told, left, right, product, out)
        self.epilogues.append(told[7])
        return SUCCESS

    def _finish(self, told, left, right, product, out):
        """The epilogue; bits and meaning of cublasLtEpilogue_t."""
        kinds = {k: type(out[0, 0]) if self.narrow else KINDS[told[26]] for k in ("read", "write")}
        rows, columns = product.shape
        length = columns if told[7] == 512 else rows
        vector = self._vector(told[8], kinds["write"], length)
        if told[7] & 4:
            product = product + vector.astype(np.float64)[:, None]
        if told[7] & 128:
            matrix = self._matrix(told[11], (out.dtype, rows, columns, told[12]))
            if told[7] & GELU:
                matrix[...] = product
                product = gelu(product)
            else:
                product = product * gelu_slope(matrix)
        if told[7] & BGRAD:
            vector[...] = product.sum(1)
        if told[7] == 256:
            vector[...] = left.sum(1)
        if told[7] == 512:
            vector[...] = right.sum(0)
        out[...] = product + self.wrong


def use(monkeypatch, library):
    """Make the kernels believe in a GPU with this library, which they have not met before."""
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0, getDeviceProperties=lambda device: {"name": b"Stand-in"}
    )
    cuda = types.SimpleNamespace(
        get_current_stream=lambda: types.SimpleNamespace(ptr=STREAM),
        runtime=runtime,
        Device=lambda: types.SimpleNamespace(id=0),
        using_allocator=lambda malloc: contextlib.nullcontext(),
    )
    cupy = types.SimpleNamespace(
        ndarray=DeviceArray,
        empty=MODULE.empty,
        zeros=MODULE.zeros,
        asarray=MODULE.asarray,
        ascontiguousarray=MODULE.ascontiguousarray,
        cuda=cuda,
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cublas_lt, "_functions", lambda: library)
    monkeypatch.setattr(cublas_lt, "_plans", cublas_lt._Plans())
    monkeypatch.setattr(cublas, "_handles", cublas._Handles())
    monkeypatch.setattr(cublas_lt, "_handle", functools.cache(cublas_lt._handle.__wrapped__))
    aligned = epilogues.alignment  # to how much more than 16 bytes NumPy's arrays are is chance
    monkeypatch.setattr(epilogues, "alignment", lambda address: min(aligned(address), 16))
    monkeypatch.setattr(epilogues, "_trials", {})
    monkeypatch.setattr(epilogues, "_reasons", {})
