"""CuPy arrays over NCCL; small things and NumPy arrays go over MPI, which also starts the ranks.

NCCL works on a stream of its own. The stream waits for the arrays to be computed, and `Work.wait`
makes the computation wait for the sums, so the host only launches. NCCL's own calls are used, not
`cupyx.distributed`, which knows no bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule, cuda_module
from tinygrad_llm.distributed.communicator import Work
from tinygrad_llm.distributed.mpi import MpiCommunicator
from tinygrad_llm.errors import DeviceError, DTypeError
from tinygrad_llm.hints import install_package

if TYPE_CHECKING:
    import cupy

# ncclDataType_t of nccl.h; CuPy names no bfloat16 but passes the number on.
DTYPES = {"uint8": 1, "int64": 4, "float16": 6, "float32": 7, "float64": 8, "bfloat16": 9}
_BYTE, _SUM = 1, 0


class NcclCommunicator(MpiCommunicator):
    """One GPU per process: the current CuPy device.

    Args:
        comm: as for `MpiCommunicator`.
        time_limit: likewise.

    Raises:
        DeviceError: no CuPy, no GPU, or a CuPy without NCCL.
    """

    def __init__(self, comm: Any = None, time_limit: float | None = None) -> None:
        super().__init__(comm, time_limit)
        self.cupy = cuda_module()
        self.nccl = _nccl_of(self.cupy)
        name = list(self.nccl.get_unique_id()) if self.rank == 0 else []
        self.group = self.nccl.NcclCommunicator(self.size, tuple(self.share(name)), self.rank)
        self.stream = self.cupy.cuda.Stream(non_blocking=True)

    def _all_reduce(self, x: Array) -> Work:
        if isinstance(x, np.ndarray):
            return super()._all_reduce(x)
        return self._launch(
            "all_reduce",
            lambda stream: self.group.allReduce(_at(x), _at(x), x.size, _type(x), _SUM, stream),
        )

    def _reduce_scatter(self, x: Array, bounds: Sequence[int]) -> Work:
        if isinstance(x, np.ndarray):
            return super()._reduce_scatter(x, bounds)

        def launch(stream: int) -> None:
            with self._one_operation():  # ncclReduceScatter takes equal parts only
                for root, part in enumerate(_parts(x, bounds)):
                    place = _at(part)
                    self.group.reduce(place, place, part.size, _type(x), _SUM, root, stream)

        return self._launch("reduce_scatter", launch)

    def _all_gather(self, x: Array, bounds: Sequence[int]) -> Work:
        if isinstance(x, np.ndarray):
            return super()._all_gather(x, bounds)

        def launch(stream: int) -> None:
            with self._one_operation():
                for root, part in enumerate(_parts(x, bounds)):
                    place = _at(part)
                    self.group.broadcast(place, place, part.nbytes, _BYTE, root, stream)

        return self._launch("all_gather", launch)

    def _broadcast(self, x: Array) -> Work:
        if isinstance(x, np.ndarray):
            return super()._broadcast(x)
        return self._launch(
            "broadcast",
            lambda stream: self.group.broadcast(_at(x), _at(x), x.nbytes, _BYTE, 0, stream),
        )

    def _launch(self, name: str, launch: Callable[[int], None]) -> Work:
        """Run an operation behind what was computed so far, beside what follows."""
        computed, done = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        computed.record()
        self.stream.wait_event(computed)
        launch(self.stream.ptr)
        done.record(self.stream)

        def wait() -> None:
            self.wait_until(lambda: bool(done.done), name)
            self.cupy.cuda.get_current_stream().wait_event(done)

        return Work(wait, lambda: bool(done.done), arrays=launch)

    @contextmanager
    def _one_operation(self) -> Iterator[None]:
        self.nccl.groupStart()
        yield
        self.nccl.groupEnd()


def _parts(x: Array, bounds: Sequence[int]) -> list[Array]:
    return [x[i:j] for i, j in zip(bounds[:-1], bounds[1:], strict=True)]


def _at(x: cupy.ndarray) -> int:
    return x.data.ptr


def _type(x: Array) -> int:
    if str(x.dtype) not in DTYPES:
        names = ", ".join(DTYPES)
        raise DTypeError(f"nccl: arrays of type {x.dtype} cannot be added; expected {names}.")
    return DTYPES[str(x.dtype)]


def _nccl_of(cupy: ArrayModule) -> Any:
    try:
        from cupy.cuda import nccl
    except ImportError:
        raise DeviceError(
            "training on several GPUs needs NCCL, which this CuPy does not find; see CuPy's "
            f"installation guide. Install it with: {install_package('nvidia-nccl-cu13')} (for "
            f"CUDA 13), or with: {install_package('nvidia-nccl-cu12')} (for CUDA 12)"
        ) from None
    return nccl
