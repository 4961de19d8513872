"""The products of a linear layer, fused with what stands beside them: bias, GELU, bias gradients.

The bytes are those that the fused form moves. The operations are those of the product alone, so the
time that bias, GELU and sums take shows as fewer TFLOP/s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TypeVar

import numpy as np
from cases import CHECKED_ROWS, Case, Draw, by_array_code, double
from harness import relative_error

import tinygrad_llm.functional as F
from tinygrad_llm import kernels
from tinygrad_llm.backend import Array

FEW = slice(0, CHECKED_ROWS)
Found = TypeVar("Found")
gelu = functools.partial(F.gelu, approximate="tanh")


def layer(xp: ModuleType, dtype: str, n: int, inner: int, out: int) -> Iterator[Case]:
    """x (N, in) through a layer (out, in): forward plain and with GELU, and the way back.

    linear_gelu_backward is the gradient on its way from dy (N, in) through the next layer, whose
    weight is (in, out), and GELU to dz (N, out).
    """
    a = Arrays(xp, dtype, n, inner, out)

    def case(
        op: str, run: Callable[[], Found], error_of: Callable[[Found], float], *touched: Array
    ) -> Case:
        shape, operations = f"{n}x{inner}x{out}", 2.0 * n * inner * out
        moved = float(sum(array.nbytes for array in touched))
        return Case(op, shape, dtype, run, lambda: error_of(run()), moved, operations, "TFLOP/s")

    yield case(
        "linear", lambda: kernels.linear(a.x, a.weight, a.bias), a.error_of_z, a.x, a.weight, a.z
    )
    yield case(
        "linear_gelu",
        lambda: kernels.linear_gelu(a.x, a.weight, a.bias),
        a.error_of_z_and_a,
        *(a.x, a.weight, a.z, a.z),
    )
    yield case(
        "linear_gelu_backward",
        lambda: kernels.linear_gelu_backward(a.dy, a.following, a.z, a.sums),
        a.error_of_dz,
        *(a.dy, a.following, a.z, a.z),
    )
    yield case(
        "linear_backward_weight",
        lambda: kernels.linear_backward_weight(a.z, a.x, a.dw, dbias=a.sums),
        a.error_of_dweight,
        *(a.z, a.x, a.dw),
    )


class Arrays:
    """Inputs and outputs of a layer x (N, in) -> z (N, out), and how far results lie from right."""

    def __init__(self, xp: ModuleType, dtype: str, n: int, inner: int, out: int) -> None:
        draw = Draw(xp, dtype)
        self.x, self.weight, self.bias = (
            draw.normal(n, inner),
            draw.normal(out, inner),
            draw.normal(out),
        )
        self.weight *= inner**-0.5
        self.z, self.dy = draw.normal(n, out), draw.normal(n, inner)
        self.following = draw.normal(inner, out)  # weight of the next layer
        self.sums, self.dw = xp.zeros(out, "float32"), xp.zeros((out, inner), "float32")

    def error_of_z(self, z: Array) -> float:
        return relative_error(z[FEW], self._expected_z())

    def error_of_z_and_a(self, found: tuple[Array, Array]) -> float:
        z, a = found
        (expected,) = by_array_code(gelu, self._expected_z())
        return max(self.error_of_z(z), relative_error(a[FEW], expected))

    def error_of_dz(self, found: tuple[Array, Array]) -> float:
        dz, dbias = found
        da = double(self.dy[FEW]) @ double(self.following)
        _, expected = by_array_code(gelu, self.z[FEW], dy=da)
        return max(relative_error(dz[FEW], expected), _error_of_sums(dbias, dz))

    def error_of_dweight(self, found: tuple[Array, Array]) -> float:
        dweight, dbias = found
        expected = double(self.z[:, FEW]).T @ double(self.x)
        return max(relative_error(dweight[FEW], expected), _error_of_sums(dbias, self.z))

    def _expected_z(self) -> np.ndarray:
        return double(self.x[FEW]) @ double(self.weight).T + double(self.bias)


def _error_of_sums(dbias: Array, of: Array) -> float:
    return relative_error(dbias[FEW], double(of[:, FEW]).sum(0))
