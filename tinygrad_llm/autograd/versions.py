"""Noticing that an array was overwritten before the backward pass could use it.

Every node of the graph and every recorded write takes the next number of one clock. If a node
saved an array, and the array's memory was written to at a later time, then the values that the
derivative needs are gone, and the walk stops with an error instead of a wrong gradient.

Memory, not tensors, is compared, so a write through a view is noticed too. A stale entry does no
harm: memory that was freed and handed out again belongs to an array, and thus to nodes, that are
younger than the entry. So the log forgets a write when its memory is gone, and not before.

Recorded are the writes that go through this package: ``t[i] = v``, ``t += v``, ``t.copy_(v)`` and
its like, optimizers. Writing into ``t.data`` with plain NumPy is seen only by anomaly mode, which
compares checksums.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinygrad_llm.backend import Array


class Clock:
    """Hands out rising numbers, and remembers when the last write was."""

    def __init__(self) -> None:
        self.next = itertools.count(1).__next__
        self.last_write = 0


class Write(NamedTuple):
    """That addresses ``low .. high - 1`` were written at ``time``, and who keeps that memory."""

    time: int
    low: int
    high: int
    owner: Callable[[], object]


class WriteLog:
    """The writes into memory that still exists, from the oldest to the youngest.

    Threads may write while others look: a list only grows at its end, until `_forget` puts another
    in its place.
    """

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._full = self._at_least = 4096  # entries at which it is worth looking for dead ones
        self.renew_lock()

    def renew_lock(self) -> None:
        """Be open for writes, whoever was writing: for a forked child."""
        self._lock = threading.RLock()  # a destructor, run in the middle of a write, may write

    def add(self, x: Array) -> None:
        """Record that the array ``x`` is written into."""
        low, high = memory_range(x)
        owner = _owner(x)
        with self._lock:
            if len(self._writes) >= self._full:
                self._forget()
            self._writes.append(Write(clock.next(), low, high, owner))
            clock.last_write = self._writes[-1].time

    def _forget(self) -> None:
        """Drop what is written over since, or has no memory any more."""
        seen = list(self._writes)
        latest = {(w.low, w.high): w for w in seen if w.owner() is not None}
        self._writes = sorted(latest.values()) + self._writes[len(seen) :]
        self._full = max(self._at_least, 2 * len(self._writes))

    def has(self, low: int, high: int, since: int) -> bool:
        """Whether a write later than ``since`` touched the addresses ``low .. high - 1``."""
        for write in reversed(self._writes):
            if write.time <= since:
                return False
            if write.low < high and low < write.high:
                return True
        return False


clock = Clock()
_log = WriteLog()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_log.renew_lock)


def memory_range(x: Array) -> tuple[int, int]:
    """First address and the address after the last of an array's memory."""
    if isinstance(x, np.ndarray):
        return np.lib.array_utils.byte_bounds(x)
    start = x.data.ptr  # CuPy; a strided view may reach further, so take its whole extent
    reach = sum(abs(s) * (n - 1) for s, n in zip(x.strides, x.shape, strict=True) if n)
    return start, start + reach + x.itemsize


def _owner(x: Array) -> Callable[[], object]:
    """A weak reference to what keeps the memory of ``x``: the array it is a view of, or a file.

    What takes no weak references is taken to live for ever.
    """
    while (below := x.obj if isinstance(x, memoryview) else getattr(x, "base", None)) is not None:
        x = below
    try:
        return weakref.ref(x)
    except TypeError:
        return lambda: True


def note_write(x: Array) -> None:
    """Record that the array ``x`` was written into just now."""
    _log.add(x)


def was_overwritten(x: Array, since: int) -> bool:
    """True when a write later than clock time ``since`` touched the memory of ``x``."""
    return _log.has(*memory_range(x), since)
