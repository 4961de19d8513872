"""Softmax cross-entropy of rows of logits against integer targets.

    logsum = log sum_j exp logits_j,   loss = logsum - logits_t          (t: the target)
    p_j = exp(logits_j - logsum),      dlogits_j = (p_j - [j = t]) dloss

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

import triton
import triton.language as tl

from ._checks import (
    as_rows,
    checked_by,
    contiguous,
    out_or_new,
    require_float,
    require_integer,
    require_out,
    require_same_device,
    require_shape,
    rows_evenly_spaced,
)
from ._common import split_scalar
from ._runtime import array_module, cdiv, launch, next_power_of_2
from ._types import Array, Scalar
from .errors import KernelError

MAX_BLOCK = 8192
LOG2_E = tl.constexpr(1.4426950408889634)


# Rows may be wider than they have classes: 50257 stand in rows of 50304, whose length is a multiple
# of 64. The mask of every access must then be `columns < width`: of a mask that changes in the
# middle of 16 bytes, as `columns < v` does, the compiler makes an access for every element. Only
# the last block of a row knows of `v`.


@triton.jit
def add_block(logits, highest, total):
    """Take a block (threads, VECTOR) into each thread's running maximum and sum of powers of 2."""
    higher = tl.maximum(highest, tl.max(logits, 1) * LOG2_E)
    # exp2(-inf - -inf) would be NaN while only -inf has come by
    reference = tl.where(higher == -float("inf"), 0.0, higher)
    p = tl.exp2(logits * LOG2_E - reference[:, None])
    return higher, total * tl.exp2(highest - reference) + tl.sum(p, 1)


