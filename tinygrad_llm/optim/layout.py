"""Laying parameters out in flat arrays: which stands where, and with how much room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.gradient_sink import GradientSink
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.padding import Padded
from tinygrad_llm.autograd.versions import clock
from tinygrad_llm.backend import Array, array_module, to_device
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.optim.flat import ALIGNMENT, FlatBuffer, Slot, move

ROWS = 64  # where kernels run, a matrix has room for a multiple of so many rows ...
MOST_PADDING = 1 / 8  # ... unless that takes more than this share of it


def pack(entries: Sequence[tuple[str, Tensor, int]]) -> list[FlatBuffer]:
    """Move parameters into flat arrays, one pair per type and device.

    Args:
        entries: (name, parameter, group number) of each; groups come out contiguous.
    """
    kinds: dict[tuple[str, str], list[tuple[str, Tensor, int]]] = {}
    for entry in sorted(entries, key=lambda e: e[2]):  # stable: order within a group is kept
        parameter = entry[1]
        kinds.setdefault((str(parameter.dtype), parameter.device), []).append(entry)
    buffers = [_pack_one(kind) for kind in kinds.values()]
    for buffer in buffers:
        buffer.lay_out_gradients()
    return buffers


def _pack_one(entries: list[tuple[str, Tensor, int]]) -> FlatBuffer:
    first = entries[0][1]
    xp = array_module(first.data)
    total = sum(_aligned(_room(parameter)) for _, parameter, _ in entries)
    data = to_device(xp.zeros(total, first.dtype), first.device)
    wide = accumulate_dtype(np.dtype(first.dtype))  # sums of small gradients need float32
    grad = to_device(xp.zeros(total, wide), first.device)
    slots, start = [], 0
    for name, parameter, group in entries:
        slots.append(_place(name, parameter, group, start, data, grad))
        start = slots[-1].next
    master = data if wide == data.dtype else data.astype(wide)
    return FlatBuffer(slots, data, grad, master, written_at=clock.next())


def _place(name: str, parameter: Tensor, group: int, start: int, data: Array, grad: Array) -> Slot:
    """Move one parameter to its place, which begins with element ``start``."""
    stop, room = start + parameter.size, _room(parameter)
    view = data[start:stop].reshape(parameter.shape)
    move(parameter, view)
    sink = GradientSink(grad[start:stop].reshape(parameter.shape))
    slot = Slot(name, parameter, group, start, stop, start + _aligned(room), view, sink)
    parameter.gradient_sink = slot.sink
    if room > parameter.size:
        whole = data[start : start + room].reshape(-1, parameter.shape[1])
        slot.padded = Padded(view, whole), None
    return slot


def _room(parameter: Tensor) -> int:
    """Elements that a parameter takes, with the rows of zeros behind it."""
    on_host = isinstance(parameter.data, np.ndarray) and current.kernels != "force"
    if on_host or parameter.ndim != 2:
        return parameter.size
    rows, columns = parameter.shape
    extra = -rows % ROWS
    return (rows + extra if extra <= MOST_PADDING * rows else rows) * columns


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
