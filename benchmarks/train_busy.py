"""How a step fares beside another busy process. For bench_train.py.

    python benchmarks/bench_train.py --beside 1

Threads that spin while they wait for each other suffer far more than their share: the one that is
not running holds up the others. Here each contender is measured alone and beside processes that
only count.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from train_contenders import Series


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """``n`` processes that keep a core busy each."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def print_slowdown(
    size: str, n_busy: int, measure: Callable[[], dict[str, Series]]
) -> list[dict[str, object]]:
    """Median times alone and beside ``n_busy`` processes, and their ratio; returns the rows."""
    alone = measure()
    with busy_processes(n_busy):
        beside = measure()
    print(f"\n({size}) median ms alone, beside {n_busy} busy process(es), slower by")
    rows = []
    for name, series in alone.items():
        if not (series and beside[name]):
            print(f"  {name:22}{series.problem or beside[name].problem}")
            continue
        before, after = series.median_ms, beside[name].median_ms
        print(f"  {name:22}{before:10.1f}{after:10.1f}{after / before:8.2f}")
        rows.append(
            {
                "size": size,
                "contender": name,
                "busy_processes": n_busy,
                "instructions": series.instructions,
                "alone_ms": before,
                "beside_ms": after,
                "slowdown": after / before,
            }
        )
    return rows
