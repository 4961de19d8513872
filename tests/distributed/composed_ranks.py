"""Run by mpiexec: captured and float16 steps of real ranks on the stand-in GPU, by MPI.

Each combination is compared with the plain steps of one process. Prints "ok" on rank 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.replayed_gpu import gpu_with_kernels
from tests.stand_in_gpu import DeviceArray
from tests.training.composed import TOO_LARGE, assert_same_run, make_trainer, run
from tinygrad_llm.distributed import run_together
from tinygrad_llm.distributed.mpi import MpiCommunicator

# captured, dtype, shard, accumulate
COMBINATIONS = [
    (False, "float16", True, 1),
    (True, "float32", False, 2),
    (True, "float32", True, 1),
    (True, "float16", True, 2),
]
ROUNDING = {"float32": 1e-4, "float16": 5e-3}


def _host(x):
    return x.host if isinstance(x, DeviceArray) else x


class HostMemory(MpiCommunicator):
    """MPI on the memory behind the stand-in's arrays."""

    def _all_reduce(self, x):
        return super()._all_reduce(_host(x))

    def _reduce_scatter(self, x, bounds):
        return super()._reduce_scatter(_host(x), bounds)

    def _all_gather(self, x, bounds):
        return super()._all_gather(_host(x), bounds)

    def _broadcast(self, x):
        return super()._broadcast(_host(x))


def check_overflow(world):
    """What overflows on one rank is a step that all ranks skip."""
    trainer = make_trainer(True, "float16", world, scale=TOO_LARGE / 2**6)
    if world.rank == 1:
        trainer.model.final_norm.weight.data[0] = np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        assert trainer.train_step().skipped
    assert trainer.precision.scale == TOO_LARGE / 2**7


def main():
    world = HostMemory()

    def check():
        with gpu_with_kernels(pytest.MonkeyPatch()):
            for captured, dtype, shard, accumulate in COMBINATIONS:
                alone = run(False, dtype, accumulate=accumulate) if world.rank == 0 else None
                found = run(captured, dtype, world, shard, accumulate)
                if world.rank == 0:  # which has the whole state of the optimizer
                    assert_same_run(alone, found, ROUNDING[dtype])
                totals = world.collect([float(np.abs(w).sum()) for w in found[1]])
                assert totals[0] == totals[world.rank], "weights are the same on all ranks"
            check_overflow(world)
        return 0

    run_together(world, "composed_ranks.py", check)
    world.barrier()
    if world.rank == 0:
        print(f"ok on {world.size}")


main()
