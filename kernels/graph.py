"""CUDA graphs: record a fixed sequence of launches once, replay it with a single call.

A launch from Python costs microseconds; a step of a small model is hundreds of launches. A graph
replays them all at once. What it needs: the same shapes and addresses every time, and everything
that changes (learning rate, step, random key) in device memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from ._runtime import why_no_gpu
from .errors import KernelError

if TYPE_CHECKING:
    import cupy

R = TypeVar("R")

# Streams of graphs that are gone, by device: libraries keep a workspace for each stream they met.
_idle: dict[int, list[cupy.cuda.Stream]] = {}


class CapturedGraph(Generic[R]):
    """A recorded sequence of launches; `result` is what the function returned while recording."""

    def __init__(self, graph: cupy.cuda.Graph, stream: cupy.cuda.Stream,
                 pool: cupy.cuda.MemoryPool, result: R) -> None:
        self.result = result
        self._graph = graph
        self._stream = stream
        self._pool = pool  # replays write to the addresses recorded, so the memory must stay

    @property
    def stream(self) -> cupy.cuda.Stream:
        """Where the launches run; a replay from within it waits for no other stream."""
        return self._stream

    def replay(self) -> R:
        """Run the launches again, in order with CuPy's current stream; returns `result`."""
        import cupy
        current = cupy.cuda.get_current_stream()
        if current.ptr == self._stream.ptr:
            self._graph.launch(self._stream)
            return self.result
        self._stream.wait_event(current.record())
        self._graph.launch(self._stream)
        current.wait_event(self._stream.record())
        return self.result


def capture(fn: Callable[[], R], warmup: int = 2) -> CapturedGraph[R]:
    """Record the launches of `fn` into a CUDA graph.

    `fn` runs `warmup` times first, so that everything is compiled and every library has its
    workspace; it must not copy to the host or read a result. Arrays it allocates come from a
    memory pool of the graph's own and are overwritten by each replay. Arrays that it finds, such
    as its inputs, are the caller's to keep: a replay reads and writes where they were.
    Raises KernelError without a GPU, and where `fn` does something that cannot be recorded.
    """
    if (reason := why_no_gpu()) is not None:
        raise KernelError(f"capture: {reason}")
    import cupy
    idle = _idle.setdefault(int(cupy.cuda.runtime.getDevice()), [])
    stream = idle.pop() if idle else cupy.cuda.Stream(non_blocking=True)
    pool = cupy.cuda.MemoryPool()
    stream.wait_event(cupy.cuda.get_current_stream().record())
    with stream, cupy.cuda.using_allocator(pool.malloc):
        for _ in range(warmup):
            fn()
        stream.synchronize()
        result, graph = _record(fn, stream)
    cupy.cuda.get_current_stream().wait_event(stream.record())
    captured = CapturedGraph(graph, stream, pool, result)
    weakref.finalize(captured, idle.append, stream)
    return captured


def _record(fn: Callable[[], R], stream: cupy.cuda.Stream) -> tuple[R, cupy.cuda.Graph]:
    stream.begin_capture()
    try:
        result = fn()
    except Exception as error:
        _abandon(stream)
        raise KernelError(
            f"capture: {error}; a graph cannot record copies to the host, reading a result, or a "
            "first compilation") from error
    return result, stream.end_capture()


def _abandon(stream: cupy.cuda.Stream) -> None:
    """End a recording that failed, so that the stream can be used again."""
    import cupy
    try:
        stream.end_capture()
    except cupy.cuda.runtime.CUDARuntimeError:  # the failed call has ended it already
        return
