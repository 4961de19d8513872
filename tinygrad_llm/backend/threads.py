"""Two or more cores for NumPy: threads that share out blocks of rows (here) and matrix products.

NumPy lets go of Python's global lock while it computes, so Python threads are enough. Each is
a thread that sleeps until there is work; nothing spins. (OpenBLAS's own threads do spin while
they wait for each other. With another process busy on the machine that made a small training step
19 times slower, so BLAS gets one thread for each of ours; `products` splits the products.)

Work is cut into blocks whose size does not depend on the number of threads, each thread takes the
next block when it is done with one, and sums over blocks are added in the order of the blocks:
elementwise ops, norms and sums give the same bits with any number of threads. Matrix products are
cut by the number of threads; each element is still summed over the same numbers, but BLAS may order
the sum differently for pieces of another size, so losses agree to rounding only.

``TINYGRAD_LLM_NUM_THREADS`` sets the number of threads; the default is the number of usable cores
(`cores`). The first op that asks leaves NumPy's BLAS one thread, in the whole process. For
products of your own, ``with threadpoolctl.threadpool_limits(4):`` gives it four meanwhile.
(OpenBLAS's "local" limit is for builds with OpenMP; in NumPy's it holds for the whole process. A
limit only while an op runs would cost less than a microsecond, but OpenBLAS's threads spin for a
while after a product of the user's, and into our ops.)

A BLAS that threadpoolctl does not know is not limited. On macOS that is Apple's Accelerate, which
has threads of its own; ``VECLIB_MAXIMUM_THREADS=1``, set before Python starts, is said to limit it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from tinygrad_llm.backend.cores import usable_cores
from tinygrad_llm.checks import check_size
from tinygrad_llm.errors import ConfigError

T = TypeVar("T")
BLOCK_ELEMENTS = 98304  # 384 KB of float32: a block and its temporaries stay near the core
ONE_PASS_ELEMENTS = 1 << 19  # blocks of work that goes through memory once, with no temporaries
WORTH_SHARING = 60_000  # elements; below it, waking a thread costs more than it saves


class _Job(Generic[T]):
    """Numbered tasks; whoever is free takes the next."""

    def __init__(self, task: Callable[[int], T], n_tasks: int) -> None:
        self.task, self.n_tasks = task, n_tasks
        self.results: list[Any] = [None] * n_tasks
        self.take = itertools.count().__next__  # atomic: one call of C code
        self.count_done = itertools.count(1).__next__
        self.complete = threading.Lock()
        self.complete.acquire()
        self.error: BaseException | None = None

    def work(self) -> None:
        """Do tasks until none is left to take; others may still be at theirs."""
        n_tasks, take, results, task = self.n_tasks, self.take, self.results, self.task
        while (i := take()) < n_tasks:
            try:
                if self.error is None:
                    results[i] = task(i)
            except BaseException as error:  # handed to the calling thread
                self.error = error
            if self.count_done() == n_tasks:
                self.complete.release()


class _Workers:
    """The calling thread and ``n - 1`` sleeping ones.

    The caller waits for tasks, not for threads: one that wakes too late to get a task is not waited
    for. (On a virtual machine waking a processor can take longer than a small product.)
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.job: _Job[Any] | None = None
        self.ended = False
        self.wake = [threading.Lock() for _ in range(n - 1)]
        for wake in self.wake:
            wake.acquire()
            threading.Thread(target=self._serve, args=(wake,), daemon=True).start()

    def _serve(self, wake: threading.Lock) -> None:
        _inside.worker = True
        while True:
            wake.acquire()
            if self.ended:
                return
            job = self.job
            if job is not None:
                job.work()
            del job  # or the thread would keep the arrays alive while it sleeps

    def run(self, task: Callable[[int], T], n_tasks: int) -> list[T]:
        """``[task(0), task(1), ...]`` on every thread at once; returns when all are done."""
        job = self.job = _Job(task, n_tasks)
        self._wake(min(n_tasks - 1, self.n - 1))
        job.work()
        job.complete.acquire()
        self.job = None
        if job.error is not None:
            error, job.error = job.error, None  # no circle of error, traceback, frame and job
            raise error
        return job.results

    def _wake(self, n: int) -> None:
        for wake in self.wake[:n]:
            if wake.locked():  # else it is on its way already, and will see the new job
                wake.release()

    def stop(self) -> None:
        """End the threads."""
        self.ended = True
        self._wake(self.n - 1)


class _Inside(threading.local):
    worker = False  # True in such a thread: work inside of work is not shared out again


_inside = _Inside()
_busy = threading.Lock()  # held while the threads work; a second Python thread then works alone
_workers: _Workers | None = None
_chosen: int | None = None


def num_threads() -> int:
    """The number of threads: from `set_num_threads`, the environment, or the usable cores.

    It is ``tg.get_num_threads``, as in PyTorch.

    Raises:
        ConfigError: TINYGRAD_LLM_NUM_THREADS is not a positive integer.
    """
    global _chosen
    if _chosen is None:
        text = os.environ.get("TINYGRAD_LLM_NUM_THREADS", "")
        if text and not (text.isdecimal() and int(text) > 0):
            raise ConfigError(
                f"TINYGRAD_LLM_NUM_THREADS: expected a positive integer, got {text!r}."
            )
        _limit_blas()
        _chosen = int(text) if text else usable_cores()
    return _chosen


def set_num_threads(n: int) -> None:
    """Compute on ``n`` threads from now on, the calling one among them.

    Raises:
        ConfigError: n is not a positive integer.
    """
    global _chosen, _workers
    n = check_size("set_num_threads", "n", n)
    with _busy:
        if _workers is not None:
            _workers.stop()
        _limit_blas()
        _workers, _chosen = None, n


def _limit_blas() -> None:
    """Leave BLAS one thread, in the whole process: the threads split the products."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def _start() -> _Workers:
    global _workers
    _workers = _Workers(num_threads())
    return _workers


def _forget_workers() -> None:
    """After a fork the child has no threads but its own."""
    global _workers, _busy
    _workers, _busy = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def parallel(task: Callable[[int], T], n_tasks: int) -> list[T]:
    """``[task(0), task(1), ...]``, computed by all threads; each takes the next when it is free."""
    alone = num_threads() == 1 or n_tasks <= 1 or _inside.worker
    if alone or not _busy.acquire(blocking=False):
        return [task(i) for i in range(n_tasks)]
    try:
        return (_workers or _start()).run(task, n_tasks)
    finally:
        _busy.release()


def parallel_rows(
    task: Callable[[slice], T], n_rows: int, row_size: int, block: int = BLOCK_ELEMENTS
) -> list[T]:
    """Call ``task`` on slices that together cover ``n_rows`` rows; returns the results in order.

    Args:
        task: works on the rows of the slice, in place or into preallocated arrays.
        n_rows: number of rows.
        row_size: elements of a row.
        block: elements of a slice, about; at least one row.
    """
    blocks = even_parts(n_rows, max(1, block // max(1, row_size)))
    if n_rows * row_size < WORTH_SHARING:
        return [task(block) for block in blocks]
    return parallel(lambda i: task(blocks[i]), len(blocks))


def even_parts(n: int, limit: int) -> list[slice]:
    """0 .. n - 1 in parts of about equal size, at most ``limit``; more than one: an even number.

    Equal and even in number, so that two or more threads finish together.
    """
    if n <= limit:
        return [slice(0, n)]
    step = -(-n // (2 * -(-n // (2 * limit))))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]
