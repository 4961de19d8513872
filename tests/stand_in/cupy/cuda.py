"""``cupy.cuda`` of the stand-in: a device, graphs, events, streams with nothing to wait for."""

import contextlib
import time

from tests import replayed_gpu, stand_in_gpu

from . import _faults

_HALF = 40 << 30  # bytes said to be free, of twice as many


class runtime:
    """The CUDA runtime's calls by name."""

    CUDARuntimeError = _faults.CUDARuntimeError
    getDevice = staticmethod(lambda: 0)
    setDevice = staticmethod(lambda index: None)
    getDeviceCount = staticmethod(lambda: 1)
    getDeviceProperties = staticmethod(lambda index: {"name": b"Stand-in H200"})
    memGetInfo = staticmethod(lambda: (_HALF, 2 * _HALF))

    @staticmethod
    def deviceSynchronize():
        """Where an error of an earlier launch shows."""
        _faults.check()


class Device:
    """A small Hopper: few multiprocessors, so that the interpreter has few programs to run."""

    compute_capability = "90"
    attributes = {"MultiProcessorCount": 1, "MaxSharedMemoryPerBlockOptin": 232448}

    def __init__(self, index=0):
        self.id = index

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def use(self):
        pass

    def synchronize(self):
        _faults.check()


class Event:
    """A moment of the host's clock."""

    def __init__(self, *args, **kwargs):
        self.time = 0.0

    def record(self, stream=None):
        self.time = time.perf_counter()

    def synchronize(self):
        _faults.check()


class Stream:
    """Everything happens at once, in the order of the host's calls."""

    def __init__(self, null=False, non_blocking=False, ptr=None):
        self.ptr = (0 if null else id(self)) if ptr is None else ptr

    def __enter__(self):
        _current.append(self)
        return self

    def __exit__(self, *exc_info):
        _current.pop()

    def record(self, event=None):
        event = event or Event()
        event.record()
        return event

    def wait_event(self, event):
        pass

    def synchronize(self):
        _faults.check()

    def begin_capture(self, mode=None):
        stand_in_gpu.CALLS = []

    def end_capture(self):
        calls, stand_in_gpu.CALLS = stand_in_gpu.CALLS, None
        return _Graph(calls)


class _Graph:
    """Repeats the calls that were noted, with the arrays that they had."""

    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream):
        _faults.check()
        for function, args, kwargs, result in self.calls:
            replayed_gpu._put(function(*args, **kwargs), result, args)


_current = [Stream(null=True)]
Stream.null = _current[0]


def get_current_stream(device_id=-1):
    return _current[-1]


def get_elapsed_time(start, end):
    """Milliseconds between two events."""
    _faults.check()
    return 1e3 * (end.time - start.time)


def is_available():
    return True


class MemoryPool:
    malloc = None


@contextlib.contextmanager
def using_allocator(malloc=None):
    yield


alloc_pinned_memory = bytearray
