"""The output projection and its loss over chunks of rows, so that the logits never all exist.

    logits = x W^T + b,   loss = mean over counted rows of cross_entropy(logits, targets)
    dx = dlogits W,   dW = dlogits^T x,   db = sum over rows of dlogits

GPT-2's logits for 64 Ki tokens take 6.6 GB in bfloat16. A chunk of them takes a fixed amount: it is
made by a matrix product, turned into its own gradient in place by one kernel, and used up by two
more products before the next chunk comes. Loss and gradients therefore arrive together, in the
forward pass; a backward pass only has to scale them.

Reference: Hsu et al., "Liger Kernel" (2024), section 3.2, "FusedLinearCrossEntropy".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._checks import (
    as_rows,
    checked_by,
    require_float,
    require_integer,
    require_same_device,
    require_shape,
)
from ._common import column_sum
from ._runtime import array_module, cdiv
from .cross_entropy_kernel import cross_entropy, cross_entropy_with_gradient
from .errors import KernelError
from .gemm import matmul as default_matmul

CHUNK_BYTES = 256 << 20
# Rows of the logits begin at multiples of so many elements: with GPT-2's 50257 columns they would
# otherwise stand at odd addresses, where tensor cores cannot read them at full width.
ALIGNMENT = 64


def _check(x: Any, weight: Any, targets: Any, bias: Any = None, ignore_index: int = -100,
           chunk_rows: int | None = None, needs_gradient: bool = True,
           matmul: Any = default_matmul) -> None:
    name = "linear_cross_entropy"
    require_float(name, x=x, weight=weight, bias=bias)
    require_integer(name, targets=targets)
    require_same_device(name, x, weight=weight, targets=targets, bias=bias)
    require_shape(name, x.shape[:-1], targets=targets)
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1] or weight.shape[0] == 0:
        raise KernelError(f"{name}: weight must have shape (V, {x.shape[-1]}), got {weight.shape}")
    require_shape(name, weight.shape[:1], bias=bias)
    if weight.dtype != x.dtype:
        raise KernelError(f"{name}: x is {x.dtype} and weight is {weight.dtype}; convert one")
    if chunk_rows is not None and chunk_rows < 1:
        raise KernelError(f"{name}: chunk_rows must be positive, got {chunk_rows}")


@checked_by(_check)
def linear_cross_entropy(x: Any, weight: Any, targets: Any, bias: Any = None,
                         ignore_index: int = -100, chunk_rows: int | None = None,
                         needs_gradient: bool = True,
                         matmul: Callable[..., Any] = default_matmul,
                         ) -> tuple[Any, Any, Any, Any]:
    """Mean cross-entropy of x @ weight.T + bias: (loss, dx, dw, db).

    x: (..., C); weight: (V, C); targets: (...,) integers; bias: (V,) or None
    chunk_rows: rows per chunk; by default as many as 256 MiB of logits hold
    matmul: a function with the parameters of kernels.matmul
    Returns loss () float32, NaN where every target is ignored; dx like x, dw like weight, db like
    bias, gradients of the loss; all None where needs_gradient is False, db also without bias.
    """
    _check(x, weight, targets, bias, chunk_rows=chunk_rows)
    xp = array_module(x)
    rows, _ = as_rows(x)
    flat_targets = targets.reshape(-1)
    counted = (flat_targets != ignore_index).sum()
    scale = (1.0 / xp.maximum(counted, 1)).astype("float32").reshape(1)
    sums = _Gradients(xp, rows, weight, bias) if needs_gradient else None
    total = xp.zeros((), "float32")
    step = chunk_rows or _default_chunk_rows(weight)
    v = weight.shape[0]
    padded = xp.empty((min(step, rows.shape[0]), cdiv(v, ALIGNMENT) * ALIGNMENT), x.dtype)
    for start in range(0, rows.shape[0], step):
        part, part_targets = rows[start:start + step], flat_targets[start:start + step]
        logits = matmul(part, weight, out=padded[:part.shape[0], :v], transpose_b=True)
        if bias is not None:
            logits += bias
        if sums is None:
            losses, _ = cross_entropy(logits, part_targets, ignore_index)
        else:
            losses, dlogits = cross_entropy_with_gradient(logits, part_targets, scale, ignore_index)
            sums.add(slice(start, start + step), part, weight, dlogits, matmul)
        total += losses.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = (total / counted).astype("float32")
    return (loss, None, None, None) if sums is None else (loss, *sums.finish(x, weight, bias))


class _Gradients:
    """The sums that grow from chunk to chunk, in float32."""

    def __init__(self, xp: Any, rows: Any, weight: Any, bias: Any) -> None:
        self.dx = xp.empty(rows.shape, rows.dtype)
        self.dw = xp.zeros(weight.shape, "float32")
        self.db = None if bias is None else xp.zeros(bias.shape, "float32")

    def add(self, chunk: slice, part: Any, weight: Any, dlogits: Any,
            matmul: Callable[..., Any]) -> None:
        matmul(dlogits, weight, out=self.dx[chunk])
        matmul(dlogits, part, out=self.dw, transpose_a=True, accumulate=True)
        if self.db is not None:
            self.db += column_sum(dlogits, "float32")

    def finish(self, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
        db = None if self.db is None else self.db.astype(bias.dtype, copy=False)
        return self.dx.reshape(x.shape), self.dw.astype(weight.dtype, copy=False), db


def _default_chunk_rows(weight: Any) -> int:
    rows = CHUNK_BYTES // (weight.shape[0] * weight.itemsize)
    return max(128, rows // 128 * 128)
