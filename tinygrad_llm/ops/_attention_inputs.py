"""What attention is given: shapes, masks, and batch axes of any number."""

from __future__ import annotations

import math

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.errors import DTypeError, ShapeError

OP = "scaled_dot_product_attention"


def with_two_batch_axes(x: Array) -> Array:
    """x (..., T, D) as (B, H, T, D)."""
    batch = x.shape[:-2]
    if len(batch) == 2:
        return x
    return x.reshape(math.prod(batch[:-1]), batch[-1] if batch else 1, *x.shape[-2:])


def check_shapes(q: Array, k: Array, v: Array, causal: bool) -> None:
    """Raise a ShapeError unless q (..., T, D), k and v (..., S, D) fit together."""
    fits = (
        q.ndim >= 2
        and k.shape == v.shape
        and q.ndim == k.ndim
        and q.shape[:-2] == k.shape[:-2]
        and q.shape[-1] == k.shape[-1]
    )
    if not fits:
        raise ShapeError(
            f"{OP}: q {q.shape}, k {k.shape} and v {v.shape} do not fit. Expected "
            "q (B, H, T, D) and k, v (B, H, S, D)."
        )
    if causal and k.shape[-2] < q.shape[-2]:
        raise ShapeError(
            f"{OP}: causal needs at least as many keys as queries, got {k.shape[-2]} keys for "
            f"{q.shape[-2]} queries."
        )


def as_mask(xp: ArrayModule, mask: TensorLike | None) -> Array | None:
    """The mask as an array.

    Raises:
        DTypeError: it holds integers.
    """
    if mask is None:
        return None
    array: Array = xp.asarray(array_of(OP, mask))
    if array.dtype.kind in "iu":
        raise DTypeError(
            f"{OP}: mask must be boolean (True where a query sees a key) or floating-point "
            f"numbers to add, got {array.dtype}. Use mask != 0."
        )
    return array


def repeated_mask(xp: ArrayModule, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The mask as a view of the scores' ``shape``, (..., T, S).

    Raises:
        ShapeError: it does not broadcast to that shape.
    """
    if mask is None:
        return None
    try:
        return xp.broadcast_to(mask, shape)
    except ValueError:
        raise ShapeError(
            f"{OP}: mask of shape {mask.shape} does not broadcast to the scores' shape {shape}."
        ) from None
