"""Tensor descriptors: a kernel reads, writes or adds to whole blocks of an array by their position.

    launch(kernel, grid, Descriptor(x, (64, 64)), ...)     # x: (M, N)
    block = X.load([row, column])                          # in the kernel: (64, 64)
    X.store([row, column], block), X.atomic_add([row, column], block)

The Tensor Memory Accelerator of sm_90 and newer copies such a block with one instruction of one
thread. Elements outside the array are read as zeros and never written, so that no mask is needed.
The descriptor, 128 bytes, is passed by value: a CUDA graph keeps it.

Reference: CUDA driver API, cuTensorMapEncodeTiled.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable

import numpy as np

from ._types import Array, memory_of
from .errors import KernelError

FIRST_CAPABILITY = 90  # compute capability 9.0, the first with a Tensor Memory Accelerator
MAX_RANK = 5
ALIGNMENT = 16  # bytes, of the first element and of every stride but the last


class Descriptor:
    """An array that a kernel takes by blocks; an argument of launch() in place of the array.

    array: up to five axes, the last contiguous; its address and its other strides are multiples of
        16 bytes, and no axis is broadcast or runs backward
    block_shape: elements of a block along each axis, powers of two; at least 16 bytes along the
        last axis
    Raises KernelError where the array or the block is none that a descriptor can describe.
    """

    __slots__ = ("array", "block_shape", "dtype", "padding", "round_f32_to_tf32", "shape",
                 "strides")

    def __init__(self, array: Array, block_shape: tuple[int, ...]) -> None:
        reason = why_no_descriptor(array) or _why_no_block(array.ndim, array.itemsize, block_shape)
        if reason is not None:
            raise KernelError(f"Descriptor: {reason}")
        self.array, self.block_shape, self.dtype = array, block_shape, array.dtype
        self.shape = array.shape
        self.strides = tuple(stride // array.itemsize for stride in array.strides)  # in elements
        # what Triton's launcher asks for besides
        self.padding, self.round_f32_to_tf32 = "zero", False

    @property
    def base(self) -> Descriptor:
        """Triton's launcher takes the address from here."""
        return self

    def data_ptr(self) -> int:
        """The address of the first element, of an array on a GPU."""
        return memory_of(self.array).ptr


def address(array: Array) -> int:
    """Where the first element lies, in host memory or on a GPU."""
    return array.ctypes.data if isinstance(array, np.ndarray) else memory_of(array).ptr


def why_no_descriptor(array: Array, chip: int = FIRST_CAPABILITY) -> str | None:
    """The reason why `array` can have no descriptor on sm_`chip`, or None where it can."""
    if chip < FIRST_CAPABILITY:
        return f"tensor descriptors need sm_{FIRST_CAPABILITY}, this is sm_{chip}"
    if not 1 <= array.ndim <= MAX_RANK or array.size == 0:
        return f"a descriptor needs 1 to {MAX_RANK} axes, none empty, got shape {array.shape}"
    if array.strides[-1] != array.itemsize:
        return (f"the last axis must be contiguous, got strides of {array.strides} bytes; pass a "
                "contiguous copy")
    if address(array) % ALIGNMENT or any(
            stride % ALIGNMENT or stride <= 0 for stride in array.strides[:-1]):
        return (f"address and strides must be positive multiples of {ALIGNMENT} bytes, got address "
                f"{address(array):#x} and strides {array.strides}; pass an aligned copy")
    return _why_not_crossed(array)


def _why_not_crossed(array: Array) -> str | None:
    """The reason why the driver refuses strides that grow from one axis to the next, or None.

    Packed projections have such strides: heads stand side by side within a row, so that the step to
    the next head is shorter than that to the next row. CUDA's manual shows no such case and does
    not forbid it, so the driver of each device is asked once.
    """
    falling = all(a >= b for a, b in itertools.pairwise(array.strides))
    if falling or isinstance(array, np.ndarray):
        return None
    device = memory_of(array).device_id
    if device not in _answers:
        _answers[device] = _ask_the_driver(address(array))
    return _answers[device]


_answers: dict[int, str | None] = {}


def _ask_the_driver(start: int) -> str | None:
    """Have a map made of 2 heads of 64 halves in rows of 768 bytes; nothing is read there."""
    try:
        encode = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled
    except (OSError, AttributeError):  # without it nothing is launched either
        return None
    sizes, strides = (ctypes.c_uint64 * 4)(64, 128, 2, 2), (ctypes.c_uint64 * 3)(768, 128, 98304)
    block, steps = (ctypes.c_uint32 * 4)(64, 64, 1, 1), (ctypes.c_uint32 * 4)(1, 1, 1, 1)
    room = ctypes.create_string_buffer(192)  # for 128 bytes that begin at a multiple of 64
    place = -(-ctypes.addressof(room) // 64) * 64
    float16, plain, swizzle_128_bytes = 6, 0, 3  # CUtensorMapDataType, Interleave, Swizzle
    status = encode(ctypes.c_void_p(place), float16, 4, ctypes.c_void_p(start), sizes, strides,
                    block, steps, plain, swizzle_128_bytes, 0, 0)
    return f"the driver takes only axes within each other (status {status})" if status else None


@functools.cache
def _why_no_block(ndim: int, itemsize: int, block_shape: tuple[int, ...]) -> str | None:
    powers = all(isinstance(n, int) and n > 0 and n & (n - 1) == 0 for n in block_shape)
    if len(block_shape) != ndim or not powers:
        return f"block_shape must be a power of two for each of the {ndim} axes, got {block_shape}"
    if block_shape[-1] * itemsize < ALIGNMENT:
        return (f"a block must have at least {ALIGNMENT} bytes along the last axis, got "
                f"{block_shape[-1]} elements of {itemsize} bytes")
    return None


Argument = Array | Descriptor | int | float | None  # of a launch, given when it runs


def array_of(argument: Argument) -> Array | int | float | None:
    """The array behind a launch argument; other arguments are returned as they are."""
    return argument.array if isinstance(argument, Descriptor) else argument


def triton_arguments(arguments: tuple[Argument, ...], array_type: type[Array],
                     pointer: Callable[[Array], object]) -> list[object]:
    """Launch arguments as Triton takes them: each array as pointer(array), descriptors too."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    def convert(a: Argument) -> object:
        if isinstance(a, Descriptor):
            return TensorDescriptor(pointer(a.array), list(a.shape), list(a.strides),
                                    list(a.block_shape))
        return pointer(a) if isinstance(a, array_type) else a

    return [convert(a) for a in arguments]
