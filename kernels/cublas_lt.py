"""y = x W^T + b in one launch: cublasLtMatmul, which adds the bias before it stores the product.

A bias of its own reads and writes y once more: 1.8 GB in each layer of GPT-2 for 64 Ki tokens.
CuPy does not wrap cuBLASLt, so it is called by ctypes; it is always there, since cuBLAS needs it.
The first call on a device compares a small product with that of cuBLAS. Whatever goes wrong, from
a missing library to a wrong number, ends in ``why_not()``, and the bias is added apart.

cuBLASLt counts in columns: y (N, out) in rows is y^T (out, N) in columns, W read as transposed.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from ._cublas import WORKSPACE, load
from .errors import KernelError

LIBRARIES = ("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11")

# cudaDataType_t and cublasComputeType_t; then names of cublasLt.h without their prefixes
_TYPES, _FLOAT32, _COMPUTE_FLOAT32 = {"float16": 2, "bfloat16": 14}, 0, 68
_TRANSA, _EPILOGUE, _BIAS_POINTER, _BIAS_DATA_TYPE = 3, 7, 8, 26  # MATMUL_DESC_
_EPILOGUE_BIAS = 4
_MAX_WORKSPACE_BYTES, _MIN_ALIGNMENTS = 1, (5, 6, 7, 8)  # MATMUL_PREF_; of A, B, C and D
_LARGEST_ALIGNMENT = 256

_ONE, _ZERO = np.array(1, np.float32), np.array(0, np.float32)
_INT, _LONG, _SIZE, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_size_t, ctypes.c_void_p
_ARGUMENTS = {
    "cublasLtCreate": [_POINTER],
    "cublasLtMatmulDescCreate": [_POINTER, _INT, _INT],
    "cublasLtMatmulDescSetAttribute": [_POINTER, _INT, _POINTER, _SIZE],
    "cublasLtMatrixLayoutCreate": [_POINTER, _INT, ctypes.c_uint64, ctypes.c_uint64, _LONG],
    "cublasLtMatmulPreferenceCreate": [_POINTER],
    "cublasLtMatmulPreferenceSetAttribute": [_POINTER, _INT, _POINTER, _SIZE],
    "cublasLtMatmulAlgoGetHeuristic": [*[_POINTER] * 7, _INT, _POINTER, _POINTER],
    "cublasLtMatmul": [*[_POINTER] * 14, _SIZE, _POINTER],
}


class _Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t; its first 64 bytes are the algorithm."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", _SIZE), ("status", _INT),
        ("waves", ctypes.c_float), ("reserved", _INT * 4),
    ]  # fmt: skip


class _Plan:
    """Descriptors and the chosen algorithm for one kind of product."""

    def __init__(self, sizes: tuple[int, int, int], kind: int, alignments: tuple[int, ...]) -> None:
        n, inner, out = sizes
        self.descriptor = _create("cublasLtMatmulDescCreate", _COMPUTE_FLOAT32, _FLOAT32)
        for name, value in ((_TRANSA, 1), (_EPILOGUE, _EPILOGUE_BIAS), (_BIAS_DATA_TYPE, kind)):
            _set("cublasLtMatmulDescSetAttribute", self.descriptor, name, _INT(value))
        layouts = ((inner, out, inner), (inner, n, inner), (out, n, out))  # W, x, y
        self.w, self.x, self.y = (
            _create("cublasLtMatrixLayoutCreate", kind, *layout) for layout in layouts
        )
        self.result = self._choose(alignments)

    def _choose(self, alignments: tuple[int, ...]) -> _Result:
        """The algorithm that cuBLASLt expects to be the fastest."""
        preference = _create("cublasLtMatmulPreferenceCreate")
        bounds: list[tuple[int, Any]] = [(_MAX_WORKSPACE_BYTES, ctypes.c_uint64(WORKSPACE))]
        bounds += [
            (name, ctypes.c_uint32(value))
            for name, value in zip(_MIN_ALIGNMENTS, alignments, strict=True)
        ]
        for name, value in bounds:
            _set("cublasLtMatmulPreferenceSetAttribute", preference, name, value)
        result, found = _Result(), _INT(0)
        _call(
            "cublasLtMatmulAlgoGetHeuristic", _handle(_device()), self.descriptor, self.w, self.x,
            self.y, self.y, preference, 1, ctypes.addressof(result), ctypes.addressof(found),
        )  # fmt: skip
        if not found.value or result.status:
            raise KernelError("linear: cuBLASLt knows no algorithm for this product with a bias")
        return result

    def run(self, x: Any, weight: Any, bias: Any, y: Any) -> None:
        """Write y = x W^T + b."""
        address = ctypes.c_uint64(bias.data.ptr)
        _set("cublasLtMatmulDescSetAttribute", self.descriptor, _BIAS_POINTER, address)
        import cupy

        stream = cupy.cuda.get_current_stream().ptr
        workspace = _workspace(_device(), stream)
        w, one, zero = weight.data.ptr, _ONE.ctypes.data, _ZERO.ctypes.data
        _call(
            "cublasLtMatmul", _handle(_device()), self.descriptor, one, w, self.w, x.data.ptr,
            self.x, zero, y.data.ptr, self.y, y.data.ptr, self.y,
            ctypes.addressof(self.result), workspace.data.ptr, WORKSPACE, stream,
        )  # fmt: skip


def linear_with_bias(x: Any, weight: Any, bias: Any) -> Any | None:
    """y (N, out) of x (N, in), weight (out, in) and bias (out,), of one 16-bit type.

    Returns:
        None where cuBLASLt does not take them, or fails on this device.
    """
    arrays = (weight, x, bias)
    fits = all(a.flags.c_contiguous and a.dtype == x.dtype for a in arrays)
    if x.dtype.name not in _TYPES or not fits or not x.size or why_not(_device()):
        return None
    try:
        return _product(x, weight, bias)
    except KernelError:  # no algorithm for this size
        return None


def _product(x: Any, weight: Any, bias: Any) -> Any:
    import cupy

    y = cupy.empty((len(x), len(weight)), x.dtype)
    alignments = tuple(_alignment(a) for a in (weight, x, y, y))
    sizes = (len(x), x.shape[1], len(weight))
    _plan(_device(), sizes, _TYPES[x.dtype.name], alignments).run(x, weight, bias, y)
    return y


@functools.cache
def why_not(device: int) -> str | None:
    """Why cuBLASLt is not used on this device, or None: it is tried once."""
    import cupy

    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(np.float16) for s in ((48, 32), (64, 32), (64,)))
    try:
        ours = _product(*(cupy.asarray(a) for a in (x, w, b))).get()
    except (KernelError, AttributeError) as error:
        return str(error)
    expected = x.astype(np.float32) @ w.astype(np.float32).T + b
    gap = float(np.abs(ours - expected).max())
    return None if gap < 0.1 else f"linear: cuBLASLt's result is off by {gap:.2g}"


@functools.lru_cache(maxsize=256)
def _plan(device: int, sizes: tuple[int, int, int], kind: int, alignments: Any) -> _Plan:
    return _Plan(sizes, kind, alignments)


def _alignment(array: Any) -> int:
    """The largest power of two that divides the address."""
    address = array.data.ptr
    return min(address & -address, _LARGEST_ALIGNMENT) or _LARGEST_ALIGNMENT


def _device() -> int:
    import cupy

    return cupy.cuda.runtime.getDevice()


@functools.cache
def _handle(device: int) -> int:
    return _create("cublasLtCreate")


@functools.lru_cache(maxsize=64)
def _workspace(device: int, stream: int) -> Any:
    """Products on one stream run one after the other and can share it."""
    import cupy

    return cupy.empty(WORKSPACE, "int8")


def _create(name: str, *arguments: Any) -> int:
    """A new object of cuBLASLt: its address."""
    place = _POINTER()
    _call(name, ctypes.addressof(place), *arguments)
    return place.value or 0


def _set(name: str, target: int, attribute: int, value: Any) -> None:
    _call(name, target, attribute, ctypes.addressof(value), ctypes.sizeof(value))


def _call(name: str, *arguments: Any) -> None:
    status = _functions()[name](*arguments)
    if status:
        raise KernelError(f"linear: {name} failed with cuBLAS status {status}")


@functools.cache
def _functions() -> dict[str, Any]:
    return load("linear", LIBRARIES, _ARGUMENTS)
