"""``cupy.cuda`` for stand_in_gpu.py: one device, and streams on which all happens at once."""

import contextlib


class Stream:
    """Everything happens at once, so an event has always happened."""

    def __init__(self, non_blocking=False):
        pass

    def record(self):
        return self

    def wait_event(self, event):
        pass

    def synchronize(self):
        pass


class Cuda:
    """``cupy.cuda``: one device."""

    Stream = Stream
    get_current_stream = staticmethod(Stream)
    alloc_pinned_memory = staticmethod(bytearray)

    class runtime:
        getDevice = staticmethod(lambda: 0)
        getDeviceCount = staticmethod(lambda: 1)
        getDeviceProperties = staticmethod(lambda device: {"name": b"Stand-in"})

    @staticmethod
    @contextlib.contextmanager
    def Device(index):
        yield index
