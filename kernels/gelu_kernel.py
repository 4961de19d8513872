"""GELU with the bias of the linear layer before it added in the same pass.

    z = x + bias
    tanh form (GPT-2):  y = z * sigmoid(2 u),  u = sqrt(2/pi) (z + 0.044715 z^3)
                        since (1 + tanh u) / 2 = sigmoid(2 u)
                        dy/dz = s + 2 z s (1 - s) u',  s = sigmoid(2 u)
    erf form:           y = z Phi(z),  dy/dz = Phi(z) + z phi(z)
    dx = dy * dy/dz,    dbias = sum over rows of dx

Reference: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), section 2.
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
    require_same_device,
    require_shape,
)
from ._common import column_sum
from ._runtime import array_module, cdiv, launch, next_power_of_2, program_count
from ._types import Array
from .errors import KernelError

FORMS = {"tanh": True, "none": False}
FORWARD_ELEMENTS, BACKWARD_ELEMENTS = 4096, 2048  # of a tile; more would not fit in registers

TWO_K = tl.constexpr(2 * 0.7978845608028654)  # 2 u = TWO_K z + TWO_K_CUBIC z^3
TWO_K_CUBIC = tl.constexpr(2 * 0.7978845608028654 * 0.044715)
LOG2_E = tl.constexpr(1.4426950408889634)  # exp x = 2^(x log2 e), and the hardware has 2^x
SQRT_HALF = tl.constexpr(0.7071067811865476)
INV_SQRT_2PI = tl.constexpr(0.3989422804014327)


@triton.jit
def gelu(z, TANH: tl.constexpr):
    if TANH:
        return z / (1.0 + tl.exp2(z * (z * z * (TWO_K_CUBIC * -LOG2_E) + TWO_K * -LOG2_E)))
    else:
        return 0.5 * z * (1.0 + tl.math.erf(z * SQRT_HALF))


@triton.jit
def gelu_derivative(z, TANH: tl.constexpr):
    if TANH:
        square = z * z
        s = 1.0 / (1.0 + tl.exp2(z * (square * (TWO_K_CUBIC * -LOG2_E) + TWO_K * -LOG2_E)))
        return s + z * (square * (TWO_K_CUBIC * 3.0) + TWO_K) * (s * (1.0 - s))
    else:
        cdf = 0.5 * (1.0 + tl.math.erf(z * SQRT_HALF))
        return cdf + z * tl.exp2(z * z * (LOG2_E * -0.5)) * INV_SQRT_2PI


@triton.jit
def bias_gelu_forward_kernel(
    X,  # (M, N) rows x_stride apart
    Bias,  # (N,) bias or None
    Y,  # (M, N)
    m,
    n,
    x_stride,
    TANH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside, column = columns < n, columns[None, :]
    mask = (rows < m)[:, None] & inside[None, :]  # (ROWS, COLUMNS)
    row = rows.to(tl.int64)[:, None]
    z = tl.load(X + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
    if Bias is not None:
        z += tl.load(Bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(Y + row * n + column, gelu(z, TANH).to(Y.dtype.element_ty), mask=mask)


@triton.jit
def bias_gelu_backward_kernel(
    DY,  # (M, N) rows dy_stride apart
    X,  # (M, N) rows x_stride apart
    Bias,  # (N,) bias or None
    DX,  # (M, N)
    PartialDBias,  # (programs, N) float32; None without bias
    m,
    n,
    dy_stride,
    x_stride,
    TANH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside, column = columns < n, columns[None, :]
    if Bias is not None:
        bias = tl.load(Bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
        dbias = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(program * ROWS, m, programs * ROWS):
        rows = first + tl.arange(0, ROWS)
        mask = (rows < m)[:, None] & inside[None, :]
        row = rows.to(tl.int64)[:, None]
        z = tl.load(X + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(DY + row * dy_stride + column, mask=mask, other=0.0).to(tl.float32)
        if Bias is not None:
            z += bias
        dx = dy * gelu_derivative(z, TANH)
        if Bias is not None:
            dbias += dx
        tl.store(DX + row * n + column, dx.to(DX.dtype.element_ty), mask=mask)
    if Bias is not None:
        tl.store(PartialDBias + program.to(tl.int64) * n + columns, tl.sum(dbias, 0), mask=inside)


def _tile(n: int, elements: int) -> tuple[int, int]:
    columns = min(next_power_of_2(n), 1024)
    return max(1, min(elements // columns, 16)), columns


def _check(x: Array, bias: Array | None = None, approximate: str = "tanh",
           out: Array | None = None) -> None:
    _check_arguments(x, bias, approximate)
    require_out(out, x.shape, x)


def _check_arguments(x: Array, bias: Array | None, approximate: str) -> None:
    require_float(x=x, bias=bias)
    require_same_device(x, bias=bias)
    require_shape(x.shape[-1:], bias=bias)
    if approximate not in FORMS:
        raise KernelError(f"approximate must be 'tanh' or 'none', got {approximate!r}")


@checked_by(_check)
def bias_gelu(x: Array, bias: Array | None = None, approximate: str = "tanh",
              out: Array | None = None) -> Array:
    """GELU of x + bias.

    x: (..., N); bias: (N,) or None; approximate: "tanh" as in GPT-2, or "none" for the erf form
    Returns y (..., N) in the dtype of x.
    """
    y = out_or_new(out, x.shape, x)
    if not x.size:
        return y
    x2, x_stride = as_rows(x)
    m, n = x2.shape
    rows, columns = _tile(n, FORWARD_ELEMENTS)
    launch(bias_gelu_forward_kernel, (cdiv(m, rows), cdiv(n, columns)), x2, contiguous(bias), y,
           m, n, x_stride, TANH=FORMS[approximate], ROWS=rows, COLUMNS=columns,
           max_registers=255)
    return y


def _check_backward(dy: Array, x: Array, bias: Array | None = None, approximate: str = "tanh",
                    out: Array | None = None) -> None:
    _check_arguments(x, bias, approximate)
    require_float(dy=dy)
    require_same_device(x, dy=dy)
    require_shape(x.shape, dy=dy)
    require_out(out, x.shape, x)


@checked_by(_check_backward)
def bias_gelu_backward(dy: Array, x: Array, bias: Array | None = None, approximate: str = "tanh",
                       out: Array | None = None) -> tuple[Array, Array | None]:
    """(dx, dbias) of bias_gelu; dbias (N,) in the dtype of bias, None where bias is None."""
    dx = out_or_new(out, x.shape, x)
    xp = array_module(x)
    if not x.size:
        return dx, None if bias is None else xp.zeros(bias.shape, bias.dtype)
    x2, x_stride = as_rows(x)
    dy2, dy_stride = as_rows(dy)
    m, n = x2.shape
    rows, columns = _tile(n, BACKWARD_ELEMENTS)
    blocks = cdiv(n, columns)
    programs = min(cdiv(program_count(x, 8), blocks), cdiv(m, rows))
    partial = None if bias is None else xp.empty((programs, n), "float32")
    launch(bias_gelu_backward_kernel, (programs, blocks), dy2, x2, contiguous(bias), dx, partial,
           m, n, dy_stride, x_stride, TANH=FORMS[approximate], ROWS=rows, COLUMNS=columns,
           num_stages=1)
    if bias is None or partial is None:
        return dx, None
    return dx, column_sum.unchecked(partial, bias.dtype)
