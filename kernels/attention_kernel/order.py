"""In which order the forward kernel of attention takes its blocks of queries.

The last queries of a causal sequence see the most keys, so its blocks differ in work, and programs
start in the order of their numbers. Head after head, the long blocks of the last heads would begin
when most programs are done; here the longest blocks of many heads come first, and the short ones
fill what is left at the end (longest processing time first; Graham, "Bounds on multiprocessing
timing anomalies", 1969). Only so many heads go together as the L2 cache holds keys and values of.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._types import Array

CACHED_BYTES = 16 << 20  # of keys and values: less than half of the L2 cache of an A100 or an H100


@triton.jit
def nth_block(place, parts, batch_heads, together):
    """(part, batch_head) at a place of the order; part counts along a head, batch_head = b H + h.

    parts: blocks of queries of a head, times chunks of columns; batch_heads: B H; together: heads
    of a group. Groups come one after the other, and in each the last part of every head, then the
    one before it, and so on.
    """
    group = place // (parts * together)
    inside = place - group * parts * together
    heads = tl.minimum(together, batch_heads - group * together)  # the last group may have fewer
    return parts - 1 - inside // heads, group * together + inside % heads


@triton.jit
def there_and_back(begin, program, programs):
    """The place that a program takes in the round of places begin..begin + programs.

    Every other round goes backwards, so that no program has the longest block of each.
    """
    back = begin // programs % 2 == 1
    return begin + tl.where(back, programs - 1 - program, program)


def heads_together(q: Array, k: Array) -> int:
    """How many heads of a causal batch q (B, H, T, D), k (B, H, S, D) go side by side."""
    batch_heads, one = q.shape[0] * q.shape[1], 2 * k.shape[2] * k.shape[3] * k.itemsize
    return max(1, min(batch_heads, CACHED_BYTES // max(one, 1)))
