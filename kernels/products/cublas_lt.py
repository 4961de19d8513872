"""cublasLtMatmul by ctypes: a product D = A B whose epilogue does more while D is in registers.

CuPy does not wrap cuBLASLt; it is always there, since cuBLAS needs it. A product is described by
objects of the library (a descriptor, three layouts), for which it then recommends an algorithm.
That takes longer than many a product, so a `Plan` keeps both. Every object is destroyed: the
preferences after the question, the others with their plan.

Numbers and rules are those of cublasLt.h 13.1. The library counts in columns: an array (r, c) in
rows is a matrix (c, r) in columns, with c numbers from one column to the next.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import KernelError
from .cublas import WORKSPACE, Function, load, workspace

LIBRARIES = ("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11")
PLANS = 256  # kept by each thread

# cudaDataType_t and cublasComputeType_t; then names of cublasLt.h without their prefixes
TYPES = {"float32": 0, "float16": 2, "bfloat16": 14}
_FLOAT32, _COMPUTE_FLOAT32 = 0, 68
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8  # MATMUL_DESC_
_AUX_POINTER, _AUX_LD, _BIAS_DATA_TYPE = 11, 12, 26  # MATMUL_DESC_EPILOGUE_ the first two
_MAX_WORKSPACE_BYTES, _MIN_ALIGNMENTS = 1, (5, 6, 7, 8)  # MATMUL_PREF_; of A, B, C and D
_LARGEST_ALIGNMENT = 256

CNumber = ctypes.c_int | ctypes.c_int64 | ctypes.c_uint32 | ctypes.c_uint64
_ONE, _ZERO = np.array(1, np.float32), np.array(0, np.float32)
_INT, _LONG, _SIZE, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_size_t, ctypes.c_void_p
_ARGUMENTS: dict[str, list[type]] = {
    "cublasLtCreate": [_POINTER],
    "cublasLtMatmulDescCreate": [_POINTER, _INT, _INT],
    "cublasLtMatmulDescDestroy": [_POINTER],
    "cublasLtMatmulDescSetAttribute": [_POINTER, _INT, _POINTER, _SIZE],
    "cublasLtMatrixLayoutCreate": [_POINTER, _INT, ctypes.c_uint64, ctypes.c_uint64, _LONG],
    "cublasLtMatrixLayoutDestroy": [_POINTER],
    "cublasLtMatmulPreferenceCreate": [_POINTER],
    "cublasLtMatmulPreferenceDestroy": [_POINTER],
    "cublasLtMatmulPreferenceSetAttribute": [_POINTER, _INT, _POINTER, _SIZE],
    "cublasLtMatmulAlgoGetHeuristic": [*[_POINTER] * 7, _INT, _POINTER, _POINTER],
    "cublasLtMatmul": [*[_POINTER] * 14, _SIZE, _POINTER],
}


class _Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t; its first 64 bytes are the algorithm."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", _SIZE), ("status", _INT),
        ("waves", ctypes.c_float), ("reserved", _INT * 4),
    ]


class Shape(NamedTuple):
    """All that the choice of an algorithm depends on, in columns.

    epilogue: one of cublasLtEpilogue_t; transpose: whether A and B are read as transposed
    sizes: m, n, k of D (m, n) = op(A) (m, k) op(B) (k, n)
    types: of A and B, of D, and of the epilogue's vector
    alignments: in bytes, of A, B, D, the vector and the auxiliary matrix
    """

    device: int
    epilogue: int
    transpose: tuple[bool, bool]
    sizes: tuple[int, int, int]
    types: tuple[str, str, str]
    alignments: tuple[int, ...]


class _Objects:
    """Objects created in the library, which are to be destroyed there."""

    def __init__(self) -> None:
        self.functions = _functions()
        self.destroyers: list[tuple[Function, int]] = []

    def create(self, kind: str, *arguments: int) -> int:
        """A new MatmulDesc, MatrixLayout or MatmulPreference: its address."""
        address = _create(f"cublasLt{kind}Create", *arguments)
        self.destroyers.append((self.functions[f"cublasLt{kind}Destroy"], address))
        return address

    def destroy(self) -> None:
        while self.destroyers:
            destroy, address = self.destroyers.pop()
            destroy(address)


class Plan:
    """Descriptor, layouts and algorithm for one kind of product. Not to be shared by threads.

    The descriptor holds the addresses of the epilogue's vector and matrix, which differ from call
    to call. Two threads with one plan would set them for each other.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._objects = _Objects()
        weakref.finalize(self, self._objects.destroy).atexit = False  # the process's end frees all
        (m, n, k), (factors, result, vector) = shape.sizes, (TYPES[t] for t in shape.types)
        create = self._objects.create
        self._descriptor = create("MatmulDesc", _COMPUTE_FLOAT32, _FLOAT32)
        for name, value in ((_TRANSA, shape.transpose[0]), (_TRANSB, shape.transpose[1]),
                            (_EPILOGUE, shape.epilogue), (_BIAS_DATA_TYPE, vector)):
            self._set(name, _INT(value))
        a, b = ((k, m) if shape.transpose[0] else (m, k), (n, k) if shape.transpose[1] else (k, n))
        self._a, self._b, self._d = (
            create("MatrixLayout", kind, rows, columns, rows)
            for kind, (rows, columns) in ((factors, a), (factors, b), (result, (m, n)))
        )
        self._result: _Result | None = None
        self._refusal = ""

    def run(self, addresses: Sequence[int], accumulate: bool) -> None:
        """Compute D, or add it onto what is there.

        addresses: of A, B, D, the vector of the epilogue, and the matrix that it reads or writes
            beside D, laid out like D; 0 where there is none
        Raises KernelError where the library takes no product of this shape.
        """
        a, b, d, *epilogue = addresses
        self._point_to(*epilogue)
        result = self._algorithm()
        import cupy

        stream, device = cupy.cuda.get_current_stream().ptr, self.shape.device
        beta = (_ONE if accumulate else _ZERO).ctypes.data
        _call(
            "cublasLtMatmul", _handle(device), self._descriptor, _ONE.ctypes.data, a, self._a, b,
            self._b, beta, d, self._d, d, self._d, ctypes.addressof(result),
            workspace(device, stream), WORKSPACE, stream,
        )

    def _point_to(self, vector: int, matrix: int) -> None:
        self._set(_BIAS_POINTER, ctypes.c_uint64(vector))
        if matrix:
            self._set(_AUX_POINTER, ctypes.c_uint64(matrix))
            self._set(_AUX_LD, _LONG(self.shape.sizes[0]))

    def _algorithm(self) -> _Result:
        """The one that cuBLASLt expects to be the fastest; asked once, with the pointers set.

        It reads no memory there, but takes the alignment of what it will read from the pointers.
        """
        if self._result is None and not self._refusal:
            try:
                self._result = self._ask()
            except KernelError as error:
                self._refusal = str(error)
        if self._result is None:
            raise KernelError(self._refusal)
        return self._result

    def _ask(self) -> _Result:
        asking, (a, b, d) = _Objects(), self.shape.alignments[:3]
        result, found = _Result(), _INT(0)
        try:
            preference = asking.create("MatmulPreference")
            bounds: list[tuple[int, CNumber]] = [(_MAX_WORKSPACE_BYTES, ctypes.c_uint64(WORKSPACE))]
            bounds += zip(_MIN_ALIGNMENTS, map(ctypes.c_uint32, (a, b, d, d)), strict=True)
            for name, value in bounds:
                _set("cublasLtMatmulPreferenceSetAttribute", preference, name, value)
            _call(
                "cublasLtMatmulAlgoGetHeuristic", _handle(self.shape.device), self._descriptor,
                self._a, self._b, self._d, self._d, preference, 1, ctypes.addressof(result),
                ctypes.addressof(found),
            )
        finally:
            asking.destroy()
        if not found.value or result.status:
            raise KernelError("linear: cuBLASLt knows no algorithm for this product")
        return result

    def _set(self, attribute: int, value: CNumber) -> None:
        _set("cublasLtMatmulDescSetAttribute", self._descriptor, attribute, value)


