"""Dropout whose mask is never stored: forward and backward draw the same bits again.

    keep_i = bits(key, i) >= p * 2^32,   y_i = keep_i x_i / (1 - p),   dx_i = keep_i dy_i / (1 - p)

The bits depend on the key and on the element's index alone (_common.random_bits), so that one key
gives the same mask on NumPy, CuPy and here.

References: Srivastava et al., "Dropout" (2014); Salmon et al., "Parallel random numbers: as easy as
1, 2, 3" (2011) for generators that map a counter to bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._checks import checked_by, contiguous, out_or_new, require_dropout, require_float, require_out
from ._common import dropout_threshold, load_key, mix32, mix32_after_first_step, split_key
from ._runtime import cdiv, launch
from ._types import Array, Key

BLOCK = 4096


@triton.jit(do_not_specialize=["k0", "k1", "threshold"])
def dropout_kernel(
    X,  # (n,) input, or the gradient of the output
    Y,  # (n,)
    Key,  # (2,) int32 in device memory, or None
    k0,
    k1,
    threshold,  # p * 2^32 as the signed integer of the same 32 bits
    scale,  # 1 / (1 - p)
    n,
    BLOCK: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK // 8) * 8
    within = tl.arange(0, 8)[None, :]
    index = group[:, None] + within  # (BLOCK / 8, 8)
    mask = index < n
    # The mixing is what limits this kernel, so its first step is taken once for eight elements:
    # with x = group ^ first, (x ^ within) ^ ((x ^ within) >> 16) = (x ^ (x >> 16)) ^ within.
    first, second = load_key(Key, k0, k1)
    mixed = group.to(tl.uint32) ^ first
    mixed ^= mixed >> 16
    bits = mix32(mix32_after_first_step(mixed[:, None] ^ within.to(tl.uint32)) + second)
    keep = bits >= threshold.to(tl.uint32)
    x = tl.load(X + index, mask=mask, other=0.0).to(tl.float32)
    y = tl.where(keep, x * scale, 0.0)
    tl.store(Y + index, y.to(Y.dtype.element_ty), mask=mask)


def _check(x: Array, p: float, key: Key, out: Array | None = None) -> None:
    require_float(x=x)
    require_dropout(p, key)
    require_out(out, x.shape, x)


@checked_by(_check)
def dropout(x: Array, p: float, key: Key, out: Array | None = None) -> Array:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    x: any shape; p in [0, 1)
    key: two 32-bit integers, or a uint32 array (2,) on the device of x
    Returns y of the shape and dtype of x. The element's number in C order is its counter.
    """
    y = out_or_new(out, x.shape, x)
    device_key, k0, k1 = split_key(key)
    n = x.size
    launch(dropout_kernel, (cdiv(n, BLOCK),), contiguous(x), y, device_key, k0, k1,
           dropout_threshold(p), 1.0 / (1.0 - p), n, BLOCK=BLOCK)
    return y


def _check_backward(dy: Array, p: float, key: Key, out: Array | None = None) -> None:
    require_float(dy=dy)
    require_dropout(p, key)
    require_out(out, dy.shape, dy)


@checked_by(_check_backward)
def dropout_backward(dy: Array, p: float, key: Key, out: Array | None = None) -> Array:
    """dx of dropout: the same mask and the same scale applied to dy."""
    return dropout.unchecked(dy, p, key, out)
