"""launch(): one way to run a kernel, on NumPy arrays, on CuPy arrays, or on nothing at all.

* NumPy arrays: Triton's interpreter, program by program on the CPU, with every memory access
  checked (_interpreter.py). Slow, and exact enough to test arithmetic.
* CuPy arrays: compiled and launched on CuPy's current stream (_driver.py). The first launch of a
  specialization goes through Triton; later ones take a thin path that only gathers addresses.
* inside ``compile_only(sm)``: compiled for that chip, nothing runs (compiling.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ._descriptors import Argument, Descriptor, array_of, triton_arguments, why_no_descriptor
from ._missing import explain, install_hint, why_no_gpu
from ._types import Array, Grid, memory_of
from .errors import KernelError

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

_FUSION = {"enable_fp_fusion": True}  # a*b + c rounds once; Triton 3.10 turns the default off

CompileLaunch = Callable[["JITFunction", Grid, tuple[Argument, ...], dict[str, object]], None]
compile_launch: CompileLaunch | None = None  # set while compile_only() is entered
compile_chip = 90  # what it compiles for

# Largest shared memory of one program in bytes (CUDA C++ Programming Guide, table of technical
# specifications per compute capability).
SHARED_MEMORY = {80: 163 << 10, 86: 99 << 10, 87: 163 << 10, 89: 99 << 10, 90: 227 << 10,
                 100: 227 << 10, 103: 227 << 10, 120: 99 << 10}

_compiled: dict[tuple[object, ...], tuple[Any, ...]] = {}


def launch(kernel: JITFunction, grid: Grid, *args: Argument, num_warps: int = 4,
           num_stages: int = 3, max_registers: int | None = None, **constants: object) -> None:
    """Run `kernel`, a function under ``@triton.jit``, once for every program of `grid`.

    args: the kernel's run-time parameters in order: arrays, Descriptor, int, float, None. The
        first is an array or a Descriptor and decides where the kernel runs.
    constants: its tl.constexpr parameters, by name
    max_registers: per thread; without it the assembler may spill a few of them to let one program
        more run at a time, with 255 it spills none that fits
    Raises KernelError where the kernel cannot run, with the reason.
    """
    if 0 in grid:
        return
    if is_host(array_of(args[0])) and compile_launch is None:
        _interpret(kernel, grid, args, constants)
        return
    if max_registers is not None:
        constants["maxnreg"] = max_registers  # Triton's name; an option, not a parameter
    if compile_launch is not None:
        _require_descriptors(kernel, args, compile_chip)
        options = dict(constants, num_warps=num_warps, num_stages=num_stages, **_FUSION)
        compile_launch(kernel, grid, args, options)
    else:
        _launch_on_gpu(kernel, grid, args, num_warps, num_stages, constants)


class HostPointer:
    """What Triton reads of a NumPy argument: an address and a dtype whose name it knows."""

    __slots__ = ("array", "dtype")

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.dtype = array.dtype

    def data_ptr(self) -> int:
        return self.array.ctypes.data


def _interpret(kernel: JITFunction, grid: Grid, args: tuple[Argument, ...],
               constants: dict[str, object]) -> None:
    from . import _interpreter
    names = kernel.arg_names
    places = [array_of(a) for a in args]
    arrays = [a for a in places if isinstance(a, np.ndarray)]
    wrapped = triton_arguments(args, np.ndarray, HostPointer)
    for name, value in zip(names, places, strict=False):
        if not (value is None or isinstance(value, (np.ndarray, int, float))):
            raise KernelError(
                f"kernel {kernel.__name__}: argument {name} is a {type(value).__name__} while the "
                "first argument is a NumPy array; pass arrays of one device, int, float or None")
    arguments = dict(zip(names, wrapped, strict=False), **constants)
    missing = [name for name in names if name not in arguments]
    if missing:
        raise KernelError(f"kernel {kernel.__name__}: no value for {', '.join(missing)}")
    _interpreter.run(kernel.fn, grid, arguments, frozenset(constants), arrays)


def _launch_on_gpu(kernel: JITFunction, grid: Grid, args: tuple[Any, ...], num_warps: int,
                   num_stages: int, constants: dict[str, object]) -> None:
    """Launch past Triton's own launcher; the key is all that Triton compiles a kernel anew for."""
    array_type, current_device, current_stream = _cupy_calls()
    device = current_device()
    key: list[object] = [id(kernel), device, num_warps, num_stages, *constants.items()]
    values: list[object] = []
    for a in args:
        kind = type(a)
        if kind is array_type:
            memory = a.data
            address = memory.ptr
            if memory.device_id != device and address:
                raise _wrong_device(kernel, args, device)
            key.append((a.dtype.num, address & 15 == 0))
            values.append(address)
        elif kind is Descriptor:
            if a.array.data.device_id != device:
                raise _wrong_device(kernel, args, device)
            key.append((a.dtype.num, a.block_shape))
            values.append(a)  # made into a tensor map at every launch: sizes are no part of the key
        else:
            # Triton compiles anew for 1, for multiples of 16 and for 64-bit integers
            key.append((a == 1, a & 15 == 0, -2**31 <= a < 2**31) if kind is int else kind)
            values.append(a)
    hit = _compiled.get(tuple(key))
    if hit is None:
        _first_launch(kernel, grid, args, num_warps, num_stages, constants, tuple(key))
        return
    run, function, metadata, tail, _ = hit
    x, y, z = (*grid, 1, 1)[:3]
    run(x, y, z, current_stream().ptr, function, metadata, None, None, None, *values, *tail)


