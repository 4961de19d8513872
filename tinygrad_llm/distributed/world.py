"""The processes of a run: who they are, that they do the same, and that they end together.

    def main():
        world = join_world()
        return run_together(world, "train_gpt.py", lambda: train(world))

Started plainly, a script runs alone. Started by ``mpiexec -n N``, it is one of N ranks. mpiexec
ends all ranks when one of them is killed; what a rank raises is printed, and then it ends all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping

from tinygrad_llm.backend import threads
from tinygrad_llm.distributed.communicator import Alone, Communicator
from tinygrad_llm.errors import DistributedError, in_words

# What the starters of MPICH (and Intel MPI), Open MPI and Slurm tell each process.
_SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS")
_TURN = 0.5  # seconds by which the other ranks let rank 0 speak first, and to let words arrive


def started_by_mpi() -> bool:
    """Whether an MPI starter made this process one of several."""
    sizes = [os.environ.get(name, "") for name in _SIZE_VARIABLES]
    return any(size.isdigit() and int(size) > 1 for size in sizes)


def join_world() -> Communicator:
    """The communicator of this process.

    The ranks on one machine share its cores evenly, unless TINYGRAD_LLM_NUM_THREADS is set.

    Raises:
        MissingDependencyError: started by mpiexec, but mpi4py is not installed.
    """
    if not started_by_mpi():
        return Alone()
    from tinygrad_llm.distributed.mpi import MpiCommunicator

    world: Communicator = MpiCommunicator()
    if not os.environ.get("TINYGRAD_LLM_NUM_THREADS"):
        threads.set_num_threads(max(1, threads.num_threads() // world.local_size))
    return world


def with_gpus(world: Communicator, device: str) -> Communicator:
    """The communicator for a run on ``device``: on "cuda" each rank takes a GPU of its own.

    Args:
        world: from `join_world`.
        device: "cpu" or "cuda"; the rank's GPU becomes CuPy's current one.

    Raises:
        DistributedError: several ranks would share a GPU.
        DeviceError: no GPU or no NCCL.
    """
    if world.size == 1 or device == "cpu":
        return world
    from tinygrad_llm.backend import cuda_module
    from tinygrad_llm.distributed.nccl import NcclCommunicator

    cupy = cuda_module()
    present = cupy.cuda.runtime.getDeviceCount()
    if device != "cuda" or present < world.local_size:
        raise DistributedError(
            f"device: {world.local_size} ranks on this machine need --device cuda and as many "
            f"GPUs, got {device!r} and {present}. NCCL takes one process per GPU: start fewer."
        )
    cupy.cuda.Device(world.local_rank).use()
    return NcclCommunicator()


def require_equal(world: Communicator, what: Mapping[str, object]) -> None:
    """Refuse to begin when the ranks were given different things.

    Args:
        world: the ranks.
        what: values of JSON's types by name: settings, checksums of data, versions.

    Raises:
        DistributedError: on all ranks alike; names what differs, and between which ranks.
    """
    tables = world.collect(dict(what))
    for rank, theirs in enumerate(tables):
        names = sorted(set(tables[0]) | set(theirs))
        for name in names:
            if theirs.get(name) != tables[0].get(name):
                raise DistributedError(
                    f"{name}: rank 0 has {_short(tables[0].get(name))}, rank {rank} has "
                    f"{_short(theirs.get(name))}. All ranks need the same settings, the same text "
                    "and the same versions; start all with one command, on machines that see the "
                    "same files."
                )


def _short(value: object) -> str:
    return f"{value!r:.70}"


@contextlib.contextmanager
def only_first_speaks(world: Communicator) -> Iterator[None]:
    """Inside, what ranks other than 0 print goes nowhere; what `run_together` tells does not."""
    if world.rank == 0:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def run_together(world: Communicator, name: str, task: Callable[[], int]) -> int:
    """Call ``task``; whatever one rank raises ends all ranks, its own error printed first.

    Args:
        world: the ranks. Alone, errors pass through.
        name: of the program, to begin the message with.
        task: returns an exit status.
    """
    try:
        with only_first_speaks(world):
            return task()
    except SystemExit:
        raise
    except BaseException as error:
        if world.size == 1:
            raise
        if world.rank:
            time.sleep(_TURN)  # an error that all have is printed once
        words = "stopped." if isinstance(error, KeyboardInterrupt) else in_words(error)
        text = f" {words}" if words else "\n" + "".join(traceback.format_exception(error))
        print(f"{name}: rank {world.rank}:{text}", file=sys.__stderr__)
        sys.__stderr__.flush()  # type: ignore[union-attr]
        time.sleep(_TURN / 2)  # mpiexec may end before it has passed the words on
        world.abort(130 if isinstance(error, KeyboardInterrupt) else 2)
        return 2
