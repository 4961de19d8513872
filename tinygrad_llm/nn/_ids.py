"""Token ids as users give them: arrays, nested lists or Tensors of integers."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.errors import DTypeError, ShapeError


def batch_of_ids(owner: str, name: str, ids: TensorLike) -> Array:
    """The integers as an array (B, T). Their range is checked by the op that uses them.

    Raises:
        ShapeError: rows of different lengths, not two axes, or no element.
        DTypeError: not integers.
    """
    array = array_of(owner, ids)
    if not is_array(array):
        try:
            array = np.asarray(array)
        except ValueError as error:
            raise ShapeError(
                f"{owner}: the rows of {name} have different lengths. Pad them to one length "
                "(tg.nn.left_pad does it for generation)."
            ) from error
    if array.ndim != 2 or not array.size:
        hint = " Give one row as [row]." if array.ndim == 1 and array.size else ""
        raise ShapeError(
            f"{owner}: {name} must have shape (B, T) with at least one element, got "
            f"{array.shape}.{hint}"
        )
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{owner}: {name} must be integers, got {array.dtype}.")
    return array


def check_positions(positions: Array, limit: int) -> None:
    """Raise a ShapeError unless all position numbers are in 0 .. limit - 1.

    On a GPU nothing is checked: reading the answer back would make every step wait.
    """
    if not isinstance(positions, np.ndarray) or not positions.size:
        return
    low, high = int(positions.min()), int(positions.max())
    if low < 0 or high >= limit:
        raise ShapeError(
            f"GPT: position {low if low < 0 else high} is outside 0 .. {limit - 1} "
            f"(context_length={limit})."
        )
