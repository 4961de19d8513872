"""Arrays of heads on the host: what attention takes, views of packed q, k and v, strides."""

from __future__ import annotations

import math

from .._checks import require_float, require_same_device
from .._runtime import array_module, cdiv, next_power_of_2
from .._types import Array
from ..errors import KernelError

LOG2_E = math.log2(math.e)
MAX_HEAD = 256
MAX_OFFSET = 2**31 - 1  # offsets inside a head are 32-bit
ALIGNMENT = 16  # elements; Triton looks whether a stride is a multiple of 16


def check_attention(q: Array, k: Array, v: Array, scale: float | None = None) -> None:
    """q (B, H, T, D) fits k and v (B, H, S, D) and the kernels' limits."""
    require_float(q=q, k=k, v=v)
    require_same_device(q, k=k, v=v)
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape:
        raise KernelError(f"q must be (B, H, T, D), k and v (B, H, S, D) of one shape, "
                          f"got {q.shape}, {k.shape}, {v.shape}")
    if (*q.shape[:2], q.shape[3]) != (*k.shape[:2], k.shape[3]):
        raise KernelError(f"q {q.shape} and k {k.shape} must agree in batch, heads and "
                          "head size")
    if not q.dtype == k.dtype == v.dtype:
        raise KernelError(f"q, k and v must have one dtype, got {q.dtype}, {k.dtype}, "
                          f"{v.dtype}")
    _check_head(q.shape[3])
    if scale is not None and not scale > 0:
        raise KernelError(f"scale must be positive, got {scale}")
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.shape[2] * abs(array.strides[2]) // array.itemsize > MAX_OFFSET:
            raise KernelError(f"a head of {name} spans more than 2^31 elements; pass a "
                              "contiguous array")


def _check_head(d: int) -> None:
    if not 1 <= d <= MAX_HEAD:
        raise KernelError(f"head size must be 1 to {MAX_HEAD}, got {d}; use the array "
                          "code")


def check_qkv(qkv: Array, n_head: int) -> None:
    """qkv (B, T, 3 C) can be split into n_head heads."""
    require_float(qkv=qkv)
    if qkv.ndim != 3 or n_head < 1 or qkv.shape[2] % (3 * n_head) or not qkv.shape[2]:
        raise KernelError(f"qkv must have shape (B, T, 3 C) with C a multiple of n_head="
                          f"{n_head}, got {qkv.shape}")
    _check_head(qkv.shape[2] // (3 * n_head))


def split_heads(qkv: Array, n_head: int) -> tuple[Array, Array, Array]:
    """q, k and v (B, H, T, D) as views of packed (B, T, 3 C); nothing is copied."""
    b, t, width = qkv.shape
    parts = qkv.reshape(b, t, 3, n_head, width // (3 * n_head)).transpose(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def as_heads(x: Array, n_head: int) -> Array:
    """(B, T, C) as a view (B, H, T, D)."""
    b, t, c = x.shape
    return x.reshape(b, t, n_head, c // n_head).transpose(0, 2, 1, 3)


def unit_last_stride(array: Array) -> Array:
    """`array` itself where its last axis is contiguous, otherwise a contiguous copy."""
    if array.strides[-1] == array.itemsize:
        return array
    return array_module(array).ascontiguousarray(array)


def aligned(array: Array, copy: bool = True) -> Array:
    """`array` itself where head size and strides are multiples of 16 elements, else such a copy.

    Only then are rows read 16 bytes at a time. Other head sizes are rounded up with columns of
    zeros, which change no score.
    copy: False leaves the contents of a new array to be written
    """
    d, unit = array.shape[-1], ALIGNMENT * array.itemsize
    if d % ALIGNMENT == 0 and array.strides[-1] == array.itemsize and not any(
            stride % unit for stride in array.strides[:-1]):
        return array
    shape = (*array.shape[:-1], cdiv(d, ALIGNMENT) * ALIGNMENT)
    wide = array_module(array).zeros(shape, array.dtype)
    if copy:
        wide[..., :d] = array
    return wide


def element_strides(array: Array) -> tuple[int, int, int]:
    """Strides of batch, head and row in elements."""
    batch, head, row, _ = array.strides
    size = array.itemsize
    return batch // size, head // size, row // size


def block_d(d: int) -> int:
    """Width of a tile for head size d: a power of two that the matrix units take."""
    return max(16, next_power_of_2(d))
