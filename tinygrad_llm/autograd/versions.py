"""Noticing that an array was overwritten before the backward pass could use it.

Every node of the graph and every recorded write takes the next number of one clock. If a node
saved an array, and the array's memory was written to at a later time, then the values that the
derivative needs are gone, and the walk stops with an error instead of a wrong gradient.

Memory, not tensors, is compared, so a write through a view is noticed too. A stale entry does no
harm: memory that was freed and handed out again belongs to an array, and thus to nodes, that are
younger than the entry.

Recorded are the writes that go through this package: ``t[i] = v``, ``t.copy_(v)``, optimizers.
Writing into ``t.data`` with plain NumPy is seen only by anomaly mode, which compares checksums.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

_MAX_ENTRIES = 4096


class Clock:
    """Hands out rising numbers, and remembers when the last write was."""

    def __init__(self) -> None:
        self.next = itertools.count(1).__next__
        self.last_write = 0


clock = Clock()
_writes: dict[tuple[int, int], int] = {}


def memory_range(x: Any) -> tuple[int, int]:
    """First address and the address after the last of an array's memory."""
    if isinstance(x, np.ndarray):
        return np.lib.array_utils.byte_bounds(x)
    start = x.data.ptr  # CuPy; a strided view may reach further, so take its whole extent
    reach = sum(abs(s) * (n - 1) for s, n in zip(x.strides, x.shape, strict=True) if n)
    return start, start + reach + x.itemsize


def note_write(x: Any) -> None:
    """Record that the array ``x`` was written into just now."""
    if len(_writes) >= _MAX_ENTRIES:
        _writes.clear()
    _writes[memory_range(x)] = clock.last_write = clock.next()


def was_overwritten(x: Any, since: int) -> bool:
    """True when a write later than clock time ``since`` touched the memory of ``x``."""
    low, high = memory_range(x)
    return any(t > since and a < high and low < b for (a, b), t in _writes.items())
