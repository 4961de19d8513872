"""A case of a benchmark: one kernel at one size, a float64 reference, and a count of its work.

A case is built for an array module: CuPy to be timed, NumPy at the smallest sizes to check the
cases themselves in the interpreter. References look at a part of the rows, so that checking a
large case stays quick; the rows are drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array

# Largest relative error of a right kernel. float32: products in three TF32 parts lie within 1e-6 of
# exact ones where sums are rounded, but Hopper's tensor cores cut off the sum's lowest bits.
TOLERANCE = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1.5e-2}
CHECKED_ROWS = 64
KEY = (0x12345678, 0x9ABCDEF0)
Outputs = Callable[[], object]
Input = Array | str | bool


@dataclass
class Case:
    """One kernel at one size: run() launches it, error() compares it with float64."""

    op: str
    shape: str
    dtype: str
    run: Outputs
    error: Callable[[], float]
    bytes: float  # that must move: every input read once, every output written once
    operations: float  # floating point, counted by hand and only roughly where memory is the limit
    unit: str = "GB/s"  # what limits it: "GB/s" or "TFLOP/s"
    inputs: Mapping[str, Input] = field(default_factory=dict)  # for peers that do the same

    @property
    def work(self) -> float:
        return self.bytes if self.unit == "GB/s" else self.operations

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]


class Draw:
    """Random arrays of one module and dtype."""

    def __init__(self, xp: ModuleType, dtype: str, seed: int = 0) -> None:
        self.xp, self.dtype = xp, _as_dtype(dtype)
        self.rng = xp.random.default_rng(seed)

    def normal(self, *shape: int, dtype: str | None = None) -> Array:
        drawn = self.rng.standard_normal(shape, dtype="float32")
        return drawn.astype(self.dtype if dtype is None else dtype)

    def integers(self, high: int, *shape: int) -> Array:
        return self.rng.integers(0, high, shape)


def _as_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def double(array: Array) -> np.ndarray:
    """On the host, in float64."""
    host = array.get() if hasattr(array, "get") else array
    return host.astype(np.float64)


def by_array_code(
    op: Callable[..., Tensor], *arrays: Array, dy: Array | None = None, **options: object
) -> tuple[np.ndarray, ...]:
    """What an op gives in float64 on the CPU, and with ``dy`` the gradients of ``arrays``."""
    tensors = [Tensor(double(array), requires_grad=dy is not None) for array in arrays]
    y = op(*tensors, **options)
    if dy is None:
        return (y.numpy(),)
    y.backward(double(dy))
    return (y.numpy(), *(np.asarray(t.grad) for t in tensors))
