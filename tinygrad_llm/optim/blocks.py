"""Long arrays in pieces that stay in the cache while several passes go over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from tinygrad_llm.backend import ArrayModule, threads

T = TypeVar("T")
CPU_BLOCK = 1 << 17  # elements: long enough that two threads rarely meet at the interpreter lock
GPU_BLOCK = 1 << 24  # elements: there a piece only bounds the scratch memory


def for_blocks(xp: ArrayModule, start: int, stop: int, task: Callable[[int, int], T]) -> list[T]:
    """Call ``task(i, j)`` for pieces i .. j - 1 of start .. stop - 1, on the CPU on all threads.

    Returns:
        the results in the order of the pieces, which do not depend on the number of threads.
    """
    if xp is np:

        def on_thread(piece: slice) -> T:
            return task(start + piece.start, start + piece.stop)

        return threads.parallel_rows(on_thread, stop - start, 1, CPU_BLOCK)
    return [task(i, min(i + GPU_BLOCK, stop)) for i in range(start, stop, GPU_BLOCK)]
