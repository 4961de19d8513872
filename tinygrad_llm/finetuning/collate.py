"""From lists of token ids to arrays: truncation, padding, buckets of like length, packing.

Padding stands on the right. In a causal model a position sees only itself and those before it, so
no real token ever looks at a pad token, and no attention mask is needed: the hidden states of the
real tokens are the same as without padding. What must be right is where the answer is read: at
the last *real* token of each row, not in the last column.

    row 0:   I  am  here  .  .        length 3: read at column 2
    row 1:   Win a  free  prize !     length 5: read at column 4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError, DataError

IGNORE = -100  # a target that does not count; the default of cross_entropy
Row = Sequence[int]


def room_for(need: int, limit: int, few_shapes: bool) -> int:
    """How long an axis of a batch is made that must hold ``need``.

    As long as that, which is the least to compute. With ``few_shapes`` the next power of two, at
    most ``limit``: some steps then have batches of one shape, and can be replays of one recording.
    """
    return min(1 << (need - 1).bit_length(), limit) if few_shapes else need


def truncate(row: Row, max_length: int, keep: str = "start") -> list[int]:
    """At most ``max_length`` tokens: the first ones, or with ``keep="end"`` the last ones.

    Raises:
        ConfigError: max_length below 1, or keep is neither "start" nor "end".
    """
    if max_length < 1 or keep not in ("start", "end"):
        raise ConfigError(
            "truncate: expected max_length of at least 1 and keep 'start' or 'end', got "
            f"{max_length} and {keep!r}."
        )
    return list(row[:max_length] if keep == "start" else row[-max_length:])


def pad(rows: Sequence[Row], fill: int, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths as one array, filled up on the right.

    Args:
        rows: B lists of ids.
        fill: the id (or the target) that stands in the empty places.
        length: columns T; by default those of the longest row, which wastes the least.

    Returns:
        ids (B, T) int64 and lengths (B,) int64.

    Raises:
        DataError: no rows, an empty row, or a row longer than ``length``.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if not len(lengths) or lengths.min() == 0:
        raise DataError(f"pad: every row needs at least one token, got lengths {lengths.tolist()}.")
    columns = int(lengths.max()) if length is None else length
    if lengths.max() > columns:
        raise DataError(
            f"pad: a row has {lengths.max()} tokens, more than length={columns}. Shorten it with "
            "truncate()."
        )
    out = np.full((len(rows), columns), fill, dtype=np.int64)  # (B, T)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out, lengths


def last_real(lengths: Array) -> Array:
    """Column of the last real token of each right-padded row: (B,)."""
    return lengths - 1


def buckets(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int,
    generator: Generator | None = None,
    pool: int = 0,
) -> list[np.ndarray]:
    """Which rows go into which batch, so that rows of like length share one.

    The rows are shuffled, so many of them as make ``pool`` batches are sorted by length and cut
    into batches, then the next; in the end the batches are shuffled. A larger pool saves more
    padding. But length often tells something about the answer (spam is longer than ham), and then
    large pools make batches that are all of one kind, from which a model learns badly.

    Args:
        lengths: tokens of each row.
        batch_size: rows in a batch.
        generator: for the shuffles; None for none, where the order does not matter.
        pool: batches that are sorted together; 0 for all.

    Returns:
        arrays of row numbers; every row is in exactly one.

    Raises:
        ConfigError: batch_size below 1, or pool below 0.
    """
    if batch_size < 1 or pool < 0:
        raise ConfigError(
            f"buckets: expected batch_size of at least 1 and pool of at least 0, got {batch_size} "
            f"and {pool}."
        )
    sizes = np.asarray(lengths)
    order = np.arange(len(sizes)) if generator is None else generator.permutation(len(sizes))
    together = pool * batch_size or len(sizes)
    batches = []
    for start in range(0, len(order), together):
        part = order[start : start + together]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    if generator is None:
        return batches
    return [batches[i] for i in generator.permutation(len(batches))]


@dataclass(frozen=True)
class Packed:
    """Several examples in each row, none of which sees another.

    Attributes:
        ids, targets: (B, T); places without an example have the fill id and the target IGNORE.
        positions: (B, T), counted from the start of each example.
        mask: boolean (B, 1, T, T), True where a query may see a key: within one example.
    """

    ids: Array
    targets: Array
    positions: Array
    mask: Array


def pack(
    inputs: Sequence[Row], targets: Sequence[Row], length: int, fill: int, few_shapes: bool = False
) -> Packed:
    """Put short examples side by side into rows of ``length`` tokens: first fit, longest first.

    With the mask and the positions, the loss equals that of the examples one by one. With
    ``few_shapes`` there may be empty rows, see `room_for`.

    Raises:
        DataError: no examples, or one that is longer than a row.
    """
    rows = _first_fit([len(row) for row in inputs], length)
    shape = (room_for(len(rows), len(inputs), few_shapes), length)
    ids, wanted = np.full(shape, fill, np.int64), np.full(shape, IGNORE, np.int64)
    positions, owner = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    for b, members in enumerate(rows):
        start = 0
        for i in members:
            place = slice(start, start + len(inputs[i]))
            ids[b, place], wanted[b, place] = inputs[i], targets[i]
            positions[b, place], owner[b, place] = np.arange(len(inputs[i])), i
            start += len(inputs[i])
    same = owner[:, :, None] == owner[:, None, :]  # (B, T, T); unused places see each other
    return Packed(ids, wanted, positions, same[:, None])


def _first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Row by row the numbers of the examples in it."""
    if not lengths or max(lengths) > room or min(lengths) < 1:
        raise DataError(
            f"pack: needs examples of 1 to {room} tokens, got "
            f"{f'lengths {min(lengths)} .. {max(lengths)}' if lengths else 'none'}."
        )
    rows: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        row = next((r for r, free in enumerate(left) if free >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows
