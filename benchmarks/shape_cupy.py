"""A CuPy whose arrays have no numbers (shape_arrays.py) and whose streams run nothing."""

from __future__ import annotations

import contextlib
import itertools
import sys
import types
from collections.abc import Callable

from shape_arrays import ShapeArray, by_name, functions


class Stream:
    """A stream and its events: nothing runs, so all has always happened."""

    numbers = itertools.count(1)
    on_capture: Callable[[], None] = staticmethod(lambda: None)  # called where a graph begins

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = next(self.numbers)

    def _itself(self, *_: object) -> Stream:
        return self

    record = launch = end_capture = __enter__ = _itself

    def _nothing(self, *_: object) -> None:
        pass

    wait_event = synchronize = __exit__ = _nothing

    def begin_capture(self) -> None:
        self.on_capture()


# compute capability -> name, multiprocessors, bytes of shared memory that a program may use
CHIPS = {
    80: ("NVIDIA A100", 108, 163 << 10),
    90: ("NVIDIA H100 80GB HBM3", 132, 227 << 10),
    100: ("NVIDIA B200", 148, 227 << 10),
}


class _Device:
    compute_capability: str
    attributes: dict[str, int]

    def __init__(self, index: int = 0) -> None:
        self.id = index

    __enter__ = __exit__ = Stream._nothing


def _cuda(name: str) -> types.SimpleNamespace:
    null = Stream()
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceCount=lambda: 1,
        deviceSynchronize=lambda: None,
        setDevice=lambda index: None,
        memGetInfo=lambda: (80 << 30, 80 << 30),
        getDeviceProperties=lambda index: {"name": name.encode()},
    )
    return types.SimpleNamespace(
        is_available=lambda: True,
        Device=_Device,
        Stream=Stream,
        Event=Stream,
        runtime=runtime,
        get_current_stream=lambda *_: null,
        alloc_pinned_memory=bytearray,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: contextlib.nullcontext(),
    )


def install(chip: int = 90) -> types.ModuleType:
    """Make ``import cupy`` give this module in the whole process: a GPU without numbers."""
    name, multiprocessors, shared = CHIPS[chip]
    _Device.compute_capability = str(chip)
    _Device.attributes = {
        "MultiProcessorCount": multiprocessors,
        "MaxSharedMemoryPerBlockOptin": shared,
    }
    cupy = types.ModuleType("cupy")
    vars(cupy).update(
        functions(),
        __getattr__=by_name,
        ndarray=ShapeArray,
        cuda=_cuda(name),
        get_default_memory_pool=lambda: types.SimpleNamespace(free_all_blocks=lambda: None),
    )
    sys.modules["cupy"] = cupy
    return cupy
