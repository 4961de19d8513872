"""Memory for NumPy arrays that is used again instead of being given back to the system.

A fresh large array costs more than its computation: the kernel must find, clear and map each
page when it is first written. A training step makes the same arrays every time, so `empty` takes
them from those that died before.

    x = empty((2048, 384), np.float32)      a block from the pool, or a new one
    y = x[10:]                              a view keeps the block
    del x, y                                the block is back in the pool, at once

No one returns anything by hand. Between a block and the arrays in it stands a window: an array of
bytes, made anew each time the block is lent, which becomes the ``base`` of every view. A weak
reference to the window brings the block back when the last view is gone.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tinygrad_llm.backend.dtypes import DTypeLike

SMALLEST = 32 * 1024  # bytes; smaller arrays are left to NumPy, whose allocator keeps them warm
ALIGNMENT = 64  # bytes: a cache line, and the width of a vector register
HEADROOM = 1.25  # of the most memory ever used at a time may be held ...
SLACK = 16 << 20  # ... and this much more: scratch of several threads, which small models feel


@dataclass
class Statistics:
    """What the pool has done and holds.

    Attributes:
        requests: arrays handed out.
        allocations: those that needed a new block; constant while training is steady.
        in_use: bytes of blocks that arrays stand in.
        idle: bytes of blocks that wait for use.
        peak: the most that was ever in use.
    """

    requests: int = 0
    allocations: int = 0
    in_use: int = 0
    idle: int = 0
    peak: int = 0


class _Lease(weakref.ref):
    """A weak reference to a window, which knows the block behind it."""

    __slots__ = ("block",)
    block: memoryview


class Pool:
    """Blocks of memory by size."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self._idle: dict[int, list[memoryview]] = defaultdict(list)
        self._leases: dict[int, _Lease] = {}
        self._lock = threading.RLock()  # a block may come back while another is being taken

    def renew_lock(self) -> None:
        """For a forked child, where the thread that held the lock does not exist."""
        self._lock = threading.RLock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array with arbitrary values, as ``np.empty``."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < SMALLEST:
            return np.empty(shape, dtype)
        size = _size_class(nbytes)
        with self._lock:
            block = self._take(size)
            # NumPy shortens chains of bases, but not past one that is no array: hence memoryviews.
            window = np.frombuffer(block, np.uint8)
            lease = _Lease(window, self._give_back)
            lease.block = block
            self._leases[id(lease)] = lease
        return np.ndarray(shape, dtype, buffer=window)

    def _take(self, size: int) -> memoryview:
        statistics, waiting = self.statistics, self._idle.get(size)
        statistics.requests += 1
        statistics.in_use += size
        statistics.peak = max(statistics.peak, statistics.in_use)
        if waiting:
            statistics.idle -= size
            return waiting.pop()
        statistics.allocations += 1
        self._shrink(int(HEADROOM * statistics.peak) + SLACK - statistics.in_use)
        return _aligned(size)

    def _give_back(self, lease: _Lease) -> None:
        with self._lock:
            block = self._leases.pop(id(lease)).block
            self._idle[block.nbytes].append(block)
            self.statistics.in_use -= block.nbytes
            self.statistics.idle += block.nbytes

    def _shrink(self, limit: int) -> None:
        """Free idle blocks, the sizes that came up first before others, down to ``limit``."""
        for size in list(self._idle):
            while self.statistics.idle > limit and self._idle[size]:
                self._idle[size].pop()
                self.statistics.idle -= size
            if not self._idle[size]:
                del self._idle[size]

    def trim(self) -> int:
        """Give all idle blocks back to the system; returns how many bytes that were."""
        with self._lock:
            freed = self.statistics.idle
            self._shrink(0)
        return freed


def _size_class(nbytes: int) -> int:
    """``nbytes`` rounded up to one of sixteen steps per power of two, so that sizes recur."""
    step = max(ALIGNMENT, 1 << (nbytes.bit_length() - 5))
    return -(-nbytes // step) * step


def _aligned(size: int) -> memoryview:
    """A new block of ``size`` bytes that begins at a multiple of ALIGNMENT."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return memoryview(raw[start : start + size])  # type: ignore[arg-type]


_pool = Pool()

if hasattr(os, "register_at_fork"):  # a fork waits until the books are in order
    os.register_at_fork(
        before=lambda: _pool._lock.acquire(),
        after_in_parent=lambda: _pool._lock.release(),
        after_in_child=_pool.renew_lock,
    )


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array with arbitrary values from the process's pool; see the head of this file."""
    return _pool.empty(shape, dtype)


def empty_like(x: np.ndarray) -> np.ndarray:
    """An array of x's shape and type from the pool, in C order."""
    return _pool.empty(x.shape, x.dtype)


def statistics() -> Statistics:
    """The pool's counters, for memory reports."""
    return _pool.statistics


def trim() -> int:
    """Give idle memory back to the system; returns the number of bytes."""
    return _pool.trim()