def _first_launch(kernel: JITFunction, grid: Grid, args: tuple[Argument, ...], num_warps: int,
                  num_stages: int, constants: dict[str, object],
                  key: tuple[object, ...]) -> None:
    reason = why_no_gpu()
    if reason is not None:
        raise KernelError(f"kernel {kernel.__name__}: {reason}")
    from . import _driver
    array_type = _cupy_calls()[0]
    _require_descriptors(kernel, args, _device_capability(_cupy_calls()[1]()))
    for a in map(array_of, args):
        if not (a is None or isinstance(a, (array_type, int, float))):
            raise KernelError(
                f"kernel {kernel.__name__}: an argument is a {type(a).__name__} while the first "
                "is a CuPy array; move it with cupy.asarray")
    wrapped = triton_arguments(args, array_type, _driver.Pointer)
    try:
        with _driver.active_driver():
            compiled = kernel[grid](*wrapped, num_warps=num_warps, num_stages=num_stages,
                                    **_FUSION, **constants)
    except Exception as error:
        raise KernelError(f"kernel {kernel.__name__}: {explain(error)}") from error
    if compiled.metadata.global_scratch_size == 0:  # scratch is handed out by Triton's own path
        tail = tuple(constants[name] for name in kernel.arg_names[len(args):])
        _compiled[key] = (compiled.run, compiled.function, compiled.packed_metadata, tail, kernel)


def _require_descriptors(kernel: JITFunction, args: tuple[Argument, ...], chip: int) -> None:
    for a in args:
        if type(a) is Descriptor and (reason := why_no_descriptor(a.array, chip)) is not None:
            raise KernelError(f"kernel {kernel.__name__}: {reason}; ask why_no_descriptor first")


@functools.cache
def _cupy_calls() -> tuple[type, Callable[[], int], Callable[[], Any]]:
    try:
        import cupy
    except ImportError:
        raise KernelError(install_hint("CuPy")) from None
    return cupy.ndarray, cupy.cuda.runtime.getDevice, cupy.cuda.get_current_stream


def _wrong_device(kernel: JITFunction, args: tuple[Any, ...], device: int) -> KernelError:
    arrays = [a for a in map(array_of, args) if not (a is None or isinstance(a, (int, float)))]
    found = sorted({memory_of(a).device_id for a in arrays})
    return KernelError(
        f"kernel {kernel.__name__}: the current CUDA device is {device}, the arrays are on "
        f"{', '.join(map(str, found))}; enter `with cupy.cuda.Device(n):` of the arrays")


def is_host(array: object) -> bool:
    """Whether `array` lives in host memory; None stands for an array on a GPU."""
    return isinstance(array, np.ndarray)


def array_module(array: Array) -> ModuleType:
    """numpy or cupy, whichever `array` belongs to."""
    if isinstance(array, np.ndarray):
        return np
    import cupy
    return cupy


@functools.cache
def _multiprocessors(device: int) -> int:
    import cupy
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def program_count(array: Array, per_multiprocessor: int = 2) -> int:
    """How many programs fill the device of `array`; three in the interpreter."""
    if compile_launch is not None or isinstance(array, np.ndarray):
        return 3
    return _multiprocessors(memory_of(array).device_id) * per_multiprocessor


def shared_memory_limit(array: Array) -> int:
    """Bytes of shared memory that one program may use on the chip of `array`."""
    if isinstance(array, np.ndarray):
        return SHARED_MEMORY[compile_chip]
    return _device_shared_memory(memory_of(array).device_id)


def capability(array: Array) -> int:
    """Compute capability of the chip of `array`, 90 for an H100; compile_only's on the host."""
    return compile_chip if is_host(array) else _device_capability(memory_of(array).device_id)


@functools.cache
def _device_capability(device: int) -> int:
    import cupy
    return int(cupy.cuda.Device(device).compute_capability)


@functools.cache
def _device_shared_memory(device: int) -> int:
    import cupy
    return int(cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


def cdiv(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least `n`; Triton's blocks have such sizes."""
    return 1 << max(n - 1, 0).bit_length()
