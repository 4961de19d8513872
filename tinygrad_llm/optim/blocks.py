"""Long arrays in pieces that stay in the cache while several passes go over them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule

CPU_BLOCK = 1 << 16  # elements; four arrays of them fill a typical 1 MiB cache
GPU_BLOCK = 1 << 24  # there a block only bounds the scratch memory
N_SCRATCH = 2

Update = Callable[[int, int, list[Array]], None]


def for_blocks(xp: ArrayModule, dtype: np.dtype, start: int, stop: int, update: Update) -> None:
    """Call ``update(i, j, scratch)`` for pieces i .. j - 1 of start .. stop - 1.

    ``scratch`` is a list of N_SCRATCH arrays (j - i,) of ``dtype`` with any content. On the CPU
    the pieces are shared out among threads.
    """
    block = CPU_BLOCK if xp is np else GPU_BLOCK
    n_blocks = -(-(stop - start) // block)

    def work(first: int, last: int) -> None:
        scratch = [xp.empty(min(block, stop - start), dtype) for _ in range(N_SCRATCH)]
        for i in range(start + first * block, min(start + last * block, stop), block):
            j = min(i + block, stop)
            update(i, j, [s[: j - i] for s in scratch])

    work(0, n_blocks)
