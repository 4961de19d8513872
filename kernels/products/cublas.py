"""cublasGemmEx and its batched form, called on CuPy's current stream.

CuPy wraps both, but raises NotImplementedError while a stream is captured into a CUDA graph. cuBLAS
itself can be captured, best with a workspace of the caller's, since it would otherwise allocate one
within the graph (cuBLAS documentation, "CUDA Graphs Support" and "cublasSetWorkspace").
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence

from .._types import Array, memory_of
from ..errors import KernelError

LIBRARIES = ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11")
WORKSPACE = 32 << 20  # bytes, the documentation's size for Hopper, four times that for older chips

Function = Callable[..., int]  # of the library; returns a status
_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_SIZES = [_POINTER, *[_INT] * 5, _POINTER]  # handle, two transpositions, m, n, k, alpha
_MATRIX = [_POINTER, _INT, _INT]  # address, type, leading dimension
_BATCH = [*_MATRIX, _LONG]  # and the distance from one matrix to the next
_ARGUMENTS: dict[str, list[type]] = {
    "cublasCreate_v2": [_POINTER],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmEx": [*_SIZES, *_MATRIX, *_MATRIX, _POINTER, *_MATRIX, _INT, _INT],
    "cublasGemmStridedBatchedEx": [*_SIZES, *_BATCH, *_BATCH, _POINTER, *_BATCH, *[_INT] * 3],
}


def gemm_ex(*arguments: int | None) -> None:
    """cublasGemmEx with the arguments after the handle; addresses are integers."""
    _call("cublasGemmEx", _handle(), *arguments)


def gemm_strided_batched_ex(*arguments: int | None) -> None:
    """cublasGemmStridedBatchedEx with the arguments after the handle."""
    _call("cublasGemmStridedBatchedEx", _handle(), *arguments)


class _Handles(threading.local):
    """This thread's handle and its stream for each device; workspaces for each stream."""

    def __init__(self) -> None:
        self.of_device: dict[int, tuple[int, int]] = {}
        self.workspaces: dict[tuple[int, int], Array] = {}


_handles = _Handles()


def _handle() -> int:
    """A cuBLAS handle of the current device, set to CuPy's current stream."""
    import cupy
    device, stream = cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr
    handle, of_stream = _handles.of_device.get(device, (0, -1))
    if of_stream == stream:
        return handle
    if not handle:
        place = _POINTER()
        _call("cublasCreate_v2", ctypes.addressof(place))
        handle = place.value or 0
    _call("cublasSetStream_v2", handle, stream)
    _call("cublasSetWorkspace_v2", handle, workspace(device, stream), WORKSPACE)
    _handles.of_device[device] = handle, stream
    return handle


def workspace(device: int, stream: int) -> int:
    """Address of WORKSPACE bytes for the products that this thread launches on a stream.

    Products of one stream run one after the other, so they can share it. It is allocated outside of
    CuPy's pools: the first product on a stream may be recorded in a graph, and memory from the
    graph's pool is freed with the graph, even while an array still refers to it. It must stay
    longer than that, since a later stream may have the same number and so get the same workspace.
    """
    import cupy
    array = _handles.workspaces.get((device, stream))
    if array is None:
        with cupy.cuda.using_allocator(None):
            array = _handles.workspaces[device, stream] = cupy.empty(WORKSPACE, "int8")
    return int(memory_of(array).ptr)


def _call(name: str, *arguments: int | None) -> None:
    status = _functions()[name](*arguments)
    if status:
        raise KernelError(f"matmul: {name} failed with cuBLAS status {status}; 3 is too little "
                          "memory, 13 and 15 a type or an alignment that this chip lacks")


@functools.cache
def _functions() -> dict[str, Function]:
    return load("matmul", LIBRARIES, _ARGUMENTS)


def load(op: str, libraries: tuple[str, ...],
         arguments: Mapping[str, Sequence[type]]) -> dict[str, Function]:
    """Functions by name from the cuBLAS that CuPy has loaded, which knows where it lies.

    libraries: names of the same file in several versions; arguments: types by function
    Raises KernelError, beginning with `op`, where CuPy has loaded none of them.
    """
    try:
        from cupy_backends.cuda.libs import cublas  # noqa: F401
    except ImportError as error:
        raise KernelError(f"{op}: CuPy finds no cuBLAS ({error}); install CuPy with its CUDA "
                          "libraries: pip install 'cupy-cuda13x[ctk]'") from None
    library = _loaded(op, libraries)
    found = {}
    for name, types in arguments.items():
        found[name] = getattr(library, name)
        found[name].argtypes, found[name].restype = types, _INT
    return found


def _loaded(op: str, libraries: tuple[str, ...]) -> ctypes.CDLL:
    for name in libraries:
        try:
            return ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        except OSError:
            continue
    raise KernelError(f"{op}: CuPy's cuBLAS is none of {', '.join(libraries)}; install a CuPy "
                      "for CUDA 11 to 13")
