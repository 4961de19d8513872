"""Embedding: gather rows of a table, and add gradients back to them.

    y_i = weight[ids_i],     dweight_v = sum over i with ids_i = v of dy_i

An id may occur thousands of times, so the backward pass is a sum over rows that are scattered. Two
ways: float32 atomics, whose order and so whose last bits change from run to run; or sorting the ids
first, so that equal ids stand together and one program adds them in a fixed order. The default is
the second. An id outside the table gives NaN in the forward pass and is left out in the backward.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._checks import (
    checked_by,
    contiguous,
    out_or_new,
    require_float,
    require_integer,
    require_out,
    require_same_device,
    require_shape,
)
from ._runtime import array_module, cdiv, launch, next_power_of_2
from ._types import Array
from .errors import KernelError

GATHER_ROWS, SUM_ROWS, MAX_COLUMNS = 4, 16, 1024


@triton.jit
def embedding_forward_kernel(
    Ids,  # (M,) integers
    Weight,  # (V, C)
    Y,  # (M, C)
    m,
    v,
    c,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    ids = tl.load(Ids + rows, mask=rows < m, other=0).to(tl.int64)[:, None]
    mask = (rows < m)[:, None] & (columns < c)[None, :]  # (ROWS, COLUMNS)
    known = mask & (ids >= 0) & (ids < v)
    weight = tl.load(Weight + ids * c + columns[None, :], mask=known, other=float("nan"))
    tl.store(Y + rows.to(tl.int64)[:, None] * c + columns[None, :], weight, mask=mask)


@triton.jit
def embedding_backward_kernel(
    DY,  # (M, C)
    Sorted,  # (M,) the ids in ascending order
    Order,  # (M,) where each of them stood before sorting
    DWeight,  # (V, C), added to
    m,
    v,
    c,
    ROWS: tl.constexpr,  # rows added at a time
    COLUMNS: tl.constexpr,
):
    start = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < c
    token = tl.load(Sorted + start).to(tl.int64)
    before = tl.load(Sorted + start - 1, mask=start > 0, other=-1).to(tl.int64)
    if (token != before) & (token >= 0) & (token < v):  # the first of its run of equal ids
        total = tl.zeros([COLUMNS], tl.float32)
        position = start
        while position < m:
            rows = position + tl.arange(0, ROWS)
            ids = tl.load(Sorted + rows, mask=rows < m, other=-1).to(tl.int64)
            same = ids == token
            source = tl.load(Order + rows, mask=same, other=0).to(tl.int64)[:, None]
            dy = tl.load(DY + source * c + columns[None, :],
                         mask=same[:, None] & inside[None, :], other=0.0)
            total += tl.sum(dy.to(tl.float32), 0)
            run_ended = tl.sum(same.to(tl.int32), 0) < ROWS
            position = tl.where(run_ended, m, position + ROWS)
        Row = DWeight + token * c + columns
        total += tl.load(Row, mask=inside, other=0.0).to(tl.float32)
        tl.store(Row, total.to(DWeight.dtype.element_ty), mask=inside)


@triton.jit
def embedding_atomic_kernel(
    DY,  # (M, C)
    Ids,  # (M,) integers
    DWeight,  # (V, C) float32, added to
    m,
    v,
    c,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    ids = tl.load(Ids + rows, mask=rows < m, other=-1).to(tl.int64)[:, None]
    known = (ids >= 0) & (ids < v) & (columns < c)[None, :]
    offset = rows.to(tl.int64)[:, None] * c + columns[None, :]
    dy = tl.load(DY + offset, mask=known, other=0.0).to(tl.float32)
    tl.atomic_add(DWeight + ids * c + columns[None, :], dy, mask=known)


def _check(ids: Array, weight: Array, out: Array | None = None) -> None:
    require_integer(ids=ids)
    require_float(weight=weight)
    require_same_device(ids, weight=weight)
    if weight.ndim != 2:
        raise KernelError(f"weight must have shape (V, C), got {weight.shape}")
    require_out(out, (*ids.shape, weight.shape[1]), weight)


@checked_by(_check)
def embedding(ids: Array, weight: Array, out: Array | None = None) -> Array:
    """The row of `weight` that belongs to each id.

    ids: (...,) int32 or int64; weight: (V, C)
    Returns y (..., C) in the dtype of weight; an id outside [0, V) gives a row of NaN.
    """
    v, c = weight.shape
    y = out_or_new(out, (*ids.shape, c), weight)
    m, columns = ids.size, min(next_power_of_2(c), MAX_COLUMNS)
    launch(embedding_forward_kernel, (cdiv(m, GATHER_ROWS), cdiv(c, columns)), contiguous(ids),
           contiguous(weight), y, m, v, c, ROWS=GATHER_ROWS, COLUMNS=columns)
    return y


def _check_backward(dy: Array, ids: Array, vocab_size: int, deterministic: bool = True,
                    out: Array | None = None) -> None:
    require_float(dy=dy)
    require_integer(ids=ids)
    require_same_device(dy, ids=ids)
    if dy.ndim < 1:
        raise KernelError(f"dy must have shape (..., C), got {dy.shape}")
    require_shape(dy.shape[:-1], ids=ids)
    if out is not None and not deterministic and str(out.dtype) != "float32":
        raise KernelError(f"atomics add onto float32, out is {out.dtype}; "
                          "pass deterministic=True")
    if out is not None:
        require_out(out, (vocab_size, dy.shape[-1]), dy, out.dtype)


@checked_by(_check_backward)
def embedding_backward(dy: Array, ids: Array, vocab_size: int, deterministic: bool = True,
                       out: Array | None = None) -> Array:
    """dweight (V, C): each row of dy added to the row of its id.

    dy: (..., C); ids: (...,)
    deterministic: the same bits in every run, by sorting the ids; False uses float32 atomics
    out: an array (V, C) to add onto; by default zeros in float32
    """
    c = dy.shape[-1]
    xp = array_module(dy)
    dweight = xp.zeros((vocab_size, c), "float32") if out is None else out
    m, columns = ids.size, min(next_power_of_2(c), MAX_COLUMNS)
    dy, flat = contiguous(dy), contiguous(ids).reshape(-1)
    if deterministic:
        order = xp.argsort(flat, kind="stable")
        launch(embedding_backward_kernel, (m, cdiv(c, columns)), dy, flat[order], order, dweight,
               m, vocab_size, c, ROWS=SUM_ROWS, COLUMNS=columns, num_warps=max(1, columns // 128))
    else:
        launch(embedding_atomic_kernel, (cdiv(m, GATHER_ROWS), cdiv(c, columns)), dy, flat, dweight,
               m, vocab_size, c, ROWS=GATHER_ROWS, COLUMNS=columns)
    return dweight
