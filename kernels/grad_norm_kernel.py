"""The norm over all gradients, and the factor that clips it, without leaving the device.

    norm = sqrt(sum of g^2),   factor = min(1, max_norm / (norm + 1e-6))

Each program of the first kernel adds up its share of the squares; a second kernel of one program
adds the shares. Nothing is copied to the host, so that training needs no synchronization and a
CUDA graph can hold all of it; adamw reads the factor from where it stands.

Reference: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks"
(2013), algorithm 1; the 1e-6 is PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl

from ._checks import checked_by, contiguous, require_float, require_same_device
from ._common import split_scalar
from ._runtime import array_module, cdiv, launch, next_power_of_2, program_count
from ._types import Array, Scalar
from .errors import KernelError

BLOCK = 4096


@triton.jit
def squares_kernel(
    G,  # (n,) gradients
    Partial,  # (programs,) float32
    n,
    BLOCK: tl.constexpr,
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    total = tl.zeros([BLOCK], tl.float32)
    for block in range(program, tl.cdiv(n, BLOCK), programs):
        index = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        g = tl.load(G + index, mask=index < n, other=0.0).to(tl.float32)
        total += g * g
    tl.store(Partial + program, tl.sum(total, 0))


@triton.jit
def norm_and_factor_kernel(
    Partial,  # (p,) float32
    Out,  # (2,) float32: norm, factor
    p,
    max_norm,
    BLOCK: tl.constexpr,
):
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, p, BLOCK):
        index = start + tl.arange(0, BLOCK)
        total += tl.load(Partial + index, mask=index < p, other=0.0)
    norm = tl.sqrt(tl.sum(total, 0))
    factor = max_norm / (norm + 1e-6)
    factor = tl.where(factor < 1.0, factor, tl.where(norm == norm, 1.0, norm))  # NaN stays NaN
    tl.store(Out, norm)
    tl.store(Out + 1, factor)


@triton.jit
def scale_kernel(
    G,  # (n,) scaled in place
    Factor,  # (1,) float32 in device memory, or None
    factor,
    n,
    BLOCK: tl.constexpr,
):
    if Factor is not None:
        factor = tl.load(Factor)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (index < n) & (factor != 1.0)  # the usual factor moves no bytes
    g = tl.load(G + index, mask=inside, other=0.0).to(tl.float32) * factor
    tl.store(G + index, g.to(G.dtype.element_ty), mask=inside)


def _as_list(gradients: Array | Sequence[Array]) -> list[Array]:
    return list(gradients) if isinstance(gradients, Sequence) else [gradients]


def _check(gradients: Array | Sequence[Array], max_norm: float = 1.0) -> None:
    arrays = _as_list(gradients)
    if not arrays:
        raise KernelError("gradients is empty; pass at least one array")
    for index, array in enumerate(arrays):
        require_float(**{f"gradients[{index}]": array})
        require_same_device(arrays[0], **{f"gradients[{index}]": array})
    if max_norm <= 0:
        raise KernelError(f"max_norm must be positive, got {max_norm}")


@checked_by(_check)
def clip_factor(gradients: Array | Sequence[Array], max_norm: float) -> Array:
    """(2,) float32 on the device: the norm over all gradients and min(1, max_norm / norm).

    gradients: an array, best a flat buffer, or a list of arrays; a NaN makes both NaN
    """
    arrays = _as_list(gradients)
    xp = array_module(arrays[0])
    shares = [min(program_count(a, 4), cdiv(a.size, BLOCK)) for a in arrays]
    partial = xp.empty(max(sum(shares), 1), "float32")
    begin = 0
    for array, share in zip(arrays, shares, strict=True):
        launch(squares_kernel, (share,), contiguous(array), partial[begin:begin + share],
               array.size, BLOCK=BLOCK, num_warps=8)
        begin += share
    result = xp.empty(2, "float32")
    launch(norm_and_factor_kernel, (1,), partial, result, begin, float(max_norm),
           BLOCK=min(max(next_power_of_2(begin), 16), 1024))
    return result


@checked_by(_check)
def grad_norm(gradients: Array | Sequence[Array]) -> Array:
    """The Euclidean norm over all gradients, () float32 on the device."""
    return clip_factor.unchecked(gradients, 1.0)[0]


def _check_scale(array: Array, factor: Scalar) -> None:
    require_float(array=array)
    if not array.flags.c_contiguous:
        raise KernelError("array must be C-contiguous")


@checked_by(_check_scale)
def scale_in_place(array: Array, factor: Scalar) -> Array:
    """Multiply `array` by a number, or by an array of one element on its device; returns it."""
    factor_array, number = split_scalar(factor)
    launch(scale_kernel, (cdiv(array.size, BLOCK),), array, factor_array, number, array.size,
           BLOCK=BLOCK)
    return array
