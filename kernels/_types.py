"""Names of the types that kernels take. An array is NumPy's, or CuPy's with the same methods."""

from __future__ import annotations

from typing import Protocol

import numpy as np

Array = np.ndarray
DType = np.dtype | str
Grid = tuple[int, ...]  # programs along up to three axes
Key = tuple[int, int] | Array  # two 32-bit integers, or a uint32 array (2,) in device memory
Scalar = float | Array  # a number, or an array of one element in device memory


class Memory(Protocol):
    """Where an array lies on a GPU."""

    ptr: int
    device_id: int


def memory_of(array: Array) -> Memory:
    """Of an array of CuPy's, whose ``data`` is no memoryview."""
    return array.data  # type: ignore[return-value]
