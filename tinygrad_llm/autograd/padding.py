"""Rows of zeros after a matrix, for kernels that are faster with a rounder number of rows.

GPT-2's table of tokens has 50257 rows, and the matrix products with it an odd extent, which tensor
cores take badly. Where kernels run, the optimizer's flat arrays therefore leave room behind it:

    flat data   [ .. | 50257 rows of the table | 47 rows of zeros | positions | .. ]
                      parameter.data
                      with_padding(parameter.data) -------------->

``parameter.data`` and ``parameter.grad`` stay the table and its gradient: nobody sees, counts or
saves the rows behind them unless he asks here. The zeros are never trained: their gradient is 0,
and an update of 0 with a gradient of 0 is 0.
"""

from __future__ import annotations

from weakref import WeakValueDictionary, ref

from tinygrad_llm.backend import Array


class Padded:
    """Makes it known that ``array`` has rows of zeros behind it, as long as this object lives.

    Attributes:
        array: a weak reference to (R, C), the first rows of ``whole``.
        whole: (R', C), the same memory and the rows behind it.
    """

    __slots__ = ("array", "whole", "__weakref__")

    def __init__(self, array: Array, whole: Array) -> None:
        self.array, self.whole = ref(array), whole
        _known[id(array)] = self


_known: WeakValueDictionary[int, Padded] = WeakValueDictionary()


def with_padding(array: Array) -> Array:
    """``array`` (R, C) with the rows of zeros behind it, or itself where there are none."""
    entry = _known.get(id(array))  # an id may belong to another array by now
    return array if entry is None or entry.array() is not array else entry.whole
