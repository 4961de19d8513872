"""Matrix products on all threads: cut into pieces, several products in one go.

Waking a thread and waiting for it costs about 50 us, as much as a small product. So what is
needed at the same place is shared out together: the product and the bias added to it, or all the
products of a backward pass. BLAS runs with one thread; see `threads`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_llm.backend.threads import num_threads, parallel

WORTH_SPLITTING = 40e-6  # seconds on one thread; below it, waking another costs more than it saves
FLOPS, BYTES = 1e11, 2e10  # per second, of one thread: orders of magnitude for that estimate

FEW_ROWS = 32  # of x in x W^T: the rows of a batch in generation

Finish = Callable[[slice, slice], Any]


class Product(NamedTuple):
    """out = a b for matrices (M, K) and (K, N).

    Attributes:
        finish: called with the rows and columns of each piece of ``out`` as it is done, while it
            is in the cache.
    """

    a: np.ndarray
    b: np.ndarray
    out: np.ndarray
    finish: Finish | None = None

    @property
    def seconds(self) -> float:
        """About how long one thread takes."""
        (m, n), k = self.out.shape, self.a.shape[1]
        return 2 * m * n * k / FLOPS + self.out.itemsize * (m * k + k * n + m * n) / BYTES

    def compute(self, rows: slice, columns: slice) -> None:
        """One piece."""
        a, b, out = self.a[rows], self.b[:, columns], self.out[rows, columns]
        if 1 < len(a) <= FEW_ROWS and b.strides[0] == b.itemsize and _turns(out.dtype):
            out[...] = np.matmul(b.T, a.T).T
        else:
            np.matmul(a, b, out=out)
        if self.finish is not None:
            self.finish(rows, columns)

    def pieces(self, n: int) -> list[Callable[[], None]]:
        """At most ``n`` tasks. The longer side is cut, for each reads all of the other operand."""
        height, width = self.out.shape
        everything = slice(None)
        if height >= width:
            cuts = [(part, everything) for part in even_slices(height, n)]
        else:
            cuts = [(everything, part) for part in even_slices(width, n)]
        return [lambda cut=cut: self.compute(*cut) for cut in cuts]  # type: ignore[misc]


@lru_cache(maxsize=4)
def _turns(dtype: np.dtype) -> bool:
    """Whether a few rows are multiplied as x W^T = (W x^T)^T.

    OpenBLAS's kernels for AVX-512 are then 1.2 to 2.5 times as fast, and give the same bits (in
    float32; in float64 they do not). Its other kernels are slower so.
    """
    from threadpoolctl import threadpool_info

    kernels = {pool.get("architecture") for pool in threadpool_info()}
    return dtype == np.float32 and "SkylakeX" in kernels


def matmul(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, finish: Finish | None = None
) -> np.ndarray:
    """out = a b on all threads; ``finish`` as in `Product`."""
    compute_all([Product(a, b, out, finish)])
    return out


def compute_all(products: Sequence[Product], beside: Sequence[Callable[[], object]] = ()) -> None:
    """Compute independent products, and small tasks ``beside`` them, on all threads at once.

    Two products of equal size on two threads are not cut at all: each thread takes one.
    """
    n_threads = num_threads()
    everything = slice(None)
    if n_threads == 1 or sum(product.seconds for product in products) < WORTH_SPLITTING:
        for product in products:
            product.compute(everything, everything)
        for task in beside:
            task()
        return
    n_pieces = n_threads // math.gcd(n_threads, len(products))
    pieces = [task for product in products for task in product.pieces(n_pieces)]
    tasks = [*pieces, *beside]
    parallel(lambda i: tasks[i](), len(tasks))


def even_slices(length: int, n: int) -> list[slice]:
    """At most ``n`` slices of about equal size; they begin at multiples of 16."""
    step = max(1, -(-length // (16 * n))) * 16
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]
