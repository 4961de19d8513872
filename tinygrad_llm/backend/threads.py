"""Two or more cores for NumPy: lanes that share out blocks of rows and pieces of matrix products.

NumPy lets go of Python's global lock while it computes, so Python threads are enough. A lane is
a thread that sleeps until there is work; nothing spins. (OpenBLAS's own threads do spin while
they wait for each other. With another process busy on the machine that made a small training step
19 times slower, so BLAS gets one thread per lane and the lanes split the products.)

Work is cut into blocks whose size does not depend on the number of lanes, each lane takes the
next block when it is done with one, and sums over blocks are added in the order of the blocks:
elementwise ops, norms and sums give the same bits with any number of threads. Matrix products are
cut by the number of lanes; each element is still summed over the same numbers, but BLAS may order
the sum differently for pieces of another size, so losses agree to rounding only.

``TINYGRAD_LLM_NUM_THREADS`` sets the number of lanes; the default is the number of usable cores.
The first op that asks sets NumPy's BLAS to one thread for the whole process.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_llm.errors import ConfigError

BLOCK_ELEMENTS = 65536  # 256 KB of float32: a block and its temporaries stay in the L2 cache
WORTH_SHARING = 60_000  # elements; below it, waking a lane costs more than it saves
WORTH_SPLITTING = 40e-6  # seconds that a matrix product would take on one lane, likewise
FLOPS, BYTES = 1e11, 2e10  # per second, of one lane: orders of magnitude for that estimate


class _Lanes:
    """The calling thread and ``n - 1`` sleeping ones."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.wake = [threading.Lock() for _ in range(n - 1)]
        self.ready = [threading.Lock() for _ in range(n - 1)]
        self.work: Callable[[], None] | None = None
        self.error: BaseException | None = None
        for wake, ready in zip(self.wake, self.ready, strict=True):
            wake.acquire()
            ready.acquire()
            threading.Thread(target=self._serve, args=(wake, ready), daemon=True).start()

    def _serve(self, wake: Any, ready: Any) -> None:
        _inside.lane = True
        while True:
            wake.acquire()
            work = self.work
            if work is None:
                return
            try:
                work()
            except BaseException as error:  # handed to the calling thread
                self.error = error
            work = None  # or the lane would keep the arrays alive while it sleeps
            ready.release()

    def run(self, work: Callable[[], None]) -> None:
        """Call ``work`` on every lane at once; return when all have returned."""
        self.work = work
        for wake in self.wake:
            wake.release()
        try:
            work()
        finally:
            for ready in self.ready:
                ready.acquire()
            self.work = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def stop(self) -> None:
        """End the threads."""
        self.work = None
        for wake in self.wake:
            wake.release()


class _Inside(threading.local):
    lane = False  # True in a lane's thread: work inside of work is not shared out again


_inside = _Inside()
_busy = threading.Lock()  # held while the lanes work; a second Python thread then works alone
_lanes: _Lanes | None = None
_chosen: int | None = None


def num_threads() -> int:
    """The number of lanes: from `set_num_threads`, the environment, or the usable cores.

    Raises:
        ConfigError: TINYGRAD_LLM_NUM_THREADS is not a positive integer.
    """
    global _chosen
    if _chosen is None:
        text = os.environ.get("TINYGRAD_LLM_NUM_THREADS", "")
        if text and not (text.isdigit() and int(text) > 0):
            raise ConfigError(
                f"TINYGRAD_LLM_NUM_THREADS: expected a positive integer, got {text!r}."
            )
        _limit_blas()
        _chosen = int(text) if text else _usable_cores()
    return _chosen


def set_num_threads(n: int) -> None:
    """Use ``n`` lanes from now on.

    Raises:
        ConfigError: n is not a positive integer.
    """
    global _chosen, _lanes
    if not isinstance(n, int) or n < 1:
        raise ConfigError(f"set_num_threads: expected a positive integer, got {n!r}.")
    with _busy:
        if _lanes is not None:
            _lanes.stop()
        _limit_blas()
        _lanes, _chosen = None, n


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limit_blas() -> None:
    """Leave BLAS one thread, in the whole process: the lanes split the products."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def _start() -> _Lanes:
    global _lanes
    _lanes = _Lanes(num_threads())
    return _lanes


def _forget_lanes() -> None:
    """After a fork the child has no threads but its own."""
    global _lanes, _busy
    _lanes, _busy = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lanes)


def parallel(task: Callable[[int], Any], n_tasks: int) -> list[Any]:
    """``[task(0), task(1), ...]``, computed by all lanes; each takes the next when it is free."""
    alone = num_threads() == 1 or n_tasks == 1 or _inside.lane
    if alone or not _busy.acquire(blocking=False):
        return [task(i) for i in range(n_tasks)]
    try:
        results: list[Any] = [None] * n_tasks
        following = itertools.count().__next__  # atomic: one call of C code

        def work() -> None:
            while (i := following()) < n_tasks:
                results[i] = task(i)

        (_lanes or _start()).run(work)
        return results
    finally:
        _busy.release()


def parallel_rows(
    task: Callable[[slice], Any], n_rows: int, row_size: int, block: int = BLOCK_ELEMENTS
) -> list[Any]:
    """Call ``task`` on slices that together cover ``n_rows`` rows; returns the results in order.

    Args:
        task: works on the rows of the slice, in place or into preallocated arrays.
        n_rows: number of rows.
        row_size: elements of a row.
        block: elements of a slice, about; at least one row.
    """
    step = max(1, block // max(1, row_size))
    blocks = [slice(i, min(i + step, n_rows)) for i in range(0, max(n_rows, 1), step)]
    if n_rows * row_size < WORTH_SHARING:
        return [task(block) for block in blocks]
    return parallel(lambda i: task(blocks[i]), len(blocks))


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out = a b for matrices (M, K) and (K, N), split over the lanes.

    The longer side of the result is split, for each lane reads all of the other operand.
    """
    m, n = out.shape
    lanes = num_threads()
    k = a.shape[1]
    seconds = 2 * m * n * k / FLOPS + out.itemsize * (m * k + k * n + m * n) / BYTES
    if lanes == 1 or seconds < WORTH_SPLITTING:
        return np.matmul(a, b, out=out)
    if m >= n:
        pieces = even_slices(m, lanes)
        parallel(lambda i: np.matmul(a[pieces[i]], b, out=out[pieces[i]]), len(pieces))
    else:
        pieces = even_slices(n, lanes)
        parallel(lambda i: np.matmul(a, b[:, pieces[i]], out=out[:, pieces[i]]), len(pieces))
    return out


def even_slices(length: int, n: int) -> list[slice]:
    """At most ``n`` slices of about equal size; they begin at multiples of 16."""
    step = -(-length // (16 * n)) * 16
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]
