"""Token ids, positions and masks as users give them: arrays, nested lists or Tensors."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.backend import Array, array_module, is_array, module_for
from tinygrad_llm.errors import DTypeError, ShapeError
from tinygrad_llm.nn.kv_cache import KVCache


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


def positions_of(x: Tensor, cache: KVCache | None, given: TensorLike | None, limit: int) -> Array:
    """The position numbers of x (B, T, C), (T,) or (B, T): as given, or following on the cache's.

    Raises:
        ShapeError: a number is not below ``limit``, the context length.
    """
    xp, n_new = array_module(x.data), x.shape[1]
    if given is not None:
        positions = xp.asarray(given.data if isinstance(given, Tensor) else given)
        _check_positions(positions, limit)
        return positions
    end = n_new + (0 if cache is None else cache.length)
    shift = 0 if cache is None or cache.padding is None else int(cache.padding.min())
    if end - shift > limit:
        raise ShapeError(
            f"GPT: {end - shift} positions are more than context_length={limit}. Give the "
            f"last {limit} tokens only (ids[:, -{limit}:]), or build a model with a longer "
            "context."
        )
    return xp.arange(n_new) if cache is None else cache.positions(n_new)


def as_mask(mask: TensorLike, device: str) -> Array:
    """The mask as an array that broadcasts to (B, H, T, S).

    Raises:
        ShapeError: it has neither two axes nor four.
    """
    array = module_for(device).asarray(mask.data if isinstance(mask, Tensor) else mask)
    if array.ndim not in (2, 4):
        raise ShapeError(f"GPT: mask must have shape (B, S) or (B, H, T, S), got {array.shape}.")
    return array[:, None, None, :] if array.ndim == 2 else array


def _check_positions(positions: Array, limit: int) -> None:
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
