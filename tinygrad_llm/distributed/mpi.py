"""NumPy arrays over MPI, by mpi4py.

MPI moves a transfer along only while some call of it runs. Nothing here waits inside MPI: all
operations are the non-blocking ones, and they are tested again and again, between the ops of the
backward pass (`buckets`) or in `wait_until`. So a rank that never comes becomes an error after a
time limit, where MPI itself would wait for ever.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.distributed.communicator import Communicator, T, Traffic, Work
from tinygrad_llm.errors import ConfigError, DistributedError, MissingDependencyError
from tinygrad_llm.hints import install

TIME_LIMIT = "TINYGRAD_LLM_TIME_LIMIT"  # seconds that a rank waits for the others
_BUSY_SECONDS = 0.5  # after this long a waiting rank sleeps between two looks
_ROLL_CALL = 77  # tag of the messages that find out who is missing


class MpiCommunicator(Communicator):
    """The processes that mpiexec started.

    Args:
        comm: an mpi4py communicator; None for all processes.
        time_limit: seconds to wait for other ranks; None for the environment's
            TINYGRAD_LLM_TIME_LIMIT, or 600.

    Raises:
        MissingDependencyError: mpi4py is not installed.
    """

    def __init__(self, comm: Any = None, time_limit: float | None = None) -> None:
        self.mpi = _import_mpi()
        self.comm = self.mpi.COMM_WORLD if comm is None else comm
        self.rank, self.size = self.comm.rank, self.comm.size
        local = self.comm.Split_type(self.mpi.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = local.rank, local.size
        local.Free()
        self.time_limit = _time_limit() if time_limit is None else time_limit
        self.traffic = Traffic(self.size)
        self._roll_call = self.comm.Dup()

    def _all_reduce(self, x: Array) -> Work:
        return self._work("all_reduce", self.comm.Iallreduce(self.mpi.IN_PLACE, x), x)

    def _reduce_scatter(self, x: Array, bounds: Sequence[int]) -> Work:
        counts = np.diff(bounds).tolist()
        mine = np.empty(counts[self.rank], x.dtype)
        request = self.comm.Ireduce_scatter(x, mine, counts)

        def put_in_place() -> None:
            x[bounds[self.rank] : bounds[self.rank + 1]] = mine

        return self._work("reduce_scatter", request, (x, mine, counts), put_in_place)

    def _all_gather(self, x: Array, bounds: Sequence[int]) -> Work:
        starts, counts = np.asarray(bounds[:-1]), np.diff(bounds)
        place = [_as_bytes(x), counts * x.itemsize, starts * x.itemsize, self.mpi.BYTE]
        return self._work("all_gather", self.comm.Iallgatherv(self.mpi.IN_PLACE, place), place)

    def _broadcast(self, x: Array) -> Work:
        place = [_as_bytes(x), self.mpi.BYTE]
        return self._work("broadcast", self.comm.Ibcast(place), place)

    def _work(
        self, name: str, request: Any, arrays: object, finish: Callable[[], None] | None = None
    ) -> Work:
        return Work(lambda: self.wait_until(request.Test, name), request.Test, finish, arrays)

    def share(self, value: T) -> T:
        """Rank 0's value, of JSON's types, on all ranks."""
        text = json.dumps(value).encode("utf-8") if self.rank == 0 else b""
        n = np.array([len(text)])
        self.broadcast(n).wait()
        line = np.frombuffer(text, np.uint8).copy() if self.rank == 0 else np.empty(n[0], np.uint8)
        self.broadcast(line).wait()
        return json.loads(line.tobytes())

    def collect(self, value: T) -> list[T]:
        """The values of all ranks, of JSON's types, on all ranks."""
        text = json.dumps(value).encode("utf-8")
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(text)
        self.all_reduce(lengths).wait()
        ends = [0, *np.cumsum(lengths).tolist()]
        line = np.empty(ends[-1], np.uint8)
        line[ends[self.rank] : ends[self.rank + 1]] = np.frombuffer(text, np.uint8)
        self.all_gather(line, ends).wait()
        parts = [line[i:j].tobytes() for i, j in zip(ends[:-1], ends[1:], strict=True)]
        return [json.loads(part) for part in parts]

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.wait_until(self.comm.Ibarrier().Test, "barrier")

    def abort(self, code: int) -> None:
        """End all ranks at once; returns nowhere."""
        self.comm.Abort(code)

    # ---- waiting ---------------------------------------------------------------------------------

    def wait_until(self, is_done: Callable[[], bool], what: str) -> None:
        """Test until it is done.

        Raises:
            DistributedError: it was not within the time limit; names the ranks that are missing.
        """
        started = time.monotonic()
        while not is_done():
            waited = time.monotonic() - started
            if waited > self.time_limit:
                raise DistributedError(
                    f"{what}: rank {self.rank} has waited for {waited:.0f} s"
                    f"{self._who_is_missing()}. A process hangs or a machine cannot be reached. "
                    "Go on from the last checkpoint with --resume; where some step of yours takes "
                    f"longer than this, raise {TIME_LIMIT} (seconds)."
                )
            time.sleep(0 if waited < _BUSY_SECONDS else 0.001)  # 0 lets another process run

    def _who_is_missing(self) -> str:
        """Ranks that wait send each other a word; whoever is silent is named."""
        word, others = np.zeros(1), [r for r in range(self.size) if r != self.rank]
        sent = [self._roll_call.Isend(word, r, _ROLL_CALL) for r in others]
        until, silent = time.monotonic() + 2, set(others)
        while silent and time.monotonic() < until:
            for r in list(silent):
                if self._roll_call.Iprobe(r, _ROLL_CALL):
                    silent.discard(r)
            time.sleep(0.001)
        for request in sent:
            request.Free()
        names = ", ".join(map(str, sorted(silent)))
        return f" for rank {names}" if silent else ""


def _as_bytes(x: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array as bytes: MPI knows no bfloat16."""
    return x.reshape(-1).view(np.uint8)


def _time_limit() -> float:
    text = os.environ.get(TIME_LIMIT, "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{TIME_LIMIT}: expected seconds, more than 0, got {text!r}.")
    return seconds


def _import_mpi() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py without an MPI library
        raise MissingDependencyError(
            f"training on several processes needs mpi4py and an MPI ({error}). Install both with: "
            f"{install('distributed')}"
        ) from None
    return MPI
