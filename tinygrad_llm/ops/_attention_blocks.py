"""How attention is cut up: blocks of query rows, groups of heads; what is hidden and dropped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import each, empty, matmul_of_block
from tinygrad_llm.backend.random import Key, default_generator, drop_threshold, hash_counters
from tinygrad_llm.backend.threads import even_parts
from tinygrad_llm.ops._attention_inputs import with_two_batch_axes
from tinygrad_llm.ops.dropout import check_probability

BLOCK_ROWS = 64
GROUP = 1 << 17  # scores computed at a time, about: as many heads as the cache has room for


@dataclass(frozen=True)
class Settings:
    """What besides q, k and v determines the result.

    Attributes:
        scale: factor of the scores, usually 1 / sqrt(D).
        causal: query i sees keys 0 .. i + S - T only.
        mask: None, or True where a query sees a key, or numbers to add; (B, H, T, S).
        dropout_p: probability of dropping a probability.
        key: of the random bits.
        number: (B, H) the number of each head in the whole batch, for the random bits.
    """

    scale: float
    causal: bool = False
    mask: Array | None = None
    dropout_p: float = 0.0
    key: Key = (0, 0)
    number: Array | None = None

    def part(self, group: tuple[slice, slice]) -> Settings:
        """The settings of some batches and heads."""
        mask, number = self.mask, self.number
        return replace(
            self,
            mask=None if mask is None else mask[group],
            number=None if number is None else number[group],
        )


def headwise(
    xp: ArrayModule,
    function: Callable[..., None],
    ins: Sequence[Array],
    settings: Settings,
    outs: Sequence[Array | None],
) -> None:
    """Call ``function(xp, *ins, settings, *outs)`` on groups of heads, on all threads.

    Args:
        function: fills the outs of some batches and heads.
        ins: q (B, H, T, D), k (B, H, S, D) and other arrays (B, H, ...).
        settings: those of the whole batch.
        outs: arrays (B, H, ...); None for what is not wanted.
    """
    q, k = ins[:2]
    groups = head_groups(xp, q.shape, k.shape[-2])
    if len(groups) == 1:
        function(xp, *ins, settings, *outs)
        return

    def group(i: int) -> None:
        part = groups[i]
        own = [None if a is None else a[part] for a in outs]
        function(xp, *[a[part] for a in ins], settings.part(part), *own)

    each(xp, group, len(groups))


def head_groups(
    xp: ArrayModule, q_shape: tuple[int, ...], n_keys: int
) -> list[tuple[slice, slice]]:
    """Slices of (B, H) that are computed at a time; on a GPU everything at once."""
    b, h, t, _ = q_shape
    at_once = max(1, GROUP // max(1, min(t, BLOCK_ROWS) * n_keys)) if xp is np else max(1, b * h)
    return [
        (batches, heads)
        for batches in even_parts(b, max(1, at_once // max(1, h)))
        for heads in even_parts(h, min(h, at_once))
    ]


def blocks(n_queries: int, n_keys: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of query rows, each with the keys that some row of it sees."""
    for start in range(0, n_queries, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n_queries)
        yield slice(start, stop), slice(0, stop + n_keys - n_queries if causal else n_keys)


def masked_scores(
    xp: ArrayModule, scaled_q: Array, k: Array, rows: slice, seen: slice, s: Settings
) -> Array:
    """scale q k^T for some rows (b, h, t, n), with -inf where a query may not look."""
    n_rows = rows.stop - rows.start
    x = empty(xp, (*scaled_q.shape[:-1], seen.stop), scaled_q.dtype)
    matmul_of_block(xp, scaled_q, k[..., seen, :].swapaxes(-1, -2), out=x)
    if s.causal:  # all but the last n_rows columns are visible to every row of the block
        x[..., seen.stop - n_rows :] += upper_triangle(xp, n_rows, x.dtype)
    if s.mask is not None:
        part = s.mask[..., rows, seen]
        if part.dtype != bool:
            x += part
        else:
            x[...] = xp.where(part, x, x.dtype.type(-xp.inf))
    return x


def upper_triangle(xp: ArrayModule, n: int, dtype: np.dtype) -> Array:
    """(n, n): -inf above the diagonal, 0 elsewhere."""
    return _numpy_triangle(n, dtype) if xp is np else _triangle(xp, n, dtype)


def _triangle(xp: ArrayModule, n: int, dtype: np.dtype) -> Array:
    return xp.where(xp.tri(n, dtype=bool), 0, -xp.inf).astype(dtype)


@lru_cache(maxsize=16)
def _numpy_triangle(n: int, dtype: np.dtype) -> np.ndarray:
    return _triangle(np, n, dtype)


def drop(xp: ArrayModule, x: Array, rows: slice, n_queries: int, n_keys: int, s: Settings) -> None:
    """Dropout on a block (b, h, t, n), in place; counters as for the whole (B, H, T, S)."""
    if s.number is None:
        return
    if s.dropout_p == 1:
        x[...] = 0
        return
    row = s.number[..., None] * n_queries + xp.arange(rows.start, rows.stop)  # (b, h, t)
    counter = row[..., None] * n_keys + xp.arange(x.shape[-1])  # (b, h, t, n)
    bits = hash_counters(xp, counter.astype(xp.uint32), s.key)
    x *= bits >= xp.uint32(drop_threshold(s.dropout_p))
    x *= x.dtype.type(1 / (1 - s.dropout_p))


def make_settings(
    op: str,
    xp: ArrayModule,
    q: Array,
    scale: float | None,
    causal: bool,
    mask: Array | None,
    dropout_p: float,
    key: Key | None,
) -> Settings:
    """Checked settings for q (B, H, T, D)."""
    p = check_probability(op, dropout_p)
    scale = default_scale(q) if scale is None else float(scale)
    mask = None if mask is None else with_two_batch_axes(mask)
    if not p:
        return Settings(scale, causal, mask)
    b, h = q.shape[:2]
    number = xp.arange(b * h, dtype=xp.int64).reshape(b, h)
    return Settings(scale, causal, mask, p, key or default_generator().next_key(), number)


def default_scale(q: Array | Tensor) -> float:
    """1 / sqrt(D) for q (..., D), which keeps scores of a normal q and k at variance 1."""
    return 1 / math.sqrt(max(q.shape[-1], 1))
