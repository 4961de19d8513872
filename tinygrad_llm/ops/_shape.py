"""Broadcasting undone, and the error for shapes that cannot be broadcast."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.errors import ShapeError

Like = tuple[tuple[int, ...], np.dtype]  # shape and type of an operand: those of its gradient


def unbroadcast(dy: Array, shape: tuple[int, ...], dtype: np.dtype | None = None) -> Array:
    """The gradient of a broadcast operand: ``dy`` summed over the axes that were repeated.

    If y[i, j] = f(x[j]), each x[j] acts on every y[i, j], so dx[j] = sum over i of dy[i, j].
    16-bit numbers are added up in float32: a running sum of ones would stop at 256 in bfloat16.

    Args:
        dy: gradient of the broadcast result's shape.
        shape: the operand's shape.
        dtype: the operand's dtype, where it may differ from that of ``dy``.

    Returns:
        array of the operand's shape and dtype.
    """
    if dy.shape != shape:
        extra = dy.ndim - len(shape)
        repeated = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(shape) if n == 1 and dy.shape[i + extra] != 1
        )
        if dtype is None:
            dtype = dy.dtype
        wide = accumulate_dtype(dy.dtype)
        dy = dy.sum(axis=repeated, keepdims=True, dtype=wide).reshape(shape)
    return dy if dtype is None or dy.dtype is dtype else dy.astype(dtype, copy=False)


def broadcast_error(op: str, a: object, b: object) -> ShapeError:
    """The error for two operands that cannot be broadcast together."""
    return ShapeError(
        f"{op}: shapes {getattr(a, 'shape', ())} and {getattr(b, 'shape', ())} cannot be "
        "broadcast together. Aligned at the right, two lengths must be equal, or one of them 1."
    )
