"""What each technique of the CPU step gains: each is switched off alone. For bench_train.py.

    python benchmarks/bench_train.py --techniques

Every measurement is a process; all take turns. "Gain" is the time of the step without the
technique over the time with everything on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import TypedDict, TypeVar

from train_sizes import SIZES, Report, python_file, time_steps

EVERYTHING = "(everything on)"
T = TypeVar("T")


class Row(TypedDict):
    """The step without one technique."""

    size: str
    without: str
    median_ms: float
    gain: float  # this time over that with everything on
    peak_mb: float


def _composed(*names: str) -> None:
    """The readable forms in small ops instead of fused ones; all of them without names."""
    from tinygrad_llm.autograd.registry import REGISTRY
    from tinygrad_llm.explain.small_ops import small_ops

    keep = [name for name in REGISTRY if names and name not in names]
    small_ops(keep).__enter__()  # for good: each measurement is a process


def _no_pool() -> None:
    import numpy as np

    from tinygrad_llm.backend import pool

    pool.empty = np.empty


def _no_blocks_of_rows() -> None:
    from tinygrad_llm.backend import compute, threads

    in_blocks = threads.parallel_rows

    def halves(task: Callable[[slice], T], n_rows: int, row_size: int, block: int = 0) -> list[T]:
        return in_blocks(task, n_rows, row_size, -(-n_rows // 2) * row_size)

    compute.threads.parallel_rows = halves


def _no_gradients_in_place() -> None:
    from tinygrad_llm.autograd import gradient_sink

    gradient_sink.target = lambda edges, index: (None, False)


def _optimizer_in_one_piece() -> None:
    from tinygrad_llm.optim import blocks

    blocks.CPU_BLOCK = 1 << 26


def _head_in_one_piece() -> None:
    from tinygrad_llm.ops import linear_cross_entropy

    linear_cross_entropy.LOGITS_AT_ONCE = 1 << 40


def _blas_threads() -> None:
    """One thread; the products by BLAS's own threads."""
    from tinygrad_llm.backend import threads

    threads._limit_blas = lambda: None
    threads._chosen = 1


def _one_thread() -> None:
    from tinygrad_llm.backend import threads

    threads.set_num_threads(1)


WITHOUT: dict[str, Callable[[], None]] = {
    EVERYTHING: lambda: None,
    "all fused ops": _composed,
    "fused attention": lambda: _composed("attention_qkv", "scaled_dot_product_attention"),
    "fused GELU": lambda: _composed("gelu"),
    "fused layer_norm": lambda: _composed("layer_norm", "add_layer_norm"),
    "fused head": lambda: _composed("linear_cross_entropy"),
    "chunks of the head": _head_in_one_piece,
    "buffer pool": _no_pool,
    "blocks of rows": _no_blocks_of_rows,
    "gradients in place": _no_gradients_in_place,
    "AdamW in blocks": _optimizer_in_one_piece,
    "threads (BLAS's threads instead)": _blas_threads,
    "threads (one core)": _one_thread,
}


def print_techniques(sizes: list[str], rounds: int, steps: int | None) -> list[Row]:
    """Measure all, print them by gain; returns the rows."""
    rows: list[Row] = []
    for size in sizes:
        found: dict[str, list[Report]] = {name: [] for name in WITHOUT}
        for _ in range(rounds):
            for name, reports in found.items():
                reports.append(_run(size, name, steps or SIZES[size].steps))
        base = median(t for report in found[EVERYTHING] for t in report["times"])
        print(f"\n({size}) {SIZES[size].title}\n  {'without':34}{'ms':>9}{'gain':>7}{'peak MB':>9}")
        for name, reports in found.items():
            seconds = median(t for report in reports for t in report["times"])
            rows.append(
                {
                    "size": size,
                    "without": name,
                    "median_ms": 1000 * seconds,
                    "gain": seconds / base,
                    "peak_mb": max(r["peak_mb"] for r in reports),
                }
            )
        ranked = [row for row in rows if row["size"] == size]
        for row in sorted(ranked, key=lambda row: (row["without"] != EVERYTHING, -row["gain"])):
            print(
                f"  {row['without']:34}{row['median_ms']:9.1f}{row['gain']:7.2f}"
                f"{row['peak_mb']:9.0f}"
            )
    return rows


def _run(size: str, name: str, steps: int) -> Report:
    command = [sys.executable, python_file("train_ablation.py"), size, name, str(steps)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"bench_train: without {name!r} the step failed:\n{done.stderr}")
    report: Report = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def _worker(size: str, name: str, steps: str) -> None:
    from train_ours import make_step

    import tinygrad_llm.nn  # noqa: F401  (all modules, before they are changed)

    WITHOUT[name]()
    time_steps(SIZES[size], make_step(SIZES[size]), int(steps))


if __name__ == "__main__":
    _worker(*sys.argv[1:4])
