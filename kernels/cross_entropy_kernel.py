"""Softmax cross-entropy of rows of logits against integer targets.

    lse = log sum_j exp x_j,   loss = lse - x_target,   dx_j = (exp(x_j - lse) - [j = target]) dloss

A row of a vocabulary does not fit in registers, so the row is read in blocks with a running
maximum and a running sum. The gradient may be written over the logits: each element is read before
it is written, by the program that owns the row.

The row is read twice, and the second time must not come from memory: two rows of GPT-2's vocabulary
per multiprocessor are 26 MB on an H200, whose L2 cache has 50 MB. Hence few programs of many warps,
and the second walk goes backward, to begin with what was read last. Exponentials are powers of two,
with log2(e) folded in: one multiply-add and one instruction of the hardware for each.

A target equal to ignore_index gives loss 0 and gradient 0. Any other target outside [0, V) gives
NaN, since a kernel cannot raise an error.

References: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3;
Hsu et al., "Liger Kernel" (2024), section 3.2, for the gradient in place of the logits.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from ._checks import (
    as_rows,
    checked_by,
    contiguous,
    output,
    require_float,
    require_integer,
    require_same_device,
    require_shape,
    rows_evenly_spaced,
)
from ._common import split_scalar
from ._runtime import array_module, cdiv, launch, next_power_of_2
from .errors import KernelError

MAX_BLOCK = 8192
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def row_logsumexp(Row, v, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """log2 sum exp of the `v` elements at `Row`, in float32.

    VECTOR neighbours belong to one thread, which keeps a maximum and a sum of its own, so that no
    thread waits for another before the end of the row.
    """
    highest = tl.full([BLOCK // VECTOR], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK // VECTOR], tl.float32)
    within = tl.arange(0, BLOCK // VECTOR)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    for start in range(0, v, BLOCK):
        columns = start + within
        x = tl.load(Row + columns, mask=columns < v, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(x, 1) * LOG2_E)
        # exp2(-inf - -inf) would be NaN while only -inf has come by
        reference = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp2(x * LOG2_E - reference[:, None])
        total = total * tl.exp2(highest - reference) + tl.sum(p, 1)
        highest = higher
    top = tl.max(highest, 0)
    reference = tl.where(top == -float("inf"), 0.0, top)
    return top + tl.log2(tl.sum(total * tl.exp2(highest - reference), 0))


@triton.jit
def store_gradient(Row, Out, columns, v, lse_log2, target, dloss):
    """Write (softmax - one hot) * dloss for `columns` of a row."""
    inside = columns < v
    counts = dloss != 0.0  # an ignored row may hold anything and is not read
    x = tl.load(Row + columns, mask=inside & counts, other=-float("inf")).to(tl.float32)
    p = tl.exp2(x * LOG2_E - tl.where(counts, lse_log2, 0.0))
    gradient = (p - tl.where(columns == target.to(tl.int32), 1.0, 0.0)) * dloss
    # ".cs": written once, so that it shall not push rows that are read again out of the L2 cache
    tl.store(Out + columns, gradient.to(Out.dtype.element_ty), mask=inside, cache_modifier=".cs")


@triton.jit
def cross_entropy_forward_kernel(
    X,  # (M, V) logits, rows x_stride apart
    Targets,  # (M,) integers
    Loss,  # (M,) float32
    Lse,  # (M,) float32
    DX,  # (M, V) gradient, rows dx_stride apart, may be X; None: losses only
    Scale,  # (1,) float32 dloss of every row in device memory, or None
    scale,  # dloss of every row where Scale is None
    v,
    x_stride,
    dx_stride,
    ignore_index,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,  # elements in 16 bytes
):
    row = tl.program_id(0).to(tl.int64)
    Row = X + row * x_stride
    lse_log2 = row_logsumexp(Row, v, BLOCK, VECTOR)
    lse = lse_log2 * 0.6931471805599453  # ln 2
    target = tl.load(Targets + row).to(tl.int64)
    ignored = target == ignore_index
    known = (target >= 0) & (target < v)
    x_target = tl.load(Row + target, mask=known, other=float("nan")).to(tl.float32)
    tl.store(Loss + row, tl.where(ignored, 0.0, lse - x_target))
    tl.store(Lse + row, lse)
    if DX is not None:
        dloss = scale
        if Scale is not None:
            dloss = tl.load(Scale)
        dloss = tl.where(ignored, 0.0, tl.where(known, dloss, float("nan")))
        tl.debug_barrier()  # x_target must be read before any thread writes over it
        blocks = tl.cdiv(v, BLOCK)
        for block in range(0, blocks):
            columns = (blocks - 1 - block) * BLOCK + tl.arange(0, BLOCK)
            store_gradient(Row, DX + row * dx_stride, columns, v, lse_log2, target, dloss)


@triton.jit
def cross_entropy_backward_kernel(
    X,  # (M, V) logits, rows x_stride apart
    Targets,  # (M,) integers
    Lse,  # (M,) float32
    DLoss,  # (M,) float32, or (1,) with dloss_stride 0
    DX,  # (M, V) gradient, rows dx_stride apart, may be X
    v,
    x_stride,
    dx_stride,
    dloss_stride,
    ignore_index,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(Targets + row).to(tl.int64)
    known = (target >= 0) & (target < v)
    dloss = tl.where(known, tl.load(DLoss + row * dloss_stride), float("nan"))
    dloss = tl.where(target == ignore_index, 0.0, dloss)
    lse_log2 = tl.load(Lse + row) * LOG2_E
    store_gradient(X + row * x_stride, DX + row * dx_stride, columns, v, lse_log2, target, dloss)


def _check(logits: Any, targets: Any, ignore_index: int = -100) -> None:
    _check_arguments("cross_entropy", logits, targets)


def _check_arguments(kernel: str, logits: Any, targets: Any, **rows: Any) -> None:
    require_float(kernel, logits=logits)
    require_integer(kernel, targets=targets)
    require_same_device(kernel, logits, targets=targets, **rows)
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise KernelError(f"{kernel}: logits must have at least one class, got {logits.shape}")
    require_shape(kernel, logits.shape[:-1], targets=targets)


@checked_by(_check)
def cross_entropy(logits: Any, targets: Any, ignore_index: int = -100) -> tuple[Any, Any]:
    """Loss of each row: (losses, lse), both (M,) float32.

    logits: (..., V); targets: (...,) int32 or int64; M is the product of the leading axes
    """
    _check(logits, targets)
    return _forward(logits, targets, None, None, 0.0, ignore_index)


def _check_with_gradient(logits: Any, targets: Any, scale: Any = 1.0, ignore_index: int = -100,
                         out: Any = None) -> None:
    _check_arguments("cross_entropy_with_gradient", logits, targets)


@checked_by(_check_with_gradient)
def cross_entropy_with_gradient(logits: Any, targets: Any, scale: Any = 1.0,
                                ignore_index: int = -100, out: Any = None) -> tuple[Any, Any]:
    """Loss of each row and, in the same launch, the gradient: (losses, dlogits).

    scale: what every row's gradient is multiplied by, 1 / number of counted rows for a mean loss;
        a float or a float32 array of one element on the device
    out: where the gradient goes; None writes it over the logits, whose rows must be contiguous and
        evenly spaced then
    """
    _check_with_gradient(logits, targets)
    if out is None and not rows_evenly_spaced(logits):
        raise KernelError("cross_entropy_with_gradient: logits must have contiguous, evenly spaced "
                          "rows to be written over; pass out")
    dx = logits if out is None else output(out, "cross_entropy_with_gradient", logits.shape, logits)
    losses, _ = _forward(logits, targets, dx, *split_scalar(scale), ignore_index)
    return losses, dx


def _forward(logits: Any, targets: Any, dx: Any, scale_array: Any, scale: float,
             ignore_index: int) -> tuple[Any, Any]:
    x2, x_stride = as_rows(logits)
    m, v = x2.shape
    xp = array_module(logits)
    losses, lse = xp.empty(m, "float32"), xp.empty(m, "float32")
    block, warps = _tile(v)
    launch(cross_entropy_forward_kernel, (m,), x2, contiguous(targets), losses, lse, dx,
           scale_array, scale, v, x_stride, 0 if dx is None else as_rows(dx)[1], ignore_index,
           BLOCK=block, VECTOR=16 // x2.itemsize, num_warps=warps)
    return losses, lse


def _tile(v: int) -> tuple[int, int]:
    """(block, warps): eight elements to a thread, but at least four warps."""
    block = max(64, min(next_power_of_2(v), MAX_BLOCK))
    return block, max(4, min(32, block // 256))


def _check_backward(logits: Any, targets: Any, lse: Any, dloss: Any, ignore_index: int = -100,
                    out: Any = None) -> None:
    _check_arguments("cross_entropy_backward", logits, targets, lse=lse, dloss=dloss)
    m = logits.size // logits.shape[-1]
    require_shape("cross_entropy_backward", (m,), lse=lse)
    if dloss.size not in {1, m}:
        raise KernelError(f"cross_entropy_backward: dloss must have 1 or {m} elements, "
                          f"got {dloss.size}")


@checked_by(_check_backward)
def cross_entropy_backward(logits: Any, targets: Any, lse: Any, dloss: Any,
                           ignore_index: int = -100, out: Any = None) -> Any:
    """dlogits (..., V) from the forward pass's lse.

    dloss: float32 gradient of each row's loss (M,), or one for all rows; out may be logits
    """
    _check_backward(logits, targets, lse, dloss)
    dx = output(out, "cross_entropy_backward", logits.shape, logits)
    x2, x_stride = as_rows(logits)
    m, v = x2.shape
    block, warps = _tile(min(v, MAX_BLOCK // 2))
    dloss = contiguous(dloss.astype("float32", copy=False))
    launch(cross_entropy_backward_kernel, (m, cdiv(v, block)), x2, contiguous(targets), lse, dloss,
           dx, v, x_stride, v, int(dloss.size == m and m > 1), ignore_index,
           BLOCK=block, num_warps=warps)
    return dx
