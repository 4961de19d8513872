"""Where the time of our training step goes, op by op, and how near its products are to the roof."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
from train_ours import make_step
from train_sizes import SIZES

from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
from tinygrad_llm.autograd.function import Function, Result
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.backend import pool, products

REPEATS = 5


class OpTimes(Observer):
    """Seconds per op, forward and backward."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def before_forward(
        self, node: Function, arrays: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        self.start = time.perf_counter()

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        self.seconds[f"{node.name} forward"] += time.perf_counter() - self.start

    def before_backward(self, node: Node, dy: Arrived) -> None:
        self.start = time.perf_counter()

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        self.seconds[f"{node.name} backward"] += time.perf_counter() - self.start


def gemm_rate(rows: int, c: int) -> float:
    """The best rate in GFLOP/s of the model's own typical product, (rows, C) x (C, 4C)."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(rows, c)).astype(np.float32)
    b = rng.normal(size=(4 * c, c)).astype(np.float32)
    out = np.empty((rows, 4 * c), np.float32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        products.matmul(a, b.T, out)
        best = min(best, time.perf_counter() - start)
    return 8 * rows * c * c / best / 1e9


def print_breakdown(name: str) -> None:
    """The best of some steps, op by op."""
    size = SIZES[name]
    step, batches = make_step(size), size.batches(2)
    for batch in batches:
        step(*batch)
    best, parts = float("inf"), dict[str, float]()
    before = pool.statistics().allocations
    for i in range(REPEATS):
        with OpTimes() as times:
            start = time.perf_counter()
            step(*batches[i % 2])
            seconds = time.perf_counter() - start
        if seconds < best:
            best, parts = seconds, dict(times.seconds)
    parts["clipping, AdamW, Python between ops"] = best - sum(parts.values())
    print(f"\n({name}) {size.title}: {1000 * best:.1f} ms, the best of {REPEATS} steps")
    for part, seconds in sorted(parts.items(), key=lambda p: -p[1]):
        print(f"  {part:36}{1000 * seconds:9.2f} ms {100 * seconds / best:5.1f} %")
    rate = gemm_rate(size.batch * size.context, size.n_embd)
    share = size.gemm_flops() / rate / 1e9 / best
    print(f"  matrix products at the machine's rate of {rate:.0f} GFLOP/s: {100 * share:.0f} %")
    statistics = pool.statistics()
    print(
        f"  pool: {statistics.peak / 1e6:.0f} MB at most in use, "
        f"{statistics.allocations - before} new blocks in {REPEATS} steps"
    )
