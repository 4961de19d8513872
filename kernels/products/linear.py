"""What a linear layer and a feed-forward network compute, in as few launches as the libraries give.

    linear                     y = x W^T + b
    linear_gelu                z = x W^T + b,  a = gelu(z)
    linear_gelu_backward       dz = (dy W) * gelu'(z),  dbias = sum over rows of dz
    linear_backward_weight     dweight = dy^T x,  dbias = sum over rows of dy

On CuPy arrays of 16 bits each is one launch, if cuBLASLt takes the arrays (epilogues.py);
otherwise a product and one pass more, by the kernels of this package, as on NumPy arrays. Fused is
not always faster: a product with a large epilogue may be a worse product. On an H200, cuBLASLt of
CUDA 13 wins with GELU on the way forward, but takes 0.85 ms for GPT-2's gradient through GELU and
32 Ki tokens, where a product takes 0.22 and a pass 0.16, and loses with a bias gradient too: those
two stay apart. With TINYGRAD_LLM_AUTOTUNE=1 both forms are timed for each size and the faster is
kept (tuning.py).

GELU is the form with tanh. Shapes: x (N, in), weight (out, in), bias (out,), y, z, a (N, out).
Reference: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._checks import checked_by, require_float, require_same_device, require_shape
from .._common import column_sum
from .._runtime import array_module, is_host, next_power_of_2
from .._types import Array, DType
from ..errors import KernelError
from ..gelu_kernel import bias_gelu, bias_gelu_backward
from ..tuning import Config, choose
from . import epilogues
from .matmul import check_out, matmul

R = TypeVar("R")
FUSED, APART = {"fused": 1}, {"fused": 0}


def _check_layer(x: Array, weight: Array, bias: Array | None) -> None:
    require_float(x=x, weight=weight, bias=bias)
    require_same_device(x, weight=weight, bias=bias)
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise KernelError("x must be (N, in) and weight (out, in) with equal `in`, got "
                          f"{x.shape} and {weight.shape}")
    if weight.dtype != x.dtype:
        raise KernelError(f"x is {x.dtype} and weight is {weight.dtype}; convert one of "
                          "them")
    require_shape(weight.shape[:1], bias=bias)


def _check(x: Array, weight: Array, bias: Array | None = None) -> None:
    _check_layer(x, weight, bias)


@checked_by(_check)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y = x W^T + b (N, out), in the dtype of x; b may be None."""
    if bias is None:
        return matmul.unchecked(x, weight, transpose_b=True)
    y = None if is_host(x) else epilogues.linear_with_bias(x, weight, bias)
    if y is None:
        y = matmul.unchecked(x, weight, transpose_b=True)
        y += bias
    return y


