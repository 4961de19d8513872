"""The keys and values of positions that were already computed, for generation.

Without it, each new token costs a pass over the whole text so far. With it, a pass over the one
new token, whose query is compared with the kept keys. The arrays are allocated once, for
``max_length`` positions, and filled from the left.

Prompts of different lengths stand in one batch with padding on their left, so that all of them
end, and go on, at the same column:

    padding 2:   _  _  I  am          positions  0 0 0 1
    padding 0:   You are not he                  0 1 2 3

`KVCache` then supplies the position numbers, which count from the first real token, and the mask
that hides the padded keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, array_module, module_for, to_device
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype
from tinygrad_llm.checks import check_size
from tinygrad_llm.errors import ConfigError, GraphError, ShapeError

T = TypeVar("T", Tensor, Array)


class LayerCache:
    """Keys and values (B, H, max_length, D) of one layer; ``length`` positions are filled.

    An attention of one's own may keep other heads than the model's configuration says (a few that
    are shared, or wider ones): what is first put into an empty cache decides H and D.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype, device: str) -> None:
        xp = module_for(device)
        self.keys = to_device(xp.zeros(shape, dtype), device)
        self.values = to_device(xp.zeros(shape, dtype), device)
        self.length = 0

    def append(self, k: T, v: T) -> tuple[T, T]:
        """Add k, v (B, H, T, D), arrays or Tensors, behind what is there.

        Returns:
            all keys and all values so far, (B, H, S, D), of the kind that was given: views.

        Raises:
            ShapeError: no room is left, or the shape does not fit.
            GraphError: k or v require a gradient, which does not go through a cache.
        """
        if isinstance(k, Tensor) and isinstance(v, Tensor):
            if k.requires_grad or v.requires_grad:
                raise GraphError(
                    "KVCache: no gradient goes through a cache. Use it inside `with "
                    "tg.no_grad():`, or train on whole sequences without one."
                )
            keys, values = self.append(k.data, v.data)
            return Tensor(keys), Tensor(values)
        self._fit(k)
        batch, n_head, room, size = self.keys.shape
        start, end = self.length, self.length + k.shape[2]
        if end > room:
            raise ShapeError(
                f"KVCache: {end} positions do not fit into max_length={room}. Make the cache "
                "larger, or drop the oldest tokens and fill a new one."
            )
        if k.shape != v.shape or (k.shape[0], k.shape[1], k.shape[3]) != (batch, n_head, size):
            raise ShapeError(
                f"KVCache: expected keys of shape ({batch}, {n_head}, T, {size}) and values alike, "
                f"got {k.shape} and {v.shape}. Make the cache with this model's new_cache(batch)."
            )
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _fit(self, k: Array) -> None:
        """Give an empty cache the heads of the first keys."""
        batch, n_head, room, size = self.keys.shape
        if self.length or k.ndim != 4 or (k.shape[1], k.shape[3]) == (n_head, size):
            return
        xp = array_module(self.keys)
        shape = (batch, k.shape[1], room, k.shape[3])
        self.keys, self.values = (xp.zeros(shape, self.keys.dtype) for _ in range(2))


class KVCache:
    """One `LayerCache` per block, and where each row's text begins.

    Args:
        n_layer: number of blocks.
        batch: number of rows B.
        n_head: heads H per layer.
        max_length: positions to make room for.
        head_size: width D of a head.
        dtype, device: of the arrays.
        padding: for each row the number of padded columns on its left; None for none.

    Raises:
        ConfigError: a size is not a positive integer, or ``padding`` has not one number per row.
    """

    def __init__(
        self,
        n_layer: int,
        batch: int,
        n_head: int,
        max_length: int,
        head_size: int,
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        padding: Sequence[int] | Array | None = None,
    ) -> None:
        self.batch = check_size("KVCache", "batch", batch)
        self.max_length = check_size("KVCache", "max_length", max_length)
        shape = (batch, n_head, max_length, head_size)
        self.layers = [LayerCache(shape, as_dtype(dtype), device) for _ in range(n_layer)]
        self.padding = None if padding is None else _check_padding(padding, batch, device)

    @property
    def length(self) -> int:
        """Number of columns filled, padded ones included."""
        return self.layers[-1].length

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def truncate(self, length: int) -> None:
        """Keep the first ``length`` columns, forget the rest; 0 empties the cache.

        Raises:
            ConfigError: fewer are filled.
        """
        if not 0 <= length <= self.length:
            raise ConfigError(
                f"KVCache.truncate: length must be from 0 to {self.length}, got {length}."
            )
        for layer in self.layers:
            layer.length = length

    def select_rows(self, rows: Sequence[int] | Array) -> KVCache:
        """A copy with the given rows of the batch, in that order; a row may come repeatedly.

        For beam search, and to go on with the rows that have not ended.
        """
        other = object.__new__(KVCache)
        other.batch, other.max_length, other.layers = len(rows), self.max_length, []
        index = array_module(self.layers[0].keys).asarray(rows)
        other.padding = None if self.padding is None else self.padding[index]
        for layer in self.layers:
            copy = object.__new__(LayerCache)
            copy.keys, copy.values = layer.keys[index], layer.values[index]
            copy.length = layer.length
            other.layers.append(copy)
        return other

    def positions(self, n_new: int) -> Array:
        """Position numbers of the next ``n_new`` columns: (T,), or (B, T) with padding."""
        xp = array_module(self.layers[0].keys)
        columns = xp.arange(self.length, self.length + n_new)  # (T,)
        if self.padding is None:
            return columns
        return xp.maximum(columns - self.padding[:, None], 0)  # (B, T)

    def mask(self, n_new: int) -> Array | None:
        """Which keys the next ``n_new`` columns may see: (B, 1, 1, S), or None for all."""
        if self.padding is None:
            return None
        xp = array_module(self.padding)
        columns = xp.arange(self.length + n_new)  # (S,)
        return (columns >= self.padding[:, None])[:, None, None, :]


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Prompts of different lengths as one array, with ``pad_id`` on the left of the shorter ones.

    Returns:
        ids (B, T) and padding (B,), the number of padded columns per row, for `KVCache`.

    Raises:
        ShapeError: there is no prompt, or one is empty.
    """
    lengths = [len(p) for p in prompts]
    if not lengths or min(lengths) == 0:
        raise ShapeError(f"left_pad: every prompt needs at least one token, got lengths {lengths}.")
    ids = np.full((len(prompts), max(lengths)), pad_id, np.int64)
    for row, prompt in zip(ids, prompts, strict=True):
        row[len(row) - len(prompt) :] = prompt
    return ids, max(lengths) - np.array(lengths)


def _check_padding(padding: Sequence[int] | Array, batch: int, device: str) -> Array:
    array = to_device(np.asarray(padding), device)
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise ConfigError(
            f"KVCache: padding must be one integer for each of the {batch} rows, got "
            f"shape {array.shape} of type {array.dtype}."
        )
    return array