@triton.jit
def row_logsumexp(Row, v, width, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """log2 sum exp of the first `v` of the `width` elements at `Row`, in float32.

    VECTOR neighbours belong to one thread, which keeps a maximum and a sum of its own, so that no
    thread waits for another before the end of the row.
    """
    highest = tl.full([BLOCK // VECTOR], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK // VECTOR], tl.float32)
    within = tl.arange(0, BLOCK // VECTOR)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    full = v // BLOCK * BLOCK
    for start in range(0, full, BLOCK):
        logits = tl.load(Row + start + within).to(tl.float32)
        highest, total = add_block(logits, highest, total)
    if full < v:
        columns = full + within
        logits = tl.load(Row + columns, mask=columns < width, other=0.0).to(tl.float32)
        highest, total = add_block(tl.where(columns < v, logits, -float("inf")), highest, total)
    top = tl.max(highest, 0)
    reference = tl.where(top == -float("inf"), 0.0, top)
    return top + tl.log2(tl.sum(total * tl.exp2(highest - reference), 0))


@triton.jit
def store_gradient(Row, Out, start, v, width, logsum_log2, target, dloss, BLOCK: tl.constexpr,
                   LAST: tl.constexpr):
    """Write (softmax - one hot) * dloss for the BLOCK columns of a row from `start`.

    LAST: the row may end within the block; the columns from `v` to `width` become 0
    """
    columns = start + tl.arange(0, BLOCK)
    counts = dloss != 0.0  # an ignored row may hold anything and is not read
    inside = columns < width if LAST else tl.full([BLOCK], 1, tl.int1)
    logits = tl.load(Row + columns, mask=inside & counts, other=-float("inf")).to(tl.float32)
    p = tl.exp2(logits * LOG2_E - tl.where(counts, logsum_log2, 0.0))
    gradient = (p - tl.where(columns == target.to(tl.int32), 1.0, 0.0)) * dloss
    if LAST:
        gradient = tl.where(columns < v, gradient, 0.0)
    # ".cs" marks the gradient as the first to leave the L2 cache: it is not read again here, while
    # rows of logits are
    tl.store(Out + columns, gradient.to(Out.dtype.element_ty), mask=inside, cache_modifier=".cs")


@triton.jit
def cross_entropy_forward_kernel(
    Logits,  # (M, width) logits, rows stride apart, of which the first v count
    Targets,  # (M,) integers
    Loss,  # (M,) float32
    Logsum,  # (M,) float32
    DLogits,  # (M, width) gradient, rows dlogits_stride apart, may be Logits; None: losses only
    Scale,  # (1,) float32 dloss of every row in device memory, or None
    scale,  # dloss of every row where Scale is None
    v,
    width,
    stride,
    dlogits_stride,
    ignore_index,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,  # elements in 16 bytes
):
    row = tl.program_id(0).to(tl.int64)
    Row = Logits + row * stride
    logsum_log2 = row_logsumexp(Row, v, width, BLOCK, VECTOR)
    logsum = logsum_log2 * 0.6931471805599453  # ln 2
    target = tl.load(Targets + row).to(tl.int64)
    ignored = target == ignore_index
    known = (target >= 0) & (target < v)
    target_logit = tl.load(Row + target, mask=known, other=float("nan")).to(tl.float32)
    tl.store(Loss + row, tl.where(ignored, 0.0, logsum - target_logit))
    tl.store(Logsum + row, logsum)
    if DLogits is not None:
        dloss = scale
        if Scale is not None:
            dloss = tl.load(Scale)
        dloss = tl.where(ignored, 0.0, tl.where(known, dloss, float("nan")))
        tl.debug_barrier()  # target_logit must be read before any thread writes over it
        Out = DLogits + row * dlogits_stride
        full = v // BLOCK
        for start in range(full * BLOCK, width, BLOCK):
            store_gradient(Row, Out, start, v, width, logsum_log2, target, dloss, BLOCK, True)
        for block in range(0, full):
            start = (full - 1 - block) * BLOCK
            store_gradient(Row, Out, start, v, width, logsum_log2, target, dloss, BLOCK, False)


@triton.jit
def cross_entropy_backward_kernel(
    Logits,  # (M, width) logits, rows stride apart, of which the first v count
    Targets,  # (M,) integers
    Logsum,  # (M,) float32
    DLoss,  # (M,) float32, or (1,) with dloss_stride 0
    DLogits,  # (M, width) gradient, rows dlogits_stride apart, may be Logits
    v,
    width,
    stride,
    dlogits_stride,
    dloss_stride,
    ignore_index,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(Targets + row).to(tl.int64)
    known = (target >= 0) & (target < v)
    dloss = tl.where(known, tl.load(DLoss + row * dloss_stride), float("nan"))
    dloss = tl.where(target == ignore_index, 0.0, dloss)
    logsum_log2 = tl.load(Logsum + row) * LOG2_E
    store_gradient(Logits + row * stride, DLogits + row * dlogits_stride, tl.program_id(1) * BLOCK,
                   v, width, logsum_log2, target, dloss, BLOCK, True)


def _check(logits: Array, targets: Array, ignore_index: int = -100,
           classes: int | None = None) -> None:
    _check_arguments(logits, targets, classes)


def _check_arguments(logits: Array, targets: Array, classes: int | None, **rows: Array) -> None:
    require_float(logits=logits)
    require_integer(targets=targets)
    require_same_device(logits, targets=targets, **rows)
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise KernelError(f"logits must have at least one class, got {logits.shape}")
    if classes is not None and not 1 <= classes <= logits.shape[-1]:
        raise KernelError(f"classes must be 1 .. {logits.shape[-1]}, the columns of "
                          f"logits, got {classes}")
    require_shape(logits.shape[:-1], targets=targets)


@checked_by(_check)
def cross_entropy(logits: Array, targets: Array, ignore_index: int = -100,
                  classes: int | None = None) -> tuple[Array, Array]:
    """Loss of each row: (losses, logsum), both (M,) float32.

    logits: (..., W); targets: (...,) int32 or int64; M is the product of the leading axes
    classes: V, how many columns are classes; the others may hold anything. By default V = W.
    """
    return _forward(logits, targets, None, None, 0.0, ignore_index, classes)


def _check_with_gradient(logits: Array, targets: Array, scale: Scalar = 1.0,
                         ignore_index: int = -100, out: Array | None = None,
                         classes: int | None = None) -> None:
    _check_arguments(logits, targets, classes)
    require_out(out, logits.shape, logits)
    if out is None and not rows_evenly_spaced(logits):
        raise KernelError("logits must have contiguous, evenly spaced rows to be written over; "
                          "pass out")


@checked_by(_check_with_gradient)
def cross_entropy_with_gradient(logits: Array, targets: Array, scale: Scalar = 1.0,
                                ignore_index: int = -100, out: Array | None = None,
                                classes: int | None = None) -> tuple[Array, Array]:
    """Loss of each row and, in the same launch, the gradient: (losses, dlogits).

    logits, targets, classes: as for cross_entropy; dlogits (..., W) is 0 beyond the classes
    scale: what every row's gradient is multiplied by, 1 / number of counted rows for a mean loss;
        a float or a float32 array of one element on the device
    out: where the gradient goes; None writes it over the logits, whose rows must be contiguous and
        evenly spaced then
    """
    dlogits = logits if out is None else out
    losses, _ = _forward(logits, targets, dlogits, *split_scalar(scale), ignore_index, classes)
    return losses, dlogits


def _forward(logits: Array, targets: Array, dlogits: Array | None, scale_array: Array | None,
             scale: float, ignore_index: int, classes: int | None) -> tuple[Array, Array]:
    rows, stride = as_rows(logits)
    m, width = rows.shape
    xp = array_module(logits)
    losses, logsum = xp.empty(m, "float32"), xp.empty(m, "float32")
    (block, warps), vector = _tile(width), 16 // rows.itemsize
    # two rows at a time on a multiprocessor of 65536 registers; rows at odd addresses need more
    limit = 65536 // (2 * 32 * warps) if warps == 32 and stride % vector == 0 else None
    launch(cross_entropy_forward_kernel, (m,), rows, contiguous(targets), losses, logsum, dlogits,
           scale_array, scale, classes or width, width, stride,
           0 if dlogits is None else as_rows(dlogits)[1], ignore_index,
           BLOCK=block, VECTOR=vector, num_warps=warps, max_registers=limit)
    return losses, logsum


def _tile(width: int) -> tuple[int, int]:
    """(block, warps): eight elements to a thread, but at least four warps."""
    block = max(64, min(next_power_of_2(width), MAX_BLOCK))
    return block, max(4, min(32, block // 256))


def _check_backward(logits: Array, targets: Array, logsum: Array, dloss: Array,
                    ignore_index: int = -100, out: Array | None = None,
                    classes: int | None = None) -> None:
    _check_arguments(logits, targets, classes, logsum=logsum, dloss=dloss)
    m = logits.size // logits.shape[-1]
    require_shape((m,), logsum=logsum)
    if dloss.size not in {1, m}:
        raise KernelError(f"dloss must have 1 or {m} elements, got {dloss.size}")
    require_out(out, logits.shape, logits)


@checked_by(_check_backward)
def cross_entropy_backward(logits: Array, targets: Array, logsum: Array, dloss: Array,
                           ignore_index: int = -100, out: Array | None = None,
                           classes: int | None = None) -> Array:
    """dlogits (..., W) from the forward pass's logsum; 0 beyond the classes.

    dloss: float32 gradient of each row's loss (M,), or one for all rows; out may be logits
    """
    dlogits = out_or_new(out, logits.shape, logits)
    rows, stride = as_rows(logits)
    m, width = rows.shape
    block, warps = _tile(min(width, MAX_BLOCK // 2))
    dloss = contiguous(dloss.astype("float32", copy=False))
    launch(cross_entropy_backward_kernel, (m, cdiv(width, block)), rows, contiguous(targets),
           logsum, dloss, dlogits, classes or width, width, stride, width,
           int(dloss.size == m and m > 1), ignore_index, BLOCK=block, num_warps=warps)
    return dlogits
