"""The three products of the output layer over one chunk of rows, in rows of W >= V elements.

An odd number of classes, 50257 in GPT-2, may cost cuBLAS its fast kernels even where every row
begins at an aligned address. The same products with all W columns show what that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from cases import CHECKED_ROWS, Case, Draw, double
from harness import relative_error

from tinygrad_llm import kernels


def products(xp: ModuleType, dtype: str, m: int, c: int, v: int, width: int) -> Iterator[Case]:
    """logits = x W^T (M, V), dx = dlogits W (M, C), dW = dlogits^T x (V, C) added up in float32."""
    draw = Draw(xp, dtype)
    x, weight = draw.normal(m, c), draw.normal(v, c)
    logits, dlogits = draw.normal(m, width)[:, :v], draw.normal(m, width)[:, :v]
    dx, dw = xp.empty_like(x), xp.zeros((v, c), "float32")
    few = slice(0, CHECKED_ROWS)
    calls = {
        "head_logits": (
            logits,
            lambda: kernels.matmul(x, weight, logits, transpose_b=True),
            lambda: double(x[few]) @ double(weight).T,
        ),
        "head_dx": (
            dx,
            lambda: kernels.matmul(dlogits, weight, dx),
            lambda: double(dlogits[few]) @ double(weight),
        ),
        "head_dw": (
            dw,
            lambda: kernels.matmul(dlogits, x, dw, transpose_a=True, accumulate=True),
            lambda: double(dlogits[:, few]).T @ double(x),
        ),
    }
    for op, (out, run, expected) in calls.items():

        def error(out: Any = out, run: Any = run, expected: Any = expected) -> float:
            out[...] = 0
            run()
            return relative_error(out[few], expected())

        moved = float(sum(a.nbytes for a in (x, weight, logits)))
        inputs = {"op": op, "x": x, "weight": weight, "logits": logits, "dlogits": dlogits}
        yield Case(
            op,
            f"{m}x{c}x{v} in {width}",
            dtype,
            run,
            error,
            moved,
            2.0 * m * c * v,
            "TFLOP/s",
            inputs,
        )
