"""The next batch, copied to the GPU while the current step still runs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule, cuda_module
from tinygrad_llm.errors import DTypeError, ShapeError
from tinygrad_llm.training.loop_settings import Batch, Loader

if TYPE_CHECKING:
    import cupy


class Prefetcher:
    """A loader whose batches are on the GPU already when they are asked for.

    Batches go through page-locked host memory, from which the copy engine reads on its own, on a
    stream of its own. A few sets of buffers take turns. The state is that of the batches handed
    out, not of those copied ahead, so a run resumes exactly.

    Args:
        loader: gives ``next_batch()``, ``state()`` and ``set_state(state)``; all batches of one
            shape.
        held: how many batches are in use at a time, the micro-batches of a step.

    Raises:
        ShapeError, DTypeError: a batch is unlike the first, such as a shorter last one.
    """

    def __init__(self, loader: Loader, held: int = 1) -> None:
        self.loader, self.held = loader, held
        self.cupy = cuda_module()
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self._slots: list[list[_Slot]] = []
        self._turn = 0
        self._ahead: tuple[Batch, object] | None = None  # a batch, and the event of its arrival
        self._state = loader.state()

    def next_batch(self) -> Batch:
        """The next batch, as arrays on the GPU; valid until ``held`` more were handed out."""
        batch, arrived = self._ahead or self._send()
        self.cupy.cuda.get_current_stream().wait_event(arrived)
        self._state = self.loader.state()
        self._ahead = self._send()
        return batch

    def _send(self) -> tuple[Batch, object]:
        arrays = [np.ascontiguousarray(a) for a in self.loader.next_batch()]
        if not self._slots:
            self._slots = [[_Slot(self.cupy, a) for a in arrays] for _ in range(self.held + 2)]
        slots = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        # The slot was last read by a step before this one; let its launches finish first.
        self.stream.wait_event(self.cupy.cuda.get_current_stream().record())
        for slot, array in zip(slots, arrays, strict=True):
            slot.send(array, self.stream)
        return tuple(slot.device for slot in slots), self.stream.record()

    def state(self) -> dict[str, object]:
        """Position after the last batch that was handed out."""
        return self._state

    def set_state(self, state: Mapping[str, object]) -> None:
        """Go on from a saved position; what was copied ahead is dropped."""
        self.loader.set_state(state)
        self._ahead, self._state = None, self.loader.state()


class _Slot:
    """One array's page-locked host buffer and its place on the GPU."""

    def __init__(self, xp: ArrayModule, like: np.ndarray) -> None:
        self.pinned = _pinned(xp, like)
        self.device: cupy.ndarray = xp.empty(like.shape, like.dtype)
        self.sent: Any = None

    def send(self, array: np.ndarray, stream: Any) -> None:
        check_alike("Prefetcher", self.pinned, array)
        if self.sent is not None:
            self.sent.synchronize()  # long past, unless the host runs two steps ahead
        self.pinned[...] = array
        self.device.set(self.pinned, stream=stream)
        self.sent = stream.record()


def check_alike(owner: str, place: Array, array: Array) -> None:
    """Raise unless an array of a batch has shape and type of its place in memory.

    Raises:
        ShapeError, DTypeError: it has not; a copy would stretch it over its place, or convert it.
    """
    if array.shape == place.shape and array.dtype == place.dtype:
        return
    kind = ShapeError if array.shape != place.shape else DTypeError
    raise kind(
        f"{owner}: all batches must be like the first: expected an array of shape {place.shape} "
        f"and type {place.dtype}, got {array.shape} and {array.dtype}. Drop or fill up a last "
        "batch that is shorter, or train without a CUDA graph: --no-graph, or graph=False."
    )


def _pinned(cupy: ArrayModule, like: np.ndarray) -> np.ndarray:
    """A NumPy array in page-locked memory."""
    memory = cupy.cuda.alloc_pinned_memory(max(like.nbytes, 1))
    return np.frombuffer(memory, like.dtype, like.size).reshape(like.shape)
