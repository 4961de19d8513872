"""Layer normalization over the last axis, plain and with the residual addition fused in.

    s = x + residual                                   (add_layer_norm only)
    xhat = (s - mean(s)) * rstd,   rstd = 1 / sqrt(var(s) + eps)
    y = xhat * weight + bias

    dxhat = weight * dy
    ds = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))    (+ what reaches s directly)
    dweight = sum over rows of dy * xhat,   dbias = sum over rows of dy

Mean and variance are taken in float32 in passes over registers, not as E[x^2] - E[x]^2, which
cancels. dweight and dbias are summed in two stages: every program of the first keeps its running
sums in registers and writes them once at its end; while it works on one tile, the next is on its
way.
The backward pass of a row longer than HELD does not fit in registers beside these running sums: a
kernel of its own takes the two means of each row, and programs then share the columns too.

References: Ba, Kiros and Hinton, "Layer Normalization" (2016); Triton's tutorial 05.
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
    require_out,
    require_row,
    require_same_device,
    require_shape,
)
from ._common import column_sum, row_tile
from ._runtime import array_module, cdiv, launch, program_count
from ._types import Array, DType

HELD, BLOCK = 8192, 1024  # columns that the backward pass holds at once, and takes of longer rows


@triton.jit
def layer_norm_forward_kernel(
    X,  # (M, N) input, rows x_stride apart
    Residual,  # (M, N) added to the input, rows residual_stride apart; None without
    S,  # (M, N) the sum, written where Residual is given; else None
    Weight,  # (N,) weight or None
    Bias,  # (N,) bias or None
    Y,  # (M, N) output
    Mean,  # (M,) float32, kept for the backward pass
    Rstd,  # (M,) float32, kept for the backward pass
    m,
    n,
    x_stride,
    residual_stride,
    eps,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # at least n
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    row_inside, inside = rows < m, columns < n
    mask = row_inside[:, None] & inside[None, :]  # (ROWS, COLUMNS)
    row, column = rows.to(tl.int64)[:, None], columns[None, :]
    x = tl.load(X + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
    if Residual is not None:
        x += tl.load(Residual + row * residual_stride + column, mask=mask, other=0.0).to(tl.float32)
        rounded = x.to(S.dtype.element_ty)  # normalize what the next layer will read
        tl.store(S + row * n + column, rounded, mask=mask)
        x = rounded.to(tl.float32)
    mean = tl.sum(x, 1) / n  # (ROWS,)
    centered = tl.where(mask, x - mean[:, None], 0.0)
    # A mean is rounded, and in a row far from 0 that may be more than its elements differ.
    rest = tl.sum(centered, 1) / n
    mean += rest
    centered = tl.where(mask, centered - rest[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centered * centered, 1) / n + eps)
    tl.store(Mean + rows, mean, mask=row_inside)
    tl.store(Rstd + rows, rstd, mask=row_inside)
    y = centered * rstd[:, None]
    if Weight is not None:
        y *= tl.load(Weight + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    if Bias is not None:
        y += tl.load(Bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(Y + row * n + column, y.to(Y.dtype.element_ty), mask=mask)


@triton.jit
def layer_norm_backward_kernel(
    DY,  # (M, N) gradient of y, rows dy_stride apart
    DS,  # (M, N) gradient that reaches the normalized sum directly; None without
    X,  # (M, N) what was normalized, rows x_stride apart
    Weight,  # (N,) weight or None
    Mean,  # (M,) float32
    Rstd,  # (M,) float32
    Means,  # (M, 2) float32, mean(dxhat) and mean(dxhat * xhat); None where a tile holds whole rows
    DX,  # (M, N) gradient of the input
    Partial,  # (programs, 2, N) float32, dweight and dbias of each program's rows
    m,
    n,
    dy_stride,
    ds_stride,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STAGES: tl.constexpr,  # tiles that are loaded or worked on at a time
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.arange(0, COLUMNS)
    if Means is not None:
        columns += tl.program_id(1) * COLUMNS
    inside, column = columns < n, columns[None, :]
    if Weight is not None:
        weight = tl.load(Weight + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    dweight = tl.zeros([COLUMNS], tl.float32)
    dbias = tl.zeros([COLUMNS], tl.float32)
    for first in tl.range(program * ROWS, m, programs * ROWS, num_stages=STAGES):
        rows = first + tl.arange(0, ROWS)
        row_inside = rows < m
        mask = row_inside[:, None] & inside[None, :]
        row = rows.to(tl.int64)[:, None]
        dy = tl.load(DY + row * dy_stride + column, mask=mask, other=0.0).to(tl.float32)
        x = tl.load(X + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
        mean = tl.load(Mean + rows, mask=row_inside, other=0.0)[:, None]
        rstd = tl.load(Rstd + rows, mask=row_inside, other=0.0)[:, None]
        xhat = tl.where(mask, (x - mean) * rstd, 0.0)
        dweight += tl.sum(dy * xhat, 0)  # within a thread: see row_tile
        dbias += tl.sum(dy, 0)
        if Weight is not None:
            dxhat = weight * dy
        else:
            dxhat = dy
        if Means is not None:
            mean_dxhat = tl.load(Means + 2 * rows, mask=row_inside, other=0.0)[:, None]
            mean_dxhat_xhat = tl.load(Means + 2 * rows + 1, mask=row_inside, other=0.0)[:, None]
        else:
            mean_dxhat_xhat = tl.sum(dxhat * xhat, 1)[:, None] / n
            mean_dxhat = tl.sum(dxhat, 1)[:, None] / n
        dx = rstd * (dxhat - mean_dxhat - xhat * mean_dxhat_xhat)
        if DS is not None:
            dx += tl.load(DS + row * ds_stride + column, mask=mask, other=0.0).to(tl.float32)
        tl.store(DX + row * n + column, dx.to(DX.dtype.element_ty), mask=mask)
    offset = program.to(tl.int64) * 2 * n + columns
    tl.store(Partial + offset, dweight, mask=inside)
    tl.store(Partial + offset + n, dbias, mask=inside)


@triton.jit
def layer_norm_row_means_kernel(
    DY,  # (M, N) gradient of y, rows dy_stride apart
    X,  # (M, N) what was normalized, rows x_stride apart
    Weight,  # (N,) weight or None
    Mean,  # (M,) float32
    Rstd,  # (M,) float32
    Means,  # (M, 2) float32, mean(dxhat) and mean(dxhat * xhat)
    n,
    dy_stride,
    x_stride,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    mean, rstd = tl.load(Mean + row), tl.load(Rstd + row)
    sum_dxhat = tl.zeros([COLUMNS], tl.float32)
    sum_dxhat_xhat = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < n
        dxhat = tl.load(DY + row * dy_stride + columns, mask=inside, other=0.0).to(tl.float32)
        if Weight is not None:
            dxhat *= tl.load(Weight + columns, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(X + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
        sum_dxhat += dxhat
        sum_dxhat_xhat += dxhat * ((x - mean) * rstd)  # 0 outside, where dxhat is
    tl.store(Means + 2 * row, tl.sum(sum_dxhat, 0) / n)
    tl.store(Means + 2 * row + 1, tl.sum(sum_dxhat_xhat, 0) / n)


def _check_forward(x: Array, weight: Array | None = None, bias: Array | None = None,
                   eps: float = 1e-5, out: Array | None = None) -> None:
    _check_rows(x, weight, bias)
    require_out(out, x.shape, x)


def _check_rows(x: Array, weight: Array | None, bias: Array | None = None) -> None:
    require_float(x=x, weight=weight, bias=bias)
    require_same_device(x, weight=weight, bias=bias)
    require_row(x.shape[-1])
    require_shape(x.shape[-1:], weight=weight, bias=bias)


@checked_by(_check_forward)
def layer_norm(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5,
               out: Array | None = None) -> tuple[Array, Array, Array]:
    """Normalize the last axis: (y, mean, rstd).

    x: (..., N), N at most 16384; weight, bias: (N,) or None; out: where to write y
    Returns y (..., N) in the dtype of x; mean and rstd (M,) float32, M = product of the other axes.
    """
    y = out_or_new(out, x.shape, x)
    mean, rstd = _forward(x, None, None, weight, bias, y, eps)
    return y, mean, rstd


def _check_add(x: Array, residual: Array, weight: Array | None = None, bias: Array | None = None,
               eps: float = 1e-5, out: Array | None = None) -> None:
    _check_rows(x, weight, bias)
    require_float(residual=residual)
    require_same_device(x, residual=residual)
    require_shape(x.shape, residual=residual)
    require_out(out, x.shape, residual)


@checked_by(_check_add)
def add_layer_norm(x: Array, residual: Array, weight: Array | None = None,
                   bias: Array | None = None, eps: float = 1e-5,
                   out: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """s = x + residual and y = layer_norm(s) in one pass: (s, y, mean, rstd).

    x, residual: (..., N) of one shape; s and y have the dtype of residual
    """
    y = out_or_new(out, x.shape, residual)
    s = array_module(residual).empty(x.shape, residual.dtype)
    mean, rstd = _forward(x, residual, s, weight, bias, y, eps)
    return s, y, mean, rstd


def _forward(x: Array, residual: Array | None, s: Array | None, weight: Array | None,
             bias: Array | None, y: Array, eps: float) -> tuple[Array, Array]:
    x2, x_stride = as_rows(x)
    residual2, residual_stride = as_rows(residual) if residual is not None else (None, 0)
    m, n = x2.shape
    xp = array_module(x)
    mean, rstd = xp.empty(m, "float32"), xp.empty(m, "float32")
    rows, columns, warps = row_tile(n)
    if x.size:
        launch(layer_norm_forward_kernel, (cdiv(m, rows),), x2, residual2, s, contiguous(weight),
               contiguous(bias), y, mean, rstd, m, n, x_stride, residual_stride, float(eps),
               ROWS=rows, COLUMNS=columns, num_warps=warps)
    return mean, rstd


def _check_backward(dy: Array, x: Array, weight: Array, mean: Array, rstd: Array,
                    ds: Array | None = None, out: Array | None = None,
                    sums_dtype: DType | None = None) -> None:
    _check_rows(x, weight)
    require_float(dy=dy, ds=ds)
    require_same_device(x, dy=dy, ds=ds, mean=mean, rstd=rstd)
    require_shape(x.shape, dy=dy, ds=ds)
    m = x.size // max(x.shape[-1], 1)
    require_shape((m,), mean=mean, rstd=rstd)
    require_out(out, x.shape, x)


@checked_by(_check_backward)
def layer_norm_backward(dy: Array, x: Array, weight: Array, mean: Array, rstd: Array,
                        ds: Array | None = None, out: Array | None = None,
                        sums_dtype: DType | None = None) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias) of layer_norm; of add_layer_norm with x = s and ds = the gradient of s.

    dy, x, ds: (..., N); mean, rstd: (M,) as the forward pass returned them
    sums_dtype: of dweight and dbias, by default that of weight, of x where weight is None;
        the sums are taken in float32, and "float32" leaves them unrounded
    Returns dx (..., N) in the dtype of x (for add_layer_norm it is the gradient of both addends),
    dweight and dbias (N,).
    """
    dx = out_or_new(out, x.shape, x)
    sums_dtype = sums_dtype or (x if weight is None else weight).dtype
    x2, x_stride = as_rows(x)
    dy2, dy_stride = as_rows(dy)
    ds2, ds_stride = as_rows(ds) if ds is not None else (None, 0)
    m, n = x2.shape
    rows, columns, warps = row_tile(n if n <= HELD else BLOCK)
    rows, blocks = min(rows, 2), cdiv(n, columns)  # with more rows, half as many programs resident
    programs = min(cdiv(program_count(x, max(1, 16 // warps)), blocks), cdiv(m, rows))
    xp = array_module(x)
    partial = xp.empty((programs, 2 * n), "float32")
    if not x.size:
        return dx, xp.zeros(n, sums_dtype), xp.zeros(n, sums_dtype)
    weight, means = contiguous(weight), None
    if blocks > 1:
        means = xp.empty((m, 2), "float32")
        launch(layer_norm_row_means_kernel, (m,), dy2, x2, weight, mean, rstd, means, n, dy_stride,
               x_stride, COLUMNS=2 * BLOCK, num_warps=8, max_registers=255)
    launch(layer_norm_backward_kernel, (programs, blocks), dy2, ds2, x2, weight, mean, rstd, means,
           dx, partial, m, n, dy_stride, ds_stride, x_stride, ROWS=rows, COLUMNS=columns,
           STAGES=_stages(rows * columns, x2, dy2, ds2), num_warps=warps,
           max_registers=255 if blocks > 1 else None)
    sums = column_sum.unchecked(partial, sums_dtype)
    return dx, sums[:n], sums[n:]


def _stages(elements: int, *arrays: Array | None) -> int:
    """Tiles in flight: waiting ones lie in shared memory, which every chip has 99 KiB of."""
    tile_bytes = elements * sum(a.itemsize for a in arrays if a is not None)
    # a tile of HELD elements is alone on a multiprocessor, whose memory it may take
    deep = 48 << 10 if elements == HELD else 24 << 10
    return 3 if tile_bytes <= deep else 2 if tile_bytes <= 96 << 10 else 1
