"""Run by mpiexec on every rank: all operations against NumPy. Prints "ok" on rank 0."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_llm.distributed import even_bounds, join_world, require_equal
from tinygrad_llm.errors import DistributedError


def numbers(rank, n, dtype):
    return np.random.default_rng(rank).integers(-50, 50, n).astype(dtype)


def check_arrays(world, n, dtype):
    every = [numbers(r, n, dtype) for r in range(world.size)]
    total, bounds = sum(every[1:], every[0]), even_bounds(n, world.size, 16)
    own = slice(bounds[world.rank], bounds[world.rank + 1])

    x = every[world.rank].copy()
    world.all_reduce(x).wait()
    assert (x == total).all()

    x = every[world.rank].copy()
    work = world.reduce_scatter(x, bounds)
    while not work.test():
        pass
    assert (x[own] == total[own]).all()

    x = every[world.rank].copy()
    world.all_gather(x, bounds).wait()
    for r in range(world.size):
        part = slice(bounds[r], bounds[r + 1])
        assert (x[part] == every[r][part]).all()

    x = every[world.rank].copy()
    world.broadcast(x).wait()
    assert (x == every[0]).all()


def check_overlapping_works(world):
    """Several operations under way at once, waited for in another order."""
    arrays = [np.full(1000, world.rank + i, np.float32) for i in range(5)]
    works = [world.all_reduce(x) for x in arrays]
    for work in reversed(works):
        work.wait()
    ranks = sum(range(world.size))
    assert [x[0] for x in arrays] == [ranks + world.size * i for i in range(5)]


def check_small_things(world):
    assert world.total(world.rank, 0.5) == [sum(range(world.size)), world.size / 2]
    assert world.highest(3 * (world.rank == 1)) == 3
    assert world.share({"rank": world.rank, "text": "é"}) == {"rank": 0, "text": "é"}
    assert world.share(None) is None
    lines = ["x" * (1 + 7 * r) for r in range(world.size)]
    assert world.collect(lines[world.rank]) == lines
    world.barrier()


def check_bytes(world):
    before = world.traffic.sent
    world.all_reduce(np.zeros(1200, np.float32)).wait()
    assert world.traffic.sent - before == 2 * (world.size - 1) / world.size * 4800


def check_refusal(world):
    require_equal(world, {"steps": 5})
    with pytest.raises(DistributedError, match="rate: rank 0 has 1, rank 1 has 2"):
        require_equal(world, {"steps": 5, "rate": 1 + (world.rank == 1)})


def main():
    world = join_world()
    for dtype in (np.float32, np.float64):
        for n in (16, 1000, 50_000):
            check_arrays(world, n, dtype)
    check_overlapping_works(world)
    check_small_things(world)
    check_bytes(world)
    check_refusal(world)
    world.barrier()
    if world.rank == 0:
        print(f"ok on {world.size}")


main()