@checked_by(_check)
def linear_gelu(x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """z = x W^T + b and a = gelu(z), both (N, out) in the dtype of x."""

    def apart() -> tuple[Array, Array]:
        z = linear.unchecked(x, weight, bias)
        return z, bias_gelu.unchecked(z)

    return _best("linear_gelu", x, len(weight),
                 lambda: epilogues.gelu_with_bias(x, weight, bias), apart)


def _check_gradients(dy: Array, x: Array, rows: int, dbias: Array | None,
                     **others: Array | None) -> None:
    require_float(dy=dy, x=x, dbias=dbias, **others)
    if x.dtype != dy.dtype:
        raise KernelError(f"dy is {dy.dtype} and its partner is {x.dtype}; convert one of them")
    require_same_device(dy, x=x, dbias=dbias, **others)
    if dy.ndim != 2 or x.ndim != 2 or len(x) != rows:
        raise KernelError(f"dy (N, out) and its partner do not fit, got {dy.shape} and "
                          f"{x.shape}")


def _check_gelu_backward(dy: Array, weight: Array, z: Array, dbias: Array | None = None,
                         dtype: DType | None = None) -> None:
    _check_gradients(dy, weight, dy.shape[-1], dbias, z=z)
    require_shape((len(dy), weight.shape[1]), z=z)
    require_shape(weight.shape[1:], dbias=dbias)


@checked_by(_check_gelu_backward)
def linear_gelu_backward(dy: Array, weight: Array, z: Array, dbias: Array | None = None,
                         dtype: DType | None = None) -> tuple[Array, Array | None]:
    """dz = (dy W) * gelu'(z), and dbias, its sum over the rows: the gradient of the bias within z.

    dy: (N, out); weight: (out, in); z: (N, in); dbias: (in,) where the sums may go, or None
    dtype: of a new dbias, by default that of dy
    Returns dz (N, in) in the dtype of z, and dbias: the array given, or another one.
    """
    kind = dtype if dbias is None else dbias.dtype

    def apart() -> tuple[Array, Array | None]:
        # z has its bias; one of zeros makes the kernel add up dbias in the same pass.
        nothing = array_module(z).zeros(z.shape[1], kind or dy.dtype)
        return bias_gelu_backward.unchecked(matmul.unchecked(dy, weight), z, nothing)

    return _best("linear_gelu_backward", dy, weight.shape[1],
                 lambda: epilogues.gelu_gradient(dy, weight, z, dbias, kind), apart, APART)


def _check_backward_weight(dy: Array, x: Array, out: Array | None = None, accumulate: bool = False,
                           dbias: Array | None = None, dtype: DType | None = None) -> None:
    _check_gradients(dy, x, len(dy), dbias, out=out)
    require_shape((dy.shape[1], x.shape[1]), out=out)
    require_shape(dy.shape[1:], dbias=dbias)
    if accumulate and out is None:
        raise KernelError("accumulate=True adds onto out, which is missing")
    check_out(dy, x, out, True, False)


@checked_by(_check_backward_weight)
def linear_backward_weight(dy: Array, x: Array, out: Array | None = None, accumulate: bool = False,
                           dbias: Array | None = None,
                           dtype: DType | None = None) -> tuple[Array, Array]:
    """dweight = dy^T x, added onto `out` where `accumulate`, and dbias, the sum of the rows of dy.

    dy: (N, out); x: (N, in); out: (out, in) in the dtype of dy or float32, or None
    dbias: (out,) where the sums may go, or None; they replace what is there
    dtype: of a new dbias, by default that of dy
    Returns (dweight, dbias); dbias is the array given, or another one.
    """
    empty, shape = array_module(dy).empty, (dy.shape[1], x.shape[1])
    dweight = empty(shape, dy.dtype) if out is None else out
    kind = dtype if dbias is None else dbias.dtype

    def fused(into: Array | None = None, add: bool = False) -> Array | None:
        into = empty(shape, dweight.dtype) if into is None else into
        return epilogues.weight_gradient(dy, x, into, add, dbias, kind)

    def apart(into: Array | None = None, add: bool = False) -> Array:
        matmul.unchecked(dy, x, out=into, transpose_a=True, accumulate=add)
        return column_sum.unchecked(dy, kind)

    # What is timed runs many times, so it must not add onto dweight.
    faster = _faster("linear_backward_weight", dy, x.shape[1], fused, apart, APART)
    sums = fused(dweight, accumulate) if faster is FUSED else None
    return dweight, apart(dweight, accumulate) if sums is None else sums


def _best(name: str, a: Array, width: int, fused: Callable[[], R | None], apart: Callable[[], R],
          default: Config = FUSED) -> R:
    """The result of `fused`; of `apart` where that is faster, or where `fused` gives None."""
    result = fused() if _faster(name, a, width, fused, apart, default) is FUSED else None
    return apart() if result is None else result


def _faster(name: str, a: Array, width: int, fused: Callable[[], object],
            apart: Callable[[], object], default: Config) -> Config:
    """The default unless a measurement says otherwise; `width`: columns of the result."""
    if is_host(a) or a.dtype.name not in epilogues.HALF:
        return APART
    key = (next_power_of_2(len(a)), a.shape[1], width, str(a.dtype))

    def run(chosen: Config) -> None:
        if (fused if chosen["fused"] else apart)() is None:
            raise KernelError(f"{name}: cuBLASLt does not take these arrays")

    choice = choose(name, key, [FUSED, APART], default, run)
    return FUSED if choice["fused"] else APART
