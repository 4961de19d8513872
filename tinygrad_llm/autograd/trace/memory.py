"""Who made an array, and how many bytes the graph keeps alive: the memory side of a trace.

Arrays are told apart by identity and held weakly, so that watching them does not keep them.
"""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

from tinygrad_llm.backend import Array, is_array

T = TypeVar("T")


class _ByIdentity(Generic[T]):
    """A dictionary from arrays (by identity, held weakly) to something."""

    def __init__(self, default: T) -> None:
        self.default = default
        self._items: dict[int, tuple[weakref.ref[Array], T]] = {}

    def get(self, array: Array) -> T:
        item = self._items.get(id(array))
        return self.default if item is None or item[0]() is not array else item[1]

    def set(self, array: Array, value: T) -> None:
        self._items[id(array)] = (weakref.ref(array), value)


class Producers:
    """Which op made an array, as long as the array lives."""

    def __init__(self) -> None:
        self._made = _ByIdentity[tuple[int | None, int]]((None, 0))

    def note(self, array: object, op: int, output: int) -> None:
        """Remember that ``array`` is result number ``output`` of op number ``op``."""
        if is_array(array):
            self._made.set(array, (op, output))

    def find(self, array: Array) -> tuple[int | None, int]:
        """(op, output) that made ``array``, or (None, 0)."""
        return self._made.get(array)


class HeldArrays:
    """Counts the bytes that nodes keep for their backward, each piece of memory once.

    Parameters and data that come from outside the trace are not counted: they live anyway.

    Attributes:
        peak: the largest count so far.
    """

    def __init__(self) -> None:
        self._outside = _ByIdentity(False)
        self._holders = _ByIdentity(0)
        self._now = 0
        self.peak = 0

    def note_outside(self, array: Array) -> None:
        """``array`` comes from outside the trace."""
        self._outside.set(_owner(array), True)

    def hold(self, arrays: list[Array]) -> int:
        """One more node keeps these; returns the bytes that none kept before."""
        new = 0
        for array in arrays:
            owner = _owner(array)
            if self._outside.get(owner):
                continue
            count = self._holders.get(owner)
            self._holders.set(owner, count + 1)
            new += 0 if count else array.nbytes
        self._now += new
        self.peak = max(self.peak, self._now)
        return int(new)

    def release(self, arrays: list[Array]) -> None:
        """One node less keeps these."""
        for array in arrays:
            owner = _owner(array)
            count = self._holders.get(owner)
            if count:
                self._holders.set(owner, count - 1)
                self._now -= array.nbytes if count == 1 else 0


def _owner(array: Array) -> Array:
    """The array whose memory ``array`` is a view of; itself if it is none."""
    while is_array(base := getattr(array, "base", None)):
        array = base
    return array
