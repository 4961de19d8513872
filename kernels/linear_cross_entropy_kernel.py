"""The output projection and its loss over chunks of rows, so that the logits never all exist.

    logits = x W^T + b,   loss = mean over counted rows of cross_entropy(logits, targets)
    dx = dlogits W,   dweight = dlogits^T x,   dbias = sum over rows of dlogits

GPT-2's logits for 64 Ki tokens take 6.6 GB in bfloat16. A chunk of them takes a fixed amount: it is
made by a matrix product, turned into its own gradient in place by one kernel, and used up by two
more products before the next chunk comes. Loss and gradients therefore arrive together, in the
forward pass; a backward pass only has to scale them. Summands of dweight are never rounded to 16
bits.

Reference: Hsu et al., "Liger Kernel" (2024), section 3.2, "FusedLinearCrossEntropy".
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

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
from ._types import Array
from .cross_entropy_kernel import cross_entropy, cross_entropy_with_gradient
from .errors import KernelError
from .products.matmul import matmul as checked_matmul

CHUNK_BYTES = 256 << 20
Product = Callable[..., Array]  # a function with the parameters of kernels.matmul
default_matmul: Product = checked_matmul.unchecked
# Rows of the logits begin at multiples of so many elements: with GPT-2's 50257 columns they would
# otherwise stand at odd addresses, where tensor cores cannot read them at full width.
ALIGNMENT = 64


def _check(x: Array, weight: Array, targets: Array, bias: Array | None = None,
           ignore_index: int = -100, chunk_rows: int | None = None, needs_gradient: bool = True,
           matmul: Product = default_matmul, classes: int | None = None,
           dweight: Array | None = None) -> None:
    require_float(x=x, weight=weight, bias=bias)
    require_integer(targets=targets)
    require_same_device(x, weight=weight, targets=targets, bias=bias, dweight=dweight)
    require_shape(x.shape[:-1], targets=targets)
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1] or weight.shape[0] == 0:
        raise KernelError(f"weight must have shape (V, {x.shape[-1]}), got {weight.shape}")
    if classes is not None and not 1 <= classes <= weight.shape[0]:
        raise KernelError(f"classes must be 1 .. {weight.shape[0]}, the rows of weight, "
                          f"got {classes}")
    require_shape((classes or weight.shape[0],), bias=bias)
    require_shape(weight.shape, dweight=dweight)
    if weight.dtype != x.dtype:
        raise KernelError(f"x is {x.dtype} and weight is {weight.dtype}; convert one")
    if dweight is not None and not (str(dweight.dtype) == "float32" and dweight.flags.c_contiguous):
        raise KernelError(f"dweight must be C-contiguous float32, in which the chunks are added "
                          f"up, got {dweight.dtype}; leave it out")
    if chunk_rows is not None and chunk_rows < 1:
        raise KernelError(f"chunk_rows must be positive, got {chunk_rows}")


@checked_by(_check)
def linear_cross_entropy(x: Array, weight: Array, targets: Array, bias: Array | None = None,
                         ignore_index: int = -100, chunk_rows: int | None = None,
                         needs_gradient: bool = True,
                         matmul: Product = default_matmul,
                         classes: int | None = None, dweight: Array | None = None,
                         ) -> tuple[Array, Array | None, Array | None, Array | None]:
    """Mean cross-entropy of x @ weight.T + bias: (loss, dx, dweight, dbias).

    x: (..., C); weight: (W, C); targets: (...,) integers; bias: (V,) or None
    chunk_rows: rows per chunk; by default as many as 256 MiB of logits hold
    matmul: a function with the parameters of kernels.matmul
    classes: V, how many rows of weight are classes, by default all. The others are there to make
        the products' extents even; they must be finite, and their gradient is 0.
    dweight: where the gradient of weight goes, (W, C) float32; by default a new array like weight
    Returns loss () float32, NaN where every target is ignored; dx like x, dweight, dbias like bias,
    gradients of the loss; all None where needs_gradient is False, dbias also without bias.
    """
    xp = array_module(x)
    rows, _ = as_rows(x)
    flat_targets = targets.reshape(-1)
    counted = (flat_targets != ignore_index).sum()
    scale = (1.0 / xp.maximum(counted, 1)).astype("float32").reshape(1)
    n, w = rows.shape[0], weight.shape[0]
    v = classes or w
    sums = _Gradients(xp, rows, weight, v, bias, dweight) if needs_gradient else None
    total = xp.zeros((), "float32")
    step = chunk_rows or _default_chunk_rows(weight)
    buffer = xp.empty((min(step, n), cdiv(w, ALIGNMENT) * ALIGNMENT), x.dtype)
    for start in range(0, max(n, 1), step):
        part, part_targets = rows[start:start + step], flat_targets[start:start + step]
        logits = buffer[:part.shape[0]]  # (rows, W rounded up)
        matmul(part, weight, out=logits[:, :w], transpose_b=True)
        if bias is not None:
            logits[:, :v] += bias
        if sums is None:
            losses, _ = cross_entropy.unchecked(logits, part_targets, ignore_index, v)
        else:
            losses, _ = cross_entropy_with_gradient.unchecked(
                logits, part_targets, scale, ignore_index, classes=v)
            sums.add(start, part, weight, logits, matmul)
        total += losses.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = (total / counted).astype("float32")
    return (loss, None, None, None) if sums is None else (loss, *sums.finish(x, bias))


class _Gradients:
    """The sums that grow from chunk to chunk, in float32."""

    def __init__(self, xp: ModuleType, rows: Array, weight: Array, v: int, bias: Array | None,
                 dweight: Array | None) -> None:
        self.v = v
        self.dx = xp.empty(rows.shape, rows.dtype)
        self.dweight = xp.empty(weight.shape, "float32") if dweight is None else dweight
        self.dweight_dtype = weight.dtype if dweight is None else dweight.dtype
        self.dbias = None if bias is None else xp.zeros(v, "float32")

    def add(self, start: int, part: Array, weight: Array, dlogits: Array,
            matmul: Product) -> None:
        """Add a chunk that begins with row `start`; the first one overwrites dweight."""
        columns = dlogits[:, :weight.shape[0]]
        matmul(columns, weight, out=self.dx[start:start + part.shape[0]])
        matmul(columns, part, out=self.dweight, transpose_a=True, accumulate=start > 0)
        if self.dbias is not None:
            self.dbias += column_sum.unchecked(dlogits, "float32")[:self.v]

    def finish(self, x: Array, bias: Array | None) -> tuple[Array, Array, Array | None]:
        self.dweight[self.v:] = 0  # an infinity in x has made them NaN
        dbias = self.dbias
        if bias is not None and dbias is not None:
            dbias = dbias.astype(bias.dtype, copy=False)
        return self.dx.reshape(x.shape), self.dweight.astype(self.dweight_dtype, copy=False), dbias


def _default_chunk_rows(weight: Array) -> int:
    rows = CHUNK_BYTES // (weight.shape[0] * weight.itemsize)
    return max(128, rows // 128 * 128)
