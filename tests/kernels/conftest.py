"""Every kernel test runs in the interpreter on NumPy arrays and, with -m gpu, on a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="kernels need Triton")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DTYPES = {
    "float32": np.dtype("float32"),
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
# Largest accepted ||out - reference|| / ||reference||: a few roundings of the output's dtype.
TOLERANCE = {"float32": 3e-6, "float16": 1e-3, "bfloat16": 8e-3}
# Attention multiplies float32 on a GPU as three products of TF32 parts. Hopper's tensor cores cut
# the lowest bits of a running sum off instead of rounding it: some 1e-6, more for longer sums.
FLOAT32_ON_GPU = 1e-5


class Device:
    """Where a test runs: moves arrays there and back, and draws them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rng = np.random.default_rng(1)

    def put(self, array: np.ndarray | None) -> Any:
        if array is None or self.name == "cpu":
            return array
        import cupy

        return cupy.asarray(array)

    @staticmethod
    def get(array: Any) -> np.ndarray:
        return array.get() if hasattr(array, "get") else array

    def normal(self, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
        return self.rng.standard_normal(shape).astype(DTYPES[dtype])

    def check(self, actual: Any, expected: np.ndarray, dtype: str, factor: float = 1.0) -> None:
        """`actual` has the right shape and dtype and lies within rounding of `expected`."""
        actual = self.get(actual)
        assert actual.shape == expected.shape
        assert actual.dtype == DTYPES[dtype]
        difference = actual.astype(np.float64) - expected
        # what is zero by cancellation, a softmax of one score say, is off by roundings of 1
        error = np.linalg.norm(difference) / (np.linalg.norm(expected) or expected.size**0.5)
        bound = FLOAT32_ON_GPU if (dtype, self.name) == ("float32", "gpu") else TOLERANCE[dtype]
        assert error <= factor * bound, f"relative error {error:.2e}"


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    return Device(request.param)


@pytest.fixture(params=list(DTYPES))
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """bench_kernels.py, with its neighbours as its imports find them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_kernels

    yield bench_kernels
    for name in [
        n
        for n, m in list(sys.modules.items())
        if str(getattr(m, "__file__", "")).startswith(str(BENCHMARKS))
    ]:
        del sys.modules[name]
