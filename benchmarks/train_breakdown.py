"""Where the time of our training step goes, op by op, and how near its products are to the roof."""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from train_instructions import of_ours
from train_ours import make_step
from train_sizes import SIZES, Size

import tinygrad_llm as tg
from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
from tinygrad_llm.autograd.function import Function, Result
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.backend import compute, matrix_units, pool

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
    """The best rate in GFLOP/s of the model's own typical product, (rows, C) x (C, 4C).

    The operands are as an op hands them to a product: rounded to bfloat16 where products are
    computed from that.
    """
    rng = np.random.default_rng(0)
    a = compute.operand(np, rng.normal(size=(rows, c)).astype(np.float32))
    b = compute.operand(np, rng.normal(size=(4 * c, c)).astype(np.float32))
    out = np.empty((rows, 4 * c), np.float32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        compute.matmul(np, a, b.T, out)
        best = min(best, time.perf_counter() - start)
    return 8 * rows * c * c / best / 1e9


@dataclass
class Best:
    """The fastest of some steps: seconds of the whole and of its parts, the rate of products."""

    seconds: float
    parts: dict[str, float]
    gemm_rate: float  # GFLOP/s
    peak_pool: int  # bytes of the pool that were in use at most
    new_blocks: int
    instructions: str


def best_step(size: Size) -> Best:
    """Take some steps and keep the fastest, in the precision that is set."""
    gc.collect()  # an earlier model
    pool.trim()
    step, batches = make_step(size), size.batches(2)
    for batch in batches:
        step(*batch)
    statistics = pool.statistics()
    before, statistics.peak = statistics.allocations, statistics.in_use
    best, parts = float("inf"), dict[str, float]()
    for i in range(REPEATS):
        with OpTimes() as times:
            start = time.perf_counter()
            step(*batches[i % 2])
            seconds = time.perf_counter() - start
        if seconds < best:
            best, parts = seconds, dict(times.seconds)
    parts["clipping, AdamW, Python between ops"] = best - sum(parts.values())
    return Best(
        best,
        parts,
        gemm_rate(size.batch * size.context, size.n_embd),
        statistics.peak,
        statistics.allocations - before,
        of_ours(),
    )


def print_breakdown(name: str, in_bf16: bool) -> None:
    """The best of some steps, op by op: in float32, and beside it with products from bfloat16."""
    size = SIZES[name]
    print(f"\n({name}) {size.title}: ms and shares, the best of {REPEATS} steps")
    found = {"float32": best_step(size)}
    why_not = matrix_units.found().why_not
    if in_bf16 and not why_not:
        with tg.float32_matmul_precision("medium"):
            found["bf16"] = best_step(size)
    print(f"  {'':36}" + "".join(f"{dtype:>20}" for dtype in found))
    ranked = sorted(found["float32"].parts.items(), key=lambda part: -part[1])
    for part in [name for name, _ in ranked]:
        cells = ((best.parts.get(part, 0.0), best.seconds) for best in found.values())
        print(
            f"  {part:36}"
            + "".join(f"{1e3 * s:11.2f} {100 * s / all_:6.1f} %" for s, all_ in cells)
        )
    _print_sums(size, found)
    if in_bf16 and why_not:
        print(f"  {why_not}")


def _print_sums(size: Size, found: dict[str, Best]) -> None:
    flops = size.gemm_flops() / 1e9
    print(
        f"  {'whole step':36}" + "".join(f"{1e3 * b.seconds:11.2f}{'':9}" for b in found.values())
    )
    for dtype, best in found.items():
        share = flops / best.gemm_rate / best.seconds
        print(
            f"  {dtype}: matrix products at the machine's rate of {best.gemm_rate:.0f} GFLOP/s: "
            f"{100 * share:.0f} %; {best.instructions}"
        )
        print(
            f"  {'':{len(dtype)}}  pool: {best.peak_pool / 1e6:.0f} MB at most in use, "
            f"{best.new_blocks} new blocks in {REPEATS} steps"
        )
