"""float32 matrices rounded to bfloat16, and turned where a product needs them the other way.

Rounding is to the nearest, ties to even: of the 23 bits behind the point 7 are left. Both passes
are bound by memory, so they go through it together: 32 rows are rounded into the cache, and leave
it as 32 columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tinygrad_llm.backend import pool
from tinygrad_llm.backend.dtypes import FLOAT32, as_dtype
from tinygrad_llm.backend.threads import WORTH_SHARING, even_parts, num_threads, parallel

ROWS_AT_ONCE = 32  # 64 bytes of a column of bfloat16: one cache line


def tensor(x: np.ndarray, dtype: Literal["bfloat16", "float32"] = "bfloat16") -> Any:
    """numkong's view of the same memory; it keeps ``x`` alive."""
    import numkong

    return numkong.from_pointer(x.ctypes.data, x.shape, dtype, strides=x.strides, owner=x)


def rounded(x: np.ndarray) -> np.ndarray:
    """x (R, C) in bfloat16, row by row in memory; ``x`` itself where it is that already."""
    if is_rounded(x):
        return x
    out = pool.empty(x.shape, as_dtype("bfloat16"))
    tasks = rounding_tasks(x, out, num_threads() if x.size > WORTH_SHARING else 1)
    parallel(lambda i: tasks[i](), len(tasks))
    return out


def is_rounded(x: np.ndarray) -> bool:
    """Whether ``x`` is bfloat16 and lies row by row."""
    return x.dtype.name == "bfloat16" and x.flags.c_contiguous


def rounding_tasks(x: np.ndarray, out: np.ndarray, n: int) -> list[Callable[[], None]]:
    """At most ``n`` tasks that together write ``out`` = ``x``, rounded."""
    parts = even_parts(len(x), max(1, -(-len(x) // n)))
    return [lambda rows=rows: round_into(x[rows], out[rows]) for rows in parts]  # type: ignore[misc]


def round_into(x: np.ndarray, out: np.ndarray) -> None:
    """out = x rounded, in the calling thread; x (R, C) lies in any way, ``out`` row by row."""
    if x.strides[1] == x.itemsize:
        _round_rows(x, out)
        return
    columns = x.T  # (C, R)
    if columns.strides[1] != columns.itemsize:
        columns = np.ascontiguousarray(columns)
    bits = out.view(np.uint16)
    for start in range(0, len(columns), ROWS_AT_ONCE):
        block = columns[start : start + ROWS_AT_ONCE]  # (32, R)
        if block.dtype == FLOAT32:
            narrow = np.empty(block.shape, out.dtype)
            _round_rows(block, narrow)
            block = narrow
        bits[:, start : start + ROWS_AT_ONCE] = block.view(np.uint16).T


def _round_rows(x: np.ndarray, out: np.ndarray) -> None:
    if x.dtype == out.dtype:
        out.view(np.uint16)[...] = x.view(np.uint16)
        return
    import numkong

    numkong.astype(x, "bfloat16", out=tensor(out))
