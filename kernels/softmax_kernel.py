"""Softmax over the last axis: the smallest complete kernel of this folder, to learn from.

    y_j = exp(x_j - max x) / sum_k exp(x_k - max x)
    dx_j = y_j * (dy_j - sum_k dy_k y_k)

The row is read once, stays in registers and is written once, which is the whole point of fusing:
array code reads and writes memory for every step between.

References: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), section 2
(the safe softmax); Triton's tutorial 02, "Fused Softmax".
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._checks import (
    as_rows,
    checked_by,
    out_or_new,
    require_float,
    require_out,
    require_row,
    require_same_device,
    require_shape,
)
from ._common import row_tile
from ._runtime import cdiv, launch
from ._types import Array
from .cross_entropy_kernel import LOG2_E, row_logsumexp

MAX_COLUMNS = 65536  # the vocabulary of GPT-2 fits
HELD, BLOCK = 16384, 4096  # columns held in registers at once, and taken at a time of longer rows


@triton.jit
def tile_of_program(m, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows (ROWS, 1), the columns (1, COLUMNS), and which elements exist."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    mask = (rows < m)[:, None] & (columns < n)[None, :]  # (ROWS, COLUMNS)
    return rows.to(tl.int64)[:, None], columns[None, :], mask


@triton.jit
def softmax_forward_kernel(
    X,  # (M, N) input, rows x_stride apart
    Y,  # (M, N) output, contiguous
    m,
    n,
    x_stride,
    ROWS: tl.constexpr,  # rows of a tile
    COLUMNS: tl.constexpr,  # columns of a tile, at least n
):
    row, columns, mask = tile_of_program(m, n, ROWS, COLUMNS)
    x = tl.load(X + row * x_stride + columns, mask=mask, other=-float("inf"))
    x = x.to(tl.float32)
    exponential = tl.exp(x - tl.max(x, 1)[:, None])
    y = exponential * (1.0 / tl.sum(exponential, 1))[:, None]  # one division per row
    tl.store(Y + row * n + columns[None, :], y.to(Y.dtype.element_ty), mask=mask)


@triton.jit
def softmax_backward_kernel(
    DY,  # (M, N) gradient of the output, rows dy_stride apart
    Y,  # (M, N) output of the forward pass, rows y_stride apart
    DX,  # (M, N) gradient of the input, contiguous
    m,
    n,
    dy_stride,
    y_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row, columns, mask = tile_of_program(m, n, ROWS, COLUMNS)
    dy = tl.load(DY + row * dy_stride + columns, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(Y + row * y_stride + columns, mask=mask, other=0.0).to(tl.float32)
    dx = y * (dy - tl.sum(dy * y, 1)[:, None])
    tl.store(DX + row * n + columns[None, :], dx.to(DX.dtype.element_ty), mask=mask)


# A row longer than HELD is read twice, in blocks: registers do not hold it.


@triton.jit
def softmax_long_forward_kernel(
    X,  # (M, N) input, rows x_stride apart
    Y,  # (M, N) output, contiguous
    n,
    x_stride,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,  # elements in 16 bytes
):
    row = tl.program_id(0).to(tl.int64)
    logsum_log2 = row_logsumexp(X + row * x_stride, n, n, COLUMNS, VECTOR)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < n
        x = tl.load(X + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
        y = tl.exp2(x * LOG2_E - logsum_log2)
        tl.store(Y + row * n + columns, y.to(Y.dtype.element_ty), mask=inside)


@triton.jit
def load_block(DYRow, YRow, columns, n):
    """dy and y in these columns of a row, in float32; zeros past column n."""
    inside = columns < n
    dy = tl.load(DYRow + columns, mask=inside, other=0.0).to(tl.float32)
    return dy, tl.load(YRow + columns, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def softmax_long_backward_kernel(
    DY,  # (M, N) gradient of the output, rows dy_stride apart
    Y,  # (M, N) output of the forward pass, rows y_stride apart
    DX,  # (M, N) gradient of the input, contiguous
    n,
    dy_stride,
    y_stride,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    products = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        dy, y = load_block(DY + row * dy_stride, Y + row * y_stride, columns, n)
        products += dy * y
    projection = tl.sum(products, 0)  # sum_k dy_k y_k
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        dy, y = load_block(DY + row * dy_stride, Y + row * y_stride, columns, n)
        dx = y * (dy - projection)
        tl.store(DX + row * n + columns, dx.to(DX.dtype.element_ty), mask=columns < n)


def _check_forward(x: Array, out: Array | None = None) -> None:
    require_float(x=x)
    if x.ndim:
        require_row(x.shape[-1], MAX_COLUMNS)
    require_out(out, x.shape, x)


@checked_by(_check_forward)
def softmax(x: Array, out: Array | None = None) -> Array:
    """Softmax over the last axis.

    x: (..., N), N at most 65536; out: C-contiguous array of the same shape and dtype
    Returns y (..., N). A row of nothing but -inf gives NaN, as in PyTorch.
    """
    y = out_or_new(out, x.shape, x)
    if not x.size:
        return y
    x2, x_stride = as_rows(x if x.ndim else x.reshape(1))
    m, n = x2.shape
    if n > HELD:
        launch(softmax_long_forward_kernel, (m,), x2, y, n, x_stride, COLUMNS=BLOCK,
               VECTOR=16 // x2.itemsize, num_warps=16)
        return y
    rows, columns, warps = row_tile(n)
    launch(softmax_forward_kernel, (cdiv(m, rows),), x2, y, m, n, x_stride,
           ROWS=rows, COLUMNS=columns, num_warps=warps)
    return y


def _check_backward(dy: Array, y: Array, out: Array | None = None) -> None:
    require_float(dy=dy, y=y)
    require_same_device(dy, y=y)
    require_shape(dy.shape, y=y)
    if y.ndim:
        require_row(y.shape[-1], MAX_COLUMNS)
    require_out(out, y.shape, y)


@checked_by(_check_backward)
def softmax_backward(dy: Array, y: Array, out: Array | None = None) -> Array:
    """dx (..., N) from dy and the forward pass's y; all of one shape."""
    dx = out_or_new(out, y.shape, y)
    if not y.size:
        return dx
    dy2, dy_stride = as_rows(dy if dy.ndim else dy.reshape(1))
    y2, y_stride = as_rows(y if y.ndim else y.reshape(1))
    m, n = y2.shape
    if n > HELD:
        launch(softmax_long_backward_kernel, (m,), dy2, y2, dx, n, dy_stride, y_stride,
               COLUMNS=BLOCK, num_warps=16)
        return dx
    rows, columns, warps = row_tile(n)
    launch(softmax_backward_kernel, (cdiv(m, rows),), dy2, y2, dx, m, n, dy_stride, y_stride,
           ROWS=rows, COLUMNS=columns, num_warps=warps)
    return dx
