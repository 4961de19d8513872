"""A Triton driver that takes device, stream, events and scratch memory from CuPy.

Triton asks its *active driver* for the current device, the current stream and a benchmark clock.
The driver that ships with it answers through PyTorch (3.6, 3.7) or knows the default stream only
(3.8, 3.9). This one answers through CuPy, so that a kernel runs on the stream that CuPy is on and
can be captured into a CUDA graph. Compiler, loader and launcher stay Triton's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NoReturn

import cupy
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.driver import CudaDriver, CudaLauncher, CudaUtils

from ._types import Array, memory_of

POOL_ALIGNMENT = 512  # bytes; every block of CuPy's memory pool starts at a multiple of it


class Pointer:
    """What Triton reads of an array argument: an address and a dtype whose name it knows."""

    __slots__ = ("_address", "array", "dtype")

    def __init__(self, array: Array) -> None:
        self.array = array  # keeps the memory alive
        self.dtype = array.dtype
        self._address = memory_of(array).ptr

    def data_ptr(self) -> int:
        return self._address

    def zero_(self) -> None:
        """Fill with zeros; Triton calls this on the profiler's scratch memory."""
        self.array.fill(0)


class CupyDriver(CudaDriver):
    """Triton's CUDA driver with every question about the process answered by CuPy."""

    def __init__(self) -> None:
        # Not super().__init__(): it imports torch in Triton 3.6 and 3.7.
        cupy.cuda.runtime.deviceSynchronize()  # creates the CUDA context that Triton will use
        self.utils = CudaUtils()
        self.launcher_cls = CudaLauncher
        self.get_current_device = cupy.cuda.runtime.getDevice
        self.set_current_device = cupy.cuda.runtime.setDevice
        self._targets: dict[int, GPUTarget] = {}

    def get_current_stream(self, device: int | None = None) -> int:
        return cupy.cuda.get_current_stream().ptr

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        device = self.get_current_device() if device is None else device
        digits = cupy.cuda.Device(device).compute_capability  # "90", "100"
        return int(digits[:-1]), int(digits[-1])

    def get_current_target(self) -> GPUTarget:
        device = self.get_current_device()
        if device not in self._targets:
            major, minor = self.get_device_capability(device)
            self._targets[device] = GPUTarget("cuda", major * 10 + minor, 32)
        return self._targets[device]

    @staticmethod
    def is_active() -> bool:
        return cupy.cuda.is_available()

    def get_active_torch_device(self) -> NoReturn:
        raise RuntimeError("Triton runs through CuPy here: there is no torch device")

    def get_benchmarker(self) -> Callable[..., list[float]]:
        from .tuning import do_bench
        return lambda fn, quantiles=(0.5, 0.2, 0.8), **_: do_bench(fn, quantiles=quantiles)

    def allocate_default_profile_scratch(self, size: int, alignment: int, stream: int) -> Pointer:
        scratch = allocate_scratch(size, alignment, stream)
        scratch.zero_()
        return scratch


def allocate_scratch(size: int, alignment: int, stream: int | None) -> Pointer:
    """Device memory that a kernel asked for, `size` bytes.

    CuPy's pool hands memory out again in stream order, so the block may be dropped right after a
    launch on CuPy's current stream.
    """
    if alignment > POOL_ALIGNMENT:
        raise ValueError(f"scratch memory aligned to {alignment} bytes: at most {POOL_ALIGNMENT}")
    return Pointer(cupy.empty(size, dtype="int8"))


_driver: CupyDriver | None = None


def driver() -> CupyDriver:
    """The one driver of this process; the first call compiles a small C module."""
    global _driver
    if _driver is None:
        _driver = CupyDriver()
        triton.runtime.driver.set_active(_driver)
    return _driver


@contextlib.contextmanager
def active_driver() -> Iterator[CupyDriver]:
    """Triton compiles and launches through CuPy inside; another user's driver comes back after."""
    config = triton.runtime.driver
    before = config._active
    ours = driver()
    config.set_active(ours)
    triton.set_allocator(allocate_scratch)  # a context variable: each thread needs its own
    try:
        yield ours
    finally:
        if before is not None:
            config.set_active(before)
