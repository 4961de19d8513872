"""Run by mpiexec: rank 1 fails in the way that is asked for, while rank 0 waits for a sum."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

from tinygrad_llm.distributed import join_world, run_together
from tinygrad_llm.errors import DataError


def fail(how):
    if how == "own error":
        raise DataError("the file of rank 1 is damaged")
    if how == "bug":
        raise ZeroDivisionError("a mistake in the program")
    os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)


def main():
    world = join_world()

    def task():
        world.barrier()
        if world.rank == 1:
            fail(sys.argv[1])
        world.all_reduce(np.zeros(10)).wait()
        return 0

    return run_together(world, "failing_ranks.py", task)


sys.exit(main())