class _Plans(threading.local):
    """This thread's plans; those not used for longest make room for new ones."""

    def __init__(self) -> None:
        self.of = functools.lru_cache(maxsize=PLANS)(Plan)


_plans = _Plans()


def plan(shape: Shape) -> Plan:
    """This thread's plan for products of a shape."""
    return _plans.of(shape)


def alignment(address: int) -> int:
    """The largest power of two that divides the address, at most 256."""
    return min(address & -address, _LARGEST_ALIGNMENT) or _LARGEST_ALIGNMENT


@functools.cache
def _handle(device: int) -> int:
    return _create("cublasLtCreate")


def _create(name: str, *arguments: int) -> int:
    """A new object of cuBLASLt: its address."""
    place = _POINTER()
    _call(name, ctypes.addressof(place), *arguments)
    return place.value or 0


def _set(name: str, target: int, attribute: int, value: CNumber) -> None:
    _call(name, target, attribute, ctypes.addressof(value), ctypes.sizeof(value))


def _call(name: str, *arguments: int) -> None:
    status = _functions()[name](*arguments)
    if status:
        raise KernelError(f"linear: {name} failed with cuBLAS status {status}")


@functools.cache
def _functions() -> dict[str, Function]:
    return load("linear", LIBRARIES, _ARGUMENTS)
