"""How processes add up and exchange arrays: one interface, three implementations.

    rank 0 .. size - 1         every process runs the same program on its own part of the data
    all_reduce(x)              x becomes the sum of all ranks' x
    reduce_scatter(x, bounds)  rank r gets the sum of part r only: half of an all_reduce
    all_gather(x, bounds)      every rank gets part r from rank r: the other half
    broadcast(x)               every rank gets rank 0's x

They work in place and return at once, with a `Work` to wait for. All ranks must call the same
operations in the same order. `Alone` is for one process, `mpi.MpiCommunicator` for NumPy arrays,
`nccl.NcclCommunicator` for CuPy arrays as well.

What an operation costs: with S bytes and N ranks, the best algorithms (a ring) make each rank send

    all_reduce      2 (N - 1) / N  S          reduce_scatter, all_gather, broadcast   (N - 1) / N  S

Source: Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
2009, theorem 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tinygrad_llm.backend import Array

T = TypeVar("T")  # of JSON's types
ROUNDS = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1, "broadcast": 1}


@dataclass
class Traffic:
    """Counts what is communicated.

    Attributes:
        size: number of ranks.
        payload: bytes handed to each operation so far.
        calls: how often each was called.
    """

    size: int
    payload: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROUNDS, 0))
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROUNDS, 0))

    def count(self, operation: str, array: Array) -> None:
        """Note one call."""
        self.payload[operation] += array.nbytes
        self.calls[operation] += 1

    @property
    def sent(self) -> float:
        """Bytes that each rank sends with the best algorithm, on average."""
        part = (self.size - 1) / self.size
        return sum(ROUNDS[name] * part * n_bytes for name, n_bytes in self.payload.items())


class Work:
    """An operation under way; to be waited for, and held until then.

    Args:
        wait: returns when it is done; None when it is done already.
        is_done: whether it is done, without waiting; this also moves it along.
        finish: called once, when it is done.
        arrays: what the operation reads and writes: kept alive, since MPI knows addresses only.
    """

    def __init__(
        self,
        wait: Callable[[], None] | None = None,
        is_done: Callable[[], bool] | None = None,
        finish: Callable[[], None] | None = None,
        arrays: object = (),
    ) -> None:
        self._wait, self._is_done, self._finish = wait, is_done, finish
        self._arrays = arrays

    def test(self) -> bool:
        """Whether the operation is done; pushes it on if not."""
        if self._is_done is not None and not self._is_done():
            return False
        self._complete()
        return True

    def wait(self) -> None:
        """Return when the operation is done.

        Raises:
            DistributedError: the other ranks did not come within the time limit.
        """
        if self._wait is not None:
            self._wait()
        self._complete()

    def _complete(self) -> None:
        self._wait = self._is_done = self._arrays = None
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()


class Communicator:
    """Base class: what every rank can do.

    Attributes:
        rank: number of this process.
        size: number of processes.
        local_rank, local_size: the same among the processes on this machine.
        traffic: bytes so far.
    """

    rank = local_rank = 0
    size = local_size = 1
    traffic: Traffic

    def all_reduce(self, x: Array) -> Work:
        """Sum over the ranks, in place."""
        return self._start("all_reduce", x)

    def reduce_scatter(self, x: Array, bounds: Sequence[int]) -> Work:
        """``x[bounds[r] : bounds[r + 1]]`` becomes the sum on rank r; the rest is undefined.

        Args:
            x: array (n,).
            bounds: size + 1 rising numbers from 0 to n.
        """
        return self._start("reduce_scatter", x, bounds)

    def all_gather(self, x: Array, bounds: Sequence[int]) -> Work:
        """``x[bounds[r] : bounds[r + 1]]`` of rank r goes to all ranks."""
        return self._start("all_gather", x, bounds)

    def broadcast(self, x: Array) -> Work:
        """Rank 0's values go to all ranks."""
        return self._start("broadcast", x)

    def _start(self, operation: str, x: Array, *more: object) -> Work:
        self.traffic.count(operation, x)
        return Work() if self.size == 1 else getattr(self, "_" + operation)(x, *more)

    # ---- small things, which wait at once --------------------------------------------------------

    def total(self, *numbers: float) -> list[float]:
        """The sums of some numbers over the ranks, in float64."""
        table = np.array(numbers, np.float64)
        self.all_reduce(table).wait()
        return table.tolist()

    def highest(self, number: int) -> int:
        """The largest of the ranks' numbers, each 0 or more."""
        table = np.zeros(self.size)
        table[self.rank] = number
        self.all_reduce(table).wait()
        return int(table.max())

    def share(self, value: T) -> T:
        """Rank 0's value, of JSON's types, on all ranks."""
        return value

    def collect(self, value: T) -> list[T]:
        """The values of all ranks, of JSON's types, on all ranks."""
        return [value]

    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        raise SystemExit(code)


class Alone(Communicator):
    """One process: every operation is done before it begins."""

    def __init__(self) -> None:
        self.traffic = Traffic(1)


def even_bounds(n: int, size: int, unit: int = 1) -> list[int]:
    """n elements in ``size`` parts whose lengths are multiples of ``unit``, the last one's aside.

    Returns:
        size + 1 numbers: part r is ``bounds[r] .. bounds[r + 1] - 1``.
    """
    units = -(-n // unit)
    return [min(n, unit * (units * r // size)) for r in range(size + 1)]
