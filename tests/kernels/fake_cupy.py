"""A stand-in for CuPy next to fake_cuda.c: arrays with made-up addresses, streams, events."""

from __future__ import annotations

import sys
import time
import types

import numpy as np

ALIGNMENT = 512
_next_address = 0x7F0000000000


class Memory:
    def __init__(self, ptr, device_id=0):
        self.ptr, self.device_id = ptr, device_id


class ndarray:
    """Shape, strides and dtype of a NumPy array, with an address on a device that is not there."""

    def __init__(self, host, base=None, device_id=0):
        global _next_address
        self._host = host
        if base is None:
            base = _next_address - host.ctypes.data
            _next_address += -(-host.nbytes // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self._shift = base
        self.data = Memory(host.ctypes.data + base, device_id)

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)

    def reshape(self, *shape):
        return ndarray(self._host.reshape(*shape), self._shift, self.data.device_id)

    def swapaxes(self, a, b):
        return ndarray(self._host.swapaxes(a, b), self._shift, self.data.device_id)

    def transpose(self, *axes):
        return ndarray(self._host.transpose(*axes), self._shift, self.data.device_id)

    def __getitem__(self, index):
        return ndarray(self._host[index], self._shift, self.data.device_id)

    def fill(self, value):
        self._host.fill(value)


def empty(shape, dtype="float32"):
    return ndarray(np.zeros(shape, dtype))


class Stream:
    def __init__(self, ptr=0x51, non_blocking=False):
        self.ptr, self.log = ptr, []

    def begin_capture(self):
        self.log.append("begin")

    def end_capture(self):
        self.log.append("end")
        return types.SimpleNamespace(launch=lambda stream: self.log.append("replay"))

    def record(self):
        return Event()

    def wait_event(self, event):
        pass

    def synchronize(self):
        pass

    def __enter__(self):
        current.append(self)
        return self

    def __exit__(self, *error):
        current.pop()


class Event:
    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


class Device:
    """A device by number; the kernels read its compute capability and some attributes."""

    id = 0
    capability = "90"
    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448}

    def __init__(self, number=0):
        self.compute_capability = Device.capability


current = [Stream(0x5005)]


def install():
    """Make `import cupy` give this stand-in."""
    module = types.ModuleType("cupy")
    module.ndarray, module.empty, module.zeros = ndarray, empty, empty
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            getDevice=lambda: 0,
            setDevice=lambda number: None,
            deviceSynchronize=lambda: None,
            getDeviceProperties=lambda number: {"name": b"Stand-in H100"},
        ),
        get_current_stream=lambda device=None: current[-1],
        Device=Device,
        Stream=Stream,
        Event=Event,
        is_available=lambda: True,
        get_elapsed_time=lambda start, end: (end.time - start.time) * 1e3,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: Stream(),
    )
    sys.modules["cupy"] = module
    return module
