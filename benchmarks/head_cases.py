"""The three products of the output layer over one chunk of rows, in rows of W >= V elements.

With an odd number of classes, 50257 in GPT-2, cuBLAS may not use its fast kernels, even where every
row begins at an aligned address. The same products with all W columns show how much that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
from cases import CHECKED_ROWS, Case, Draw, Input, double
from harness import relative_error

from tinygrad_llm import kernels
from tinygrad_llm.backend import Array

FEW = slice(0, CHECKED_ROWS)


def products(xp: ModuleType, dtype: str, m: int, c: int, v: int, width: int) -> Iterator[Case]:
    """logits = x W^T (M, V), dx = dlogits W (M, C), dW = dlogits^T x (V, C) added up in float32."""
    draw = Draw(xp, dtype)
    x, weight = draw.normal(m, c), draw.normal(v, c)
    logits, dlogits = draw.normal(m, width)[:, :v], draw.normal(m, width)[:, :v]
    dx, dw = xp.empty_like(x), xp.zeros((v, c), "float32")
    arrays: dict[str, Input] = {"x": x, "weight": weight, "logits": logits, "dlogits": dlogits}

    def case(
        op: str, out: Array, run: Callable[[], object], expected: Callable[[], np.ndarray]
    ) -> Case:
        def error() -> float:
            out[...] = 0
            run()
            return relative_error(out[FEW], expected())

        shape, operations = f"{m}x{c}x{v} in {width}", 2.0 * m * c * v
        moved = float(sum(a.nbytes for a in (x, weight, logits)))
        inputs = {**arrays, "op": op}
        return Case(op, shape, dtype, run, error, moved, operations, "TFLOP/s", inputs)

    yield case(
        "head_logits",
        logits,
        lambda: kernels.matmul(x, weight, logits, transpose_b=True),
        lambda: double(x[FEW]) @ double(weight).T,
    )
    yield case(
        "head_dx",
        dx,
        lambda: kernels.matmul(dlogits, weight, dx),
        lambda: double(dlogits[FEW]) @ double(weight),
    )
    yield case(
        "head_dw",
        dw,
        lambda: kernels.matmul(dlogits, x, dw, transpose_a=True, accumulate=True),
        lambda: double(dlogits[:, FEW]).T @ double(x),
    )
