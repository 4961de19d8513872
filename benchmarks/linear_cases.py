"""The products of a linear layer and of GELU beside it, which add, bend and sum on the way.

The bytes count what the fused form moves; the operations are those of the product alone, so that a
form that pays for its epilogue shows as fewer TFLOP/s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from cases import CHECKED_ROWS, Case, Draw, by_array_code, double
from harness import relative_error

import tinygrad_llm.functional as F
from tinygrad_llm import kernels
from tinygrad_llm.backend import Array

gelu = functools.partial(F.gelu, approximate="tanh")


def layer(xp: ModuleType, dtype: str, n: int, inner: int, out: int) -> Iterator[Case]:
    """x (N, in) through a layer (out, in): forward plain and with GELU, and the way back.

    linear_gelu_backward is the gradient on its way from dy (N, in) through the next layer, whose
    weight is (in, out), and GELU to dz (N, out).
    """
    draw = Draw(xp, dtype)
    x, weight, bias = draw.normal(n, inner), draw.normal(out, inner), draw.normal(out)
    weight *= inner**-0.5
    z, dy, following = draw.normal(n, out), draw.normal(n, inner), draw.normal(inner, out)
    sums, dw = xp.zeros(out, "float32"), xp.zeros((out, inner), "float32")
    few = slice(0, CHECKED_ROWS)

    def expected_z() -> np.ndarray:
        return double(x[few]) @ double(weight).T + double(bias)

    def expected_a() -> np.ndarray:
        return by_array_code(gelu, expected_z())[0]

    def expected_dz() -> np.ndarray:
        da = double(dy[few]) @ double(following)
        return by_array_code(gelu, z[few], dy=da)[1]

    def sums_error(dbias: Array, of: Array) -> float:
        return relative_error(dbias[few], double(of[:, few]).sum(0))

    # a call, and how far what it returns is from what it should
    cases: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
        "linear": (
            lambda: kernels.linear(x, weight, bias),
            lambda y: relative_error(y[few], expected_z()),
        ),
        "linear_gelu": (
            lambda: kernels.linear_gelu(x, weight, bias),
            lambda found: max(
                relative_error(found[0][few], expected_z()),
                relative_error(found[1][few], expected_a()),
            ),
        ),
        "linear_gelu_backward": (
            lambda: kernels.linear_gelu_backward(dy, following, z, sums),
            lambda found: max(
                relative_error(found[0][few], expected_dz()), sums_error(found[1], found[0])
            ),
        ),
        "linear_backward_weight": (
            lambda: kernels.linear_backward_weight(z, x, dw, dbias=sums),
            lambda found: max(
                relative_error(found[0][few], double(z[:, few]).T @ double(x)),
                sums_error(found[1], z),
            ),
        ),
    }
    touched = {
        "linear": (x, weight, z),
        "linear_gelu": (x, weight, z, z),
        "linear_gelu_backward": (dy, following, z, z),
        "linear_backward_weight": (z, x, dw),
    }
    for op, (run, judge) in cases.items():

        def error(run: Any = run, judge: Any = judge) -> float:
            return judge(run())

        moved = float(sum(a.nbytes for a in touched[op]))
        yield Case(
            op, f"{n}x{inner}x{out}", dtype, run, error, moved, 2.0 * n * inner * out, "TFLOP/s"
        )
